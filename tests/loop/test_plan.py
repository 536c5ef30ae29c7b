"""`draftsmith plan` over a stand-in engine: it finds what a step costs, goes on where it stopped, and is checked afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from loop_world import Travelled, World, interpreter, wait_for

from draftsmith.api.plan_request import checked_ks, operating_points, require_synthetic
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError, PrerequisiteError
from draftsmith.contract.plan import StepSample
from draftsmith.contract.profile import Distribution, ExpectedAcceptance, Recommendation, WorkloadProfile
from draftsmith.engines.base import Installation
from draftsmith.kit import processes
from draftsmith.verdict.break_even import CostModel

COSTS = json.dumps({"step_ms": 8, "step_cost": {"eagle3": 1.0}, "token_cost": {"eagle3": 0.1}})
SMALL = ("--k", "1", "--k", "3", "--repeats", "1", "--concurrency", "1")


def plan(world: World, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    out = str(world.base / "plan")
    return world.call("plan", "--profile", str(world.log), "--out", out, *SMALL, *arguments, code=code, FAKE_VLLM=COSTS)


def trials(world: World) -> list[str]:
    path = world.base / "plan" / "trials.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def alive(folder: Path) -> list[Any]:
    found = []
    for registry in (folder / "processes", folder / "backend" / "processes"):
        for _, record in processes.records(registry):
            found += processes.members(record)
    return found


@pytest.mark.timed
def test_costs_are_found_and_the_same_command_starts_nothing_again(world: World) -> None:
    ahead = plan(world, "--dry-run")
    assert "3 server starts and 4 trials" in ahead.stdout
    assert trials(world) == []

    done = plan(world, "--json")
    found = json.loads(done.stdout)
    needs = {need["k"]: need["break_even"]["value"] for need in found["points"][0]["needs"]}
    model = CostModel([StepSample.model_validate(sample) for sample in found["samples"]])
    assert needs == pytest.approx({k: model.ratio(1, k).value for k in (1, 2, 3)}), "times are the machine's own"
    for sample in found["samples"]:
        assert sample["tokens_per_step"] == pytest.approx(sample["asked_al"], rel=0.3)
    assert found["acceptance"]["by_position"] == []
    assert "nothing is known" in found["acceptance"]["sentence"]
    assert found["budget"]["capture_bytes"] > 0
    assert found["budget"]["train_s"] is None
    assert "ETA" in done.stderr or "expected work" in done.stderr
    folder = world.base / "plan"
    assert "<svg" in (folder / "plan.html").read_text()
    assert not (folder / "untrained-draft").exists()
    assert alive(folder) == []
    kept = trials(world)
    assert len(kept) == 4
    assert not any(text in (folder / "plan.json").read_text() for text in world.text_of_traffic() if len(text) > 8)

    again = plan(world)
    assert "nothing is started" in again.stdout
    assert trials(world) == kept
    assert len(json.loads((folder / "starts.json").read_text())) == 3

    refused = plan(world, "--k", "5", "--json", code=2)
    told = json.loads(refused.stdout)
    assert "another measurement" in told["error"]
    assert "--out" in told["next_step"]


@pytest.mark.timed
def test_engines_are_planned_by_one_command_and_set_side_by_side(world: World) -> None:
    both = interpreter(world.base, "fake_engine_python")
    world.configure(engine={"python": both}, **{"engines.sglang": {"python": both}})
    costs = json.dumps({"step_ms": 8, "step_cost": {"eagle3": 1.0}, "token_cost": {"eagle3": 0.1}})
    asked = (
        "--profile",
        str(world.log),
        "--out",
        str(world.base / "plan"),
        "--k",
        "3",
        "--repeats",
        "1",
        "--concurrency",
        "1",
    )
    asked += ("--engine", "vllm", "--engine", "sglang", "--set", "compare.ngram=false", "--json")
    ahead = json.loads(world.call("plan", *asked, "--dry-run", FAKE_VLLM=costs).stdout)
    assert {name: effort["starts"] for name, effort in ahead.items()} == {"vllm": 2, "sglang": 2}
    found = json.loads(world.call("plan", *asked, FAKE_VLLM=costs).stdout)
    assert found["engines"]["sglang"] == "sglang 0.5.17"
    assert {option["engine"] for option in found["points"][0]["options"]} == {"vllm", "sglang"}
    assert [bar["k"] for bar in found["points"][0]["bars"]] == [3, 3]
    [sample] = json.loads((world.base / "plan" / "sglang" / "plan.json").read_text())["samples"]
    assert sample["tokens_per_step"] == pytest.approx(sample["asked_al"], rel=0.3), (
        "accepted at the rate that was asked for"
    )
    assert json.loads((world.base / "plan" / "across.json").read_text()) == found
    refused = world.call("plan", *asked, "--engine", "nothing", code=2)
    assert "no engine is called nothing" in json.loads(refused.stdout)["error"]


@pytest.mark.timed
def test_stopped_by_ctrl_c_it_leaves_nothing_running_and_goes_on(world: World) -> None:
    folder = world.base / "plan"
    # A process started in the background of a shell ignores SIGINT, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = world.start(
        "plan", "--profile", str(world.log), "--out", str(folder), *SMALL, "--repeats", "3", FAKE_VLLM=COSTS
    )
    signal.signal(signal.SIGINT, before)
    wait_for(lambda: len(trials(world)) >= 2, "the first pair")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    wait_for(lambda: not alive(folder), "the servers to end", 30)
    kept = trials(world)
    assert not (folder / "plan.json").exists()
    plan(world, "--repeats", "3")
    assert trials(world)[: len(kept)] == kept
    assert len(trials(world)) == 12


@pytest.mark.timed
def test_a_server_that_does_not_start_is_named_with_a_next_step(world: World) -> None:
    log = Path(__file__).parent.parent / "engines" / "logs"
    broken = json.dumps({"fail": {"eagle3": str(next(iter(sorted(log.glob("*.log")))))}})
    done = world.call("plan", "--profile", str(world.log), "--out", str(world.base / "plan"), *SMALL, "--json",
                      code=None, FAKE_VLLM=broken)  # fmt: skip
    assert done.returncode != 0
    assert json.loads(done.stdout)["next_step"]
    assert alive(world.base / "plan") == []


@pytest.mark.timed
def test_after_the_loop_its_records_are_used_and_the_plan_is_checked_against_it(travelled: Travelled) -> None:
    world = travelled.to("end")
    done = plan(world, "--json")
    found = json.loads(done.stdout)
    [record] = found["acceptance"]["records"]
    assert record["same_traffic"] is True
    assert found["budget"]["capture_s"] > 0
    assert found["budget"]["train_s"] > 0
    checked = json.loads(plan(world, "--check", "newest", "--json").stdout)
    [row] = checked["rows"]
    assert row["k"] == 3
    [cost] = [need["break_even"]["value"] for need in found["points"][0]["needs"] if need["k"] == 3]
    assert row["predicted"]["value"] == pytest.approx(row["acceptance_length"] / cost)
    measured = row["measured"]
    assert measured is None or measured["low"] < measured["value"] < measured["high"], "of one start: wide, or none"
    assert row["sentence"]
    assert (world.base / "plan" / "check.json").exists()
    missing = plan(world, "--check", "no-such-run", "--json", code=2)
    assert "no-such-run" in json.loads(missing.stdout)["error"]


# -- before anything starts ---------------------------------------------------------------------------------------------


def profile(**changed: Any) -> WorkloadProfile:
    values: dict[str, Any] = {
        "n_requests": 100, "input_tokens": Distribution(), "output_tokens": Distribution(), "content_class_mix": {},
        "expected_acceptance": (
            ExpectedAcceptance(method="ngram", num_speculative_tokens=3, acceptance_length=2.1, tokens_per_step=1.4),
        ),
        "recommended_spec_decode": Recommendation(method="eagle3", rationale="-"),
    }  # fmt: skip
    return WorkloadProfile(**(values | changed))


def test_an_engine_without_synthetic_acceptance_is_refused_with_what_can_still_be_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = Installation(python="python", version="0.24.0", device="cpu")
    monkeypatch.setattr("draftsmith.engines.vllm.engine.installation", lambda _: old)
    with pytest.raises(PrerequisiteError, match=r"0\.24\.0 on cpu") as refused:
        require_synthetic(Config(), profile())
    assert "ngram K 3 1.40 tokens a step" in refused.value.message
    assert "draftsmith compare" in refused.value.next_step


def test_points_are_those_asked_for_or_the_configured_ones_and_the_profiles() -> None:
    seen = profile(concurrency_mean=6.4, concurrency_p90=90.0)
    assert operating_points(Config(), seen, []) == ([1, 6, 32], 1)
    assert operating_points(Config(), seen, [8, 2]) == ([2, 8], 8)
    with pytest.raises(InputError, match="at least 1"):
        operating_points(Config(), seen, [0])


def test_k_is_between_one_and_sixteen() -> None:
    assert checked_ks([]) == [1, 3, 5]
    assert checked_ks([4, 2, 4]) == [2, 4]
    with pytest.raises(InputError, match="1 to 16"):
        checked_ks([17])
