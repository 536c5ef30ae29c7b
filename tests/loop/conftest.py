"""Worlds: an operator's folder, and one that went through the whole loop, kept as it was after every phase."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_world import Snapshot, Travelled, World, wait_for

PHASES = ("profile", "corpus", "capture", "train", "compare", "publish")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    wait_for(lambda: not made.alive(), "what was started to end: nothing outlives its command", 30)


@pytest.fixture(scope="session")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Travelled]:
    """Each phase by its own command where there is one, so that the workspace can be kept between them."""
    base = tmp_path_factory.mktemp("travelled")
    world = World(base / "world")
    found = Travelled(world, base)
    world.workspace.mkdir(mode=0o700)
    before = Snapshot(world, base / "profile")
    found.before["profile"] = found.before["corpus"] = before  # the first two come from nothing
    for command, following in (
        ("corpus", "capture"),
        ("capture", "train"),
        ("train", "compare"),
        ("promote", "publish"),
    ):
        world.call(command)
        found.before[following] = Snapshot(world, base / following)
    world.run()
    found.results = {phase: world.done(phase)["result"] for phase in PHASES}
    found.before["end"] = Snapshot(world, base / "end")
    yield found
    world.close()
