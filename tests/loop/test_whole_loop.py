"""Once through the loop, by command: what a win, a loss and an open question leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loop_world import LENIENT, World

from draftsmith.phases.pipeline import PIPELINE

# Three blocks with servers of their own, judged at a confidence that a noisy machine can reach.
VERDICT: dict[str, Any] = {
    "blocks": 3,
    "prompts": 7,  # three blocks of it give the twenty requests that the tails and guards need
    "general_prompts": 14,  # asked twice; some of the answers are one token long and give no time per token
    "thresholds": LENIENT | {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8},
}


def fake(**settings: Any) -> str:
    return json.dumps({"step_ms": 12, **settings})


@pytest.mark.timed
def test_a_win_is_promoted_recorded_proved_and_can_be_taken_back(world: World) -> None:
    world.configure(compare=VERDICT)
    said = world.run(FAKE_VLLM=fake()).stdout
    assert "verdict  WIN (tier verdict)" in said, said
    assert [e["phase"] for e in world.events() if e["kind"] == "phase_done"] == list(PIPELINE)

    standing = world.standing()
    assert (standing["method"], standing["num_speculative_tokens"]) == ("eagle3", 3)
    draft = Path(standing["model"])
    assert draft.parent == world.workspace / "drafts", "what serves does not depend on the run's folder"
    assert (draft / "draft-manifest.json").is_file()
    kinds = [e["kind"] for e in world.events() if e["phase"] == "promote"]
    assert kinds == ["intent", "effect", "phase_done"]

    state = world.state()
    assert state["schema"] == "specdec_service_v1"
    assert (state["standing_config"], state["champion_draft"]) == (standing, str(draft))
    assert state["last_ab_verdict"] == "WIN"
    assert state["last_profile_sha256"] == world.done("profile")["result"]["outputs"]["profile_sha256"]
    assert [entry["event"] for entry in state["history"]] == ["promoted"]

    bundle = world.done("publish")["result"]["outputs"]["bundle"]
    verified = json.loads(world.call_plain("verify", bundle, "--json").stdout)
    assert verified["ok"] is True
    assert verified["verdict_matches"] is True
    evidence = "".join(p.read_text(errors="replace") for p in Path(bundle).rglob("*") if p.is_file())
    assert str(world.base) not in evidence, "no path of this machine in the evidence"
    assert world.text_of_traffic().isdisjoint(evidence.split('"')), "no prompt and no answer in the evidence"
    hidden = list(world.folder().glob("phases/capture/**/*.safetensors"))
    assert hidden == [], "hidden states are deleted after the training"

    world.call("rollback")
    assert world.standing() is None
    assert world.state()["champion_draft"] is None
    assert [entry["event"] for entry in world.state()["history"]] == ["promoted", "rolled_back"]
    again = world.call("rollback", code=4)
    assert "no promotion to roll back" in again.stderr


@pytest.mark.timed
def test_a_slow_draft_loses_and_the_standing_configuration_stays(world: World) -> None:
    standing = world.workspace / "standing.json"
    world.configure(compare=VERDICT | {"restart_every": 0}, serving={"config_file": str(standing)})
    said = world.run(FAKE_VLLM=fake(acceptance={"eagle3": 0.3}, step_cost={"eagle3": 3.0})).stdout
    assert "verdict  LOSS" in said
    assert "promote  ok   standing configuration kept: eagle3-k3" in said
    assert not standing.exists(), "nothing was written where the server reads"
    state = world.state()
    assert (state["standing_config"], state["last_ab_verdict"]) == (None, "LOSS")
    [entry] = state["history"]
    assert (entry["event"], entry["outcome"]) == ("kept", "LOSS")
    assert world.counted()["intent", "promote"] == 0
    explained = world.call("explain").stdout
    assert "eagle3-k3 against standing" in explained
    assert "0." in explained


def test_one_block_proves_nothing_and_the_same_request_again_repeats_nothing(world: World) -> None:
    said = world.run().stdout
    assert "INCONCLUSIVE (tier draft)" in said
    assert world.standing() is None
    assert world.state()["last_ab_verdict"] == "INCONCLUSIVE"
    before = world.counted()
    assert all(before["submitted", phase] == 1 for phase in PIPELINE if phase != "promote")

    answer = json.loads(world.run("--json").stdout)
    assert answer["verdict"]["outcome"] == "INCONCLUSIVE"
    assert world.counted() == before, "nothing was started, and nothing written"
    assert len(world.runs()) == 1

    world.call("status")
    world.log.write_text(world.log.read_text().split("\n", 1)[1])
    world.call("corpus")
    assert len(world.runs()) == 2, "other traffic is another run"


def test_an_operator_who_says_no_is_asked_again_later(world: World) -> None:
    declined = world.call("run", code=7)
    assert "stopped before corpus, which waits for your yes" in declined.stderr
    assert "same command" in declined.stderr
    assert world.counted()["submitted", "corpus"] == 0
    world.call("corpus")
    assert world.counted()["submitted", "profile"] == 1, "what was done stays done"
    assert world.counted()["submitted", "corpus"] == 1


@pytest.mark.parametrize("settings", [{"min_position0": 0.9}])
def test_a_draft_that_learned_nothing_is_not_measured(world: World, settings: dict[str, Any]) -> None:
    world.configure(trainer=settings)
    said = world.run(code=6)
    assert "train    STOP" in said.stdout
    assert world.counted()["submitted", "compare"] == 0
    assert world.standing() is None
    [why] = [line for line in said.stdout.splitlines() if line.startswith("stopped at the gate")]
    assert "acceptance" in why
    assert said.stdout.index(why) < said.stdout.index("\nnext "), "the last words are what to try"
