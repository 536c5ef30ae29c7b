"""The stories' commands are forks. What such a command says, and how it ends, is what one started from nothing says."""

from __future__ import annotations

import subprocess

import pytest
from loop_world import World, commander


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--json"), ("corpus", "--set", "engine.host=192.0.2.1"), ("nonsense",)]
)
def test_a_fork_ends_as_a_program_started_from_nothing(words: tuple[str, ...], world: World) -> None:
    environment = world.environment({"COLUMNS": "100"})
    forked = commander().call([*words, "--config", str(world.file)], environment)
    afresh = subprocess.run(
        world.command(*words), env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert forked.returncode == afresh.returncode
    assert forked.stdout == afresh.stdout
    assert forked.stderr == afresh.stderr.replace("python -m draftsmith", "draftsmith")
