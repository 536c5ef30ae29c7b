"""Each story gets a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Forker, containers_in
from loop_story import Begin, Story
from world import ClusterWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ClusterWorld]:
    made = ClusterWorld(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


@pytest.fixture
def begin(world: ClusterWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forker: Forker) -> Iterator[Begin]:
    """The beginning of a run in the world; its canaries are really served."""
    with containers_in(tmp_path, forker, step_ms=5, first_ms=4) as containers:
        yield lambda **settings: Story(world, containers, monkeypatch, **settings)
