"""What holds for every test: which tests share a worker, and which have the machine to themselves."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# A story starts dozens of interpreters: each would compile the package anew where this is set, and each run all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# These run against real clocks, processes and schedulers: on a busy machine one in some hundreds fails by time alone.
REAL_TIME = {"story", "engine", "slurm"}


def pytest_configure(config: pytest.Config) -> None:
    """The marks of two plugins: without xdist or rerunfailures they say nothing, and must not end the collection."""
    config.addinivalue_line("markers", "xdist_group(name): these tests run on one worker")
    config.addinivalue_line("markers", "flaky(reruns): tried once more")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` a file stays on one worker: its fixtures are made once, and no two files share a folder."""
    for item in items:
        if item.path.parent.name == "loop":
            item.add_marker(pytest.mark.story)
        if REAL_TIME & {mark.name for mark in item.iter_markers()} and "CI" in os.environ:
            item.add_marker(pytest.mark.flaky(reruns=1))  # shown as `rerun` in the closing line
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
    if "PYTEST_XDIST_WORKER" in os.environ:
        rank = {path: min(map(_rank, those)) for path, those in _by_file(items).items()}
        items.sort(key=lambda item: rank[item.path])  # stable: the files keep their order among their like


def _by_file(items: list[pytest.Item]) -> dict[Path, list[pytest.Item]]:
    found: dict[Path, list[pytest.Item]] = {}
    for item in items:
        found.setdefault(item.path, []).append(item)
    return found


def _rank(item: pytest.Item) -> int:
    """What needs the machine to itself comes first, in one go; then the long stories; then what fills the gaps at the end."""
    if any(item.get_closest_marker(name) for name in ("engine", "slurm")):
        return 0
    return 1 if item.get_closest_marker("story") else 2


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A real engine and a real Slurm need the whole machine: no test of another worker runs beside theirs."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with _machine(alone=any(item.get_closest_marker(name) for name in ("engine", "slurm"))):
        return (yield)


@contextmanager
def _machine(alone: bool) -> Iterator[None]:
    """Shared with other workers, or alone. Who waits holds the door, so that others cannot pass it for ever."""
    base = Path(tempfile.gettempdir()) / f"draftsmith-tests-{os.getuid()}"  # two empty files, for all runs of this user
    base.mkdir(mode=0o700, exist_ok=True)
    with (base / "door").open("w") as door, (base / "machine").open("w") as machine:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
