"""What an earlier run made from the same inputs is taken over: the same digests only, its own files, however it is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_world import Travelled
from promotions import forget_promotion, make_it_a_win

from draftsmith.contract.job import JobResult
from draftsmith.loop.lock import alone
from draftsmith.loop.reuse import take_over
from draftsmith.store.runs import Run, RunRecord, Store


def submitted(folder: Path) -> list[str]:
    events = Run(folder).events()
    return [str(event.phase) for event in events if event.kind == "submitted"]


def states(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("phases/capture/states/*.safetensors")}


def test_other_settings_of_the_training_take_over_what_comes_before_it(travelled: Travelled) -> None:
    world = travelled.to("train")
    [first] = world.runs()
    captured = states(first)
    said = world.call("train", "--set", "trainer.seed=7").stdout

    [second] = [folder for folder in world.runs() if folder != first]
    assert submitted(second) == ["train"]
    assert said.count(f"(same inputs: taken over from {first.name})") == 3
    done = {event.phase: event.data for event in Run(second).events() if event.kind == "phase_done"}
    mine = [
        value for data in done.values() for value in data["result"]["outputs"].values() if str(value).startswith("/")
    ]
    assert all(Path(value).is_relative_to(second) for value in mine), "a run owns what it uses"
    assert states(second) == set(), "deleted after its training"
    assert states(first) == captured, "and the other run still has them"


def test_what_was_changed_or_deleted_since_is_made_again(travelled: Travelled) -> None:
    world = travelled.to("end")
    [first] = world.runs()
    assert states(first) == set()
    profile = first / "phases" / "profile" / "workload-profile.json"
    profile.write_text(profile.read_text().replace('"n_requests": 8', '"n_requests": 9', 1))

    world.call("capture", "--set", "trainer.seed=8")

    [second] = [folder for folder in world.runs() if folder != first]
    assert submitted(second) == ["profile", "capture"], "the corpus is as it was; its states went with the training"


def test_the_run_after_a_promotion_makes_nothing_anew_and_says_what_already_serves(travelled: Travelled) -> None:
    world = travelled.to("publish")
    [first] = world.runs()
    make_it_a_win(world)
    forget_promotion(world)
    world.call("promote")
    standing = world.standing()
    assert standing["method"] == "eagle3"

    said = world.run("--set", "compare.tuning_prompts=3").stdout

    [second] = [folder for folder in world.runs() if folder != first]
    assert submitted(second) == ["publish"], "no states, no training, no measurement"
    assert f"not needed: train is taken over from {first.name}" in said
    assert "ALREADY_SERVES" in said
    done = {event.phase: event.data for event in Run(second).events() if event.kind == "phase_done"}
    assert "standing configuration kept" in done["promote"]["headline"]
    assert world.standing() == standing
    state = world.state()
    assert [(entry["event"], entry["run_id"]) for entry in state["history"]] == [
        ("promoted", first.name), ("kept", second.name),
    ]  # fmt: skip
    assert state["experiment_id"] == second.name
    [summary] = second.glob("bundle/*/*/summary.md")
    assert "already serves" in summary.read_text()
    explained = world.call("explain").stdout
    assert "ALREADY_SERVES" in explained
    again = world.run("--set", "compare.tuning_prompts=3").stdout
    assert "ALREADY_SERVES" in again
    assert submitted(second) == ["publish"]

    (first / "phases" / "train" / "draft" / "model.safetensors").write_bytes(b"changed since")
    world.call("train", "--set", "compare.tuning_prompts=3", "--start-phase", "train")
    assert submitted(second) == ["publish", "capture", "train"], "what was left out is made when it is needed"


# -- the decision, without an engine ---------------------------------------------------------------------------------------


def record(name: str, at: float) -> RunRecord:
    return RunRecord(run_id=name, key=name, target="t", profile=(), config={}, created_unix_s=at)


class Two:
    """A run that captured, and a later one."""

    def __init__(self, workspace: Path) -> None:
        store = Store(workspace)
        self.first, self.second = store.create(record("a", 1.0)), store.create(record("b", 2.0))
        self.made = self.first.phase_dir("capture") / "states"
        self.made.mkdir()
        for number in range(3):
            (self.made / f"{number}.safetensors").write_bytes(bytes([number]) * 100)
        self.outputs = {"states": str(self.made), "layer_ids": [1, 2]}
        self.end()
        self.second.append("started", standing=None, new=False)

    def end(self, **changed: Any) -> None:
        result = JobResult(ok=True, outputs=self.outputs, figures={"rows": 3}, wall_s=5.0)
        data = {"inputs": "x", "passed": True, "result": result.model_dump(mode="json")} | changed
        self.first.append("phase_done", "capture", **data)

    def taken(self) -> JobResult | None:
        return take_over(self.second, "capture", "x")


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def test_the_files_are_the_later_runs_own(two: Two) -> None:
    taken = two.taken()
    assert taken is not None
    assert taken.reused_from == "a"
    own = two.second.folder / "phases" / "capture" / "states"
    assert taken.outputs == {"states": str(own), "layer_ids": [1, 2]}
    shutil.rmtree(two.first.folder)
    assert sorted(path.read_bytes()[0] for path in own.iterdir()) == [0, 1, 2]


def test_a_third_run_names_the_one_that_did_the_work(two: Two) -> None:
    taken = two.taken()
    assert taken is not None
    two.second.append("phase_done", "capture", inputs="x", passed=True, result=taken.model_dump(mode="json"))
    third = Store(two.second.folder.parent.parent).create(record("c", 3.0))
    found = take_over(third, "capture", "x")
    assert found is not None
    assert found.reused_from == "a"
    assert Path(found.outputs["states"]).is_relative_to(third.folder)


REFUSED: dict[str, Callable[[Two], object]] = {
    "other inputs": lambda two: two.end(inputs="y"),
    "a gate that did not pass": lambda two: two.end(passed=False),
    "files that are gone": lambda two: shutil.rmtree(two.made),
    "a phase that was discarded": lambda two: two.first.append("started", restart="capture", discards=["capture"]),
    "a phase that was begun here": lambda two: two.second.append("submitted", "capture", attempt=0),
    "a phase that was asked for anew": lambda two: two.second.append("cleared", "capture"),
    "a run that is to be new": lambda two: two.second.append("started", standing=None, new=True),
}


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_is_taken_over(two: Two, why: str) -> None:
    REFUSED[why](two)
    assert two.taken() is None
    assert not (two.second.folder / "phases" / "capture").exists()


def test_a_comparison_is_never_taken_over(two: Two) -> None:
    two.first.append(
        "phase_done", "compare", inputs="x", passed=True, result=JobResult(ok=True).model_dump(mode="json")
    )
    assert take_over(two.second, "compare", "x") is None


def test_a_run_that_another_process_carries_out_is_left_alone(two: Two) -> None:
    with alone(two.first.folder):
        assert two.taken() is None
    assert two.taken() is not None


def test_killed_in_the_middle_the_same_copy_is_made_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    link, calls = os.link, []

    def killed(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr("draftsmith.loop.reuse.os.link", killed)
    with pytest.raises(KeyboardInterrupt):
        two.taken()
    assert len(states(two.second.folder)) == 1

    assert two.taken() is not None
    assert states(two.second.folder) == states(two.first.folder)


def test_what_an_interrupted_copy_left_does_not_stay_if_it_cannot_be_finished(two: Two) -> None:
    left = two.second.folder / "phases" / "corpus" / "corpus"
    left.mkdir(parents=True)
    (left / "rows.parquet").write_bytes(b"half")
    (two.second.phase_dir("capture") / "states").mkdir()

    assert take_over(two.second, "corpus", "x") is None
    assert list((two.second.folder / "phases").iterdir()) == []
