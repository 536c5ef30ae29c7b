"""Plans and results of jobs: read from files of another version, written as they always were."""

from __future__ import annotations

import json

import pytest

from draftsmith.contract.config import Config
from draftsmith.contract.errors import BackendError
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import CaptureResult, ComparePlan, CompareResult, ProfileResult, TrainResult

VERDICT = {"outcome": "WIN", "tier": "verdict", "reason": "it is faster"}
FILES = {"plan": "p", "samples": "s", "facts": "f", "verdict": "v"}


def test_a_result_of_an_older_version_is_read_and_what_it_did_not_know_has_a_default() -> None:
    old = JobResult(ok=True, outputs={"profile": "p.json", "profile_sha256": "p"}, figures={"n_requests": 3})
    found = ProfileResult.of(old)
    assert (found.n_requests, found.concurrency_mean, found.skipped) == (3, None, {})


def test_a_result_of_a_newer_version_is_read() -> None:
    newer = {"draft": "d", "draft_sha256": "w", "metrics": "m"}
    assert TrainResult.of(JobResult(ok=True, outputs=newer, figures={"invented_later": 1})).draft == "d"
    compared = JobResult(ok=True, outputs=FILES, figures=VERDICT | {"cost": 0.5})
    assert CompareResult.of(compared).figures()["cost"] == 0.5, "figures of a later gate are kept"


def test_what_a_result_lacks_is_named_with_a_next_step() -> None:
    with pytest.raises(BackendError, match=r"result of capture does not fit \(states\)") as error:
        CaptureResult.of(JobResult(ok=True))
    assert error.value.next_step == "run it again: --start-phase capture"


def test_outputs_are_those_that_identify_a_comparison_and_nothing_is_added_where_nothing_served() -> None:
    found = CompareResult.model_validate(FILES | VERDICT)
    assert found.outputs() == FILES | {"winner_config": None, "winner_sha256": None}
    assert CompareResult.model_validate(FILES | VERDICT | {"served": "x"}).outputs()["served"] == "x"
    again = CompareResult.of(JobResult(ok=True, outputs=found.outputs(), figures=found.figures()))
    assert again == found


def test_a_plan_survives_its_file() -> None:
    plan = ComparePlan.model_validate({
        "config": Config().model_dump(mode="json"), "target": "", "registry": "r", "baseline": "a", "invented_later": 1,
        "arms": [{"name": "a", "role": "standing"}], "points": [{"name": "c1", "concurrency": 1}],
    })  # fmt: skip
    assert ComparePlan.model_validate(json.loads(plan.model_dump_json())) == plan
