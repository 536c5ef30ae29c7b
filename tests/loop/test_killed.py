"""kill -9 at any moment: nothing it started survives, and the same command comes to the same end without repeating itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from loop_world import Travelled, World, wait_for
from promotions import forget_promotion, make_it_a_win

from draftsmith.kit import processes

ORDER = ("profile", "corpus", "capture", "train", "compare", "publish")
# What the job shows while it is in the middle of its work, and settings that keep it there for a while.
MIDDLE = {
    "profile": (None, {}),
    "corpus": (None, {}),
    "capture": ("capturing hidden states", {"FAKE_VLLM": '{"first_ms": 1000}'}),
    "train": ("training", {"FAKE_TRAINER": '{"epoch_s": 60}'}),
    "compare": ("measuring", {"FAKE_VLLM": '{"step_ms": 15}'}),
    "publish": (None, {}),
}
SAME = {  # outputs that must not depend on the interruption
    "profile": "profile_sha256",
    "corpus": "rows_sha256",
    "train": "draft_sha256",
}


@pytest.mark.parametrize("phase", ORDER)
def test_killed_in_a_phase_the_same_command_ends_the_same(phase: str, travelled: Travelled) -> None:
    world = travelled.to(phase)
    stage, slow = MIDDLE[phase]
    driver = world.start("run", "--yes", **slow)
    try:
        wait_for(lambda: world.counted()["submitted", phase] or driver.poll() is not None, f"{phase} to start")
        if stage:
            wait_for(lambda: (in_it(world, phase, stage)) or driver.poll() is not None, f"{phase}: {stage}")
        assert driver.poll() is None
    finally:
        world.kill(driver)
    before = world.counted()
    assert before["phase_done", phase] == 0

    early = ORDER.index(phase) <= ORDER.index("train")
    world.call("train") if early else world.run()
    after = world.counted()
    assert after["submitted", phase] == 2, "what was cut off is done again"
    for other in ORDER[: ORDER.index(phase)]:
        assert after["submitted", other] == 1, f"{other} was finished and is not repeated"
    for done, name in SAME.items():
        made = world.done(done)["result"]["outputs"][name]
        assert made == travelled.results[done]["outputs"][name]  # type: ignore[index]
    assert len(world.runs()) == 1
    if not early:
        assert world.done("compare")["result"]["figures"]["outcome"] == "INCONCLUSIVE"
        assert world.counted()["finished", "publish"] == 1
    assert world.alive() == []


def in_it(world: World, phase: str, stage: str) -> bool:
    """In the middle: some of the work is done and some is not."""
    path = world.folder() / "phases" / phase
    if phase == "train":
        return bool(list(path.glob("training/train.log")))
    return world.stage(phase) == stage


@pytest.mark.parametrize("moment", ["before_switch", "after_switch", "after_state"])
def test_killed_between_intent_and_effect_a_promotion_is_completed_once(moment: str, travelled: Travelled) -> None:
    world = travelled.to("publish")
    make_it_a_win(world)
    forget_promotion(world)
    killer = Path(__file__).with_name("killed_in_promotion.py")
    code = world.program(str(killer), "promote", KILL_AT=moment)
    assert code == -signal.SIGKILL
    assert world.counted()["intent", "promote"] == 1
    assert world.counted()["phase_done", "promote"] == 0
    assert (world.standing() is None) == (moment == "before_switch")

    world.call("promote")
    standing = world.standing()
    assert standing["method"] == "eagle3"
    state = world.state()
    assert state["standing_config"] == standing
    assert [entry["event"] for entry in state["history"]] == ["promoted"], "once, however often it was begun"
    assert state["history"][0]["previous_config"] is None
    world.call("rollback")
    assert world.standing() is None


def test_a_promotion_decides_again_from_the_samples(travelled: Travelled) -> None:
    """A verdict that somebody wrote by hand promotes nothing."""
    world = travelled.to("publish")
    forget_promotion(world)
    verdict = Path(world.done("compare")["result"]["outputs"]["verdict"])
    told = {"outcome": "WIN", "tier": "verdict", "tier_reasons": [], "winner": "eagle3-k3"}
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | told))
    assert "does not follow from its samples" in world.call("promote").stdout
    assert world.standing() is None


def test_a_promotion_is_refused_if_something_else_serves_meanwhile(travelled: Travelled) -> None:
    world = travelled.to("publish")
    make_it_a_win(world)
    forget_promotion(world)
    other = {"method": "ngram", "num_speculative_tokens": 5}
    (world.workspace / "standing.json").write_text(json.dumps(other))
    refused = world.refused("promote", code=4)
    assert "not the one that was compared" in refused.stderr
    assert "compare again" in refused.stderr
    assert world.standing() == other
    assert world.state()["history"] == [], "nothing was switched, and nothing is said to have been"


def test_an_engine_killed_while_capturing_is_named_and_the_rest_is_captured_later(travelled: Travelled) -> None:
    world = travelled.to("capture")
    driver = world.start("train", FAKE_VLLM='{"first_ms": 1000}')
    states = world.folder() / "phases" / "capture" / "states"
    wait_for(lambda: len(list(states.glob("*.safetensors"))) >= 8 or driver.poll() is not None, "eight captured rows")
    kill_engine(world)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 5, said
    assert "went away" in said
    assert "killed (signal 9)" in said, "what ended it is named"
    assert "next:" in said
    captured = len(list(states.glob("*.safetensors")))
    assert captured >= 8
    world.call("train")
    figures = world.done("capture")["result"]["figures"]
    assert figures["captured_rows"] == figures["rows"] - captured, "only what was missing is asked for"


def test_an_engine_killed_while_measuring_is_started_once_more_and_nothing_of_its_visit_counts(
    travelled: Travelled,
) -> None:
    world = travelled.to("compare")
    driver = world.start("run", "--yes", FAKE_VLLM='{"step_ms": 15}')
    wait_for(lambda: world.stage("compare") == "measuring" or driver.poll() is not None, "the measurement")
    kill_engine(world)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode in (0, 5), said
    if driver.returncode:  # it died again, or with others: an error that is named, and no verdict
        assert "went away" in said or "replaced" in said
        assert world.counted()["phase_done", "compare"] == 0
        assert world.standing() is None
        world.run()
    samples = Path(world.done("compare")["result"]["outputs"]["samples"]).read_text().splitlines()
    assert all(json.loads(line)["samples"] or json.loads(line)["invalid"] for line in samples), (
        "a visit that was cut off says so"
    )


@pytest.mark.parametrize("whom", ["draftsmith", "the engine"])
def test_killed_while_the_target_answers_only_what_is_missing_is_asked_again(whom: str, world: World) -> None:
    lines = [json.loads(line) for line in world.log.read_text().rstrip("\n").split("\n")]
    none = {"prompt_token_ids": None, "output_token_ids": None, "completion": None, "finish_reason": None, "usage": {}}
    world.log.write_text("".join(json.dumps(line | none) + "\n" for line in lines))
    driver = world.start("corpus", FAKE_VLLM='{"first_ms": 1000}')

    def answered() -> list[bytes]:
        found = list(world.workspace.glob("runs/*/phases/corpus/answers.jsonl"))
        return found[0].read_bytes().split(b"\n")[:-1] if found else []

    wait_for(lambda: len(answered()) >= 8 or driver.poll() is not None, "eight answers")
    if whom == "draftsmith":
        world.kill(driver)
    else:
        kill_engine(world)
        said, _ = driver.communicate(timeout=120)
        assert driver.returncode == 5, said
        assert "killed (signal 9)" in said
    early = answered()
    assert 8 <= len(early) < len(lines)
    if whom == "the engine":  # a request that failed meanwhile
        failed = json.loads(early[-1]) | {"error": "http_500", "output_token_ids": None}
        path = world.folder() / "phases" / "corpus" / "answers.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in [*early[:-1], json.dumps(failed).encode()]))
        early = early[:-1]
    world.call("corpus")
    late = answered()
    assert late[: len(early)] == early, "what was answered is not asked again"
    assert len({json.loads(line)["id"] for line in late}) == len(late) == len(lines)
    figures = world.done("corpus")["result"]["figures"]
    assert figures["regenerated"] == len(lines)
    assert "error" not in figures["dropped"]
    assert world.alive() == []


def kill_engine(world: World) -> None:
    """SIGKILL to every engine process itself, as the kernel does when memory runs out."""
    found = 0
    for _, record in processes.records(world.folder() / "processes"):
        for process in processes.members(record):
            if "vllm.entrypoints" in " ".join(process.cmdline()) and process.pid != record.pid:
                os.kill(process.pid, signal.SIGKILL)
                found += 1
    assert found


def test_two_commands_at_once_do_not_disturb_each_other(travelled: Travelled) -> None:
    world = travelled.to("train")
    first = world.start("train", FAKE_TRAINER='{"epoch_s": 60}')
    wait_for(lambda: world.counted()["submitted", "train"] or first.poll() is not None, "training")
    second = world.call("train", code=4)
    assert "another process is carrying out" in second.stderr
    third = world.refused("train", "--start-phase", "corpus", code=4)
    assert "another process is carrying out" in third.stderr
    assert world.counted()["started", None] == 1, "what is refused leaves no word to discard finished work later"
    assert first.poll() is None
    world.kill(first)
    world.call("train")


def test_a_job_that_ended_while_nobody_looked_is_not_repeated(travelled: Travelled) -> None:
    """Training deletes the hidden states: repeating it would even fail."""
    world = travelled.to("compare")
    for event in sorted(world.folder().glob("journal/[0-9]*.json")):
        value: dict[str, Any] = json.loads(event.read_text())
        if (value["kind"], value["phase"]) == ("phase_done", "train"):
            event.unlink()
    world.call("train")
    assert world.counted()["submitted", "train"] == 1
    assert world.counted()["phase_done", "train"] == 1


def test_a_training_killed_while_it_clears_up_is_not_repeated(travelled: Travelled) -> None:
    """By then the hidden states are gone, or half of them: nothing could be trained from the rest."""
    world = travelled.to("compare")
    for event in sorted(world.folder().glob("journal/[0-9]*.json")):
        value: dict[str, Any] = json.loads(event.read_text())
        if (value["kind"], value["phase"]) == ("phase_done", "train"):
            event.unlink()
    (world.folder() / "phases" / "train" / "result.json").unlink()
    world.call("train")
    assert world.counted()["submitted", "train"] == 2
    made = world.done("train")["result"]["outputs"]["draft_sha256"]
    assert made == travelled.results["train"]["outputs"]["draft_sha256"]  # type: ignore[index]


def test_start_phase_does_that_phase_anew_and_what_it_needs(travelled: Travelled) -> None:
    world = travelled.to("end")
    assert world.counted()["finished", "publish"] == 1
    world.call("train", "--start-phase", "train")
    after = world.counted()
    assert (after["submitted", "train"], after["submitted", "capture"]) == (2, 2), "its states had been deleted"
    assert after["submitted", "corpus"] == 1
    assert len(world.runs()) == 1
    wrong = world.refused("run", "--yes", "--start-phase", "trian", code=2)
    assert "phases: profile, corpus" in wrong.stderr


def test_a_state_written_by_a_newer_version_keeps_what_is_not_understood(travelled: Travelled) -> None:
    world = travelled.to("publish")
    forget_promotion(world)
    newer = {
        "schema": "specdec_service_v1", "experiment_id": "old", "target": "t", "standing_config": None,
        "canary": {"share": 0.1},
        "history": [{"at_unix_s": 1.0, "event": "canaried", "share": 0.1}],
    }  # fmt: skip
    (world.workspace / "service-state.json").write_text(json.dumps(newer))
    world.run()
    state = world.state()
    assert state["canary"] == {"share": 0.1}
    assert state["history"][0]["share"] == 0.1
    assert [entry["event"] for entry in state["history"]] == ["canaried", "kept"]


def test_teardown_ends_what_lives_and_purge_removes_the_text(travelled: Travelled) -> None:
    world = travelled.to("end")
    world.call("teardown", "--purge")
    left = b"".join(p.read_bytes() for p in world.workspace.rglob("*") if p.is_file())
    assert not [text for text in world.text_of_traffic() if text.encode() in left]
    assert list(world.folder().glob("bundle/*/*/report.html")), "the evidence stays"
    assert psutil.pid_exists(os.getpid())
