"""What holds for every test: which tests share a worker, and which have the machine to themselves."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distribution import scope

# A story starts dozens of interpreters: each would compile the package anew where this is set, and each run all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# These run against real clocks, processes and schedulers: on a busy machine one in some hundreds fails by time alone.
REAL_TIME = {"story", "engine", "slurm"}


def pytest_configure(config: pytest.Config) -> None:
    """The mark of a plugin: without rerunfailures it says nothing, and must not end the collection."""
    config.addinivalue_line("markers", "flaky(reruns): tried once more")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in tests/loop, and orders the tests for several workers: see `distribution.py`."""
    for item in items:
        if item.path.parent.name == "loop":
            item.add_marker(pytest.mark.story)
        if REAL_TIME & _marks(item) and "CI" in os.environ:
            item.add_marker(pytest.mark.flaky(reruns=1))  # shown as `rerun` in the closing line
        for mark in {"engine", "slurm"} & _marks(item):
            if scope(item.nodeid) != mark:
                raise pytest.UsageError(
                    f"{item.nodeid} is marked {mark}: tests/fakes/distribution.py must know it by name"
                )
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_rank)  # stable: the files keep their order among their like


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests share a worker. The mark `xdist_group` would say it too, but xdist 3.8 does not see it under pytest 9.2."""
    from distribution import Together

    return Together(config, log)


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


def _rank(item: pytest.Item) -> int:
    """One worker takes the engine, one Slurm, which is mostly waited for; meanwhile the others take the stories, then what
    only computes. What measures times comes last: by then the engine has ended, and nobody waits for it."""
    marks = _marks(item)
    if "timed" in marks:
        return 4
    if "foreign" in marks:
        return 2  # waited for, like the stories
    return next((place for place, name in enumerate(("engine", "slurm", "story")) if name in marks), 3)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A real engine takes all cores, and some stories judge by the times they measure: none of those runs beside an engine."""
    marks = _marks(item)
    if "PYTEST_XDIST_WORKER" not in os.environ or not marks & {"engine", "timed"}:
        return (yield)
    with _machine(alone="engine" in marks):
        return (yield)


@contextmanager
def _machine(alone: bool) -> Iterator[None]:
    """Shared with others that measure, or alone. Who waits holds the door, so that others cannot pass it for ever."""
    base = Path(tempfile.gettempdir()) / f"draftsmith-tests-{os.getuid()}"  # two empty files, for all runs of this user
    base.mkdir(mode=0o700, exist_ok=True)
    with (base / "door").open("w") as door, (base / "machine").open("w") as machine:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
