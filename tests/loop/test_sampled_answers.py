"""Traffic is sampled. Its answers prove nothing of the states behind them, so the engine is asked what it thinks of each token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loop_world import World

SAMPLED = {"temperature": 0.7, "top_p": 0.95}


def rewrite(world: World, **changed: Any) -> None:
    """Other sampling parameters in the log; with `completion=None` and the ids gone its answers are made anew."""
    lines = [json.loads(line) for line in world.log.read_text().rstrip("\n").split("\n")]
    for value in lines:
        limit = value["params"]["max_tokens"]
        value |= {"params": {"max_tokens": limit, **SAMPLED}} | changed
    world.log.write_text("".join(json.dumps(value) + "\n" for value in lines))


def proofs(world: World) -> dict[str, int]:
    found: dict[str, int] = world.done("capture")["result"]["figures"]["probe"]["figures"]
    return found


def test_sampled_answers_of_the_log_are_proved_by_log_probabilities(world: World) -> None:
    rewrite(world)
    world.call("capture")
    assert proofs(world)["greedy"] == 0
    assert proofs(world)["told"] >= 10
    assert list(world.folder().glob("phases/capture/states/incoming/*")) == [], "what was saved meanwhile is gone"


def test_so_are_those_that_were_captured_while_they_were_answered(world: World) -> None:
    rewrite(world, output_token_ids=None, prompt_token_ids=None, completion=None, finish_reason=None, usage={})
    world.call("capture")
    assert world.done("corpus")["result"]["figures"]["regenerated"] == 80
    assert world.done("capture")["result"]["figures"]["captured_rows"] == 0
    assert proofs(world)["told"] >= 10


def test_greedy_answers_prove_themselves_and_start_no_server(world: World) -> None:
    none = {"output_token_ids": None, "prompt_token_ids": None, "completion": None, "finish_reason": None, "usage": {}}
    rewrite(world, **none, params={"max_tokens": 16})
    world.call("capture")
    assert proofs(world)["told"] == 0, (
        "a prompt that says nothing of its sampling was answered greedily, and that is kept"
    )
    assert not list(world.folder().glob("phases/capture/servers/*.log"))


@pytest.mark.parametrize("shift", [0, 1])
def test_the_real_probe_believes_right_states_and_stops_at_wrong_ones(shift: int, tmp_path: Path) -> None:
    """One layer too high everywhere but at the end: training would look healthy."""
    world = World(tmp_path, requests=40)
    world.env.pop("FAKE_PROBE")
    rewrite(world)
    done = world.call("capture", code=5 if shift else 0, FAKE_VLLM=json.dumps({"state_shift": shift}))
    if shift:
        assert "the capture is wrong" in done.stderr
        assert "it is layer 3" in done.stderr
        assert world.counted()["phase_done", "capture"] == 0
        return
    checks = {check["name"]: check for check in world.done("capture")["result"]["figures"]["probe"]["checks"]}
    assert {"log probabilities", "log probability shift", "layer 2", "layer 8"} <= set(checks)
    assert "answers" not in checks
    assert all(check["passed"] for check in checks.values())
