"""Hashes of values survive a later version that adds fields with defaults."""

from __future__ import annotations

import json

from draftsmith.contract.base import digest
from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Thresholds


def plan(**changes: object) -> ComparisonPlan:
    return ComparisonPlan(
        arms=(Arm(name="standing", role="standing"), Arm(name="tailored", role="candidate")),
        baseline="standing",
        points=(OperatingPoint(name="c1", concurrency=1, primary=True),),
        prompts_sha256="0" * 64,
        n_prompts=4,
        **changes,  # type: ignore[arg-type]
    )


def test_a_plan_written_before_a_field_existed_keeps_its_hash() -> None:
    written = json.loads(plan().model_dump_json(by_alias=True))
    del written["thresholds"]["general_share"]
    del written["cache_regime"]
    assert digest(ComparisonPlan.model_validate(written)) == digest(plan())


def test_what_was_decided_otherwise_changes_the_hash() -> None:
    assert digest(plan(thresholds=Thresholds(min_gain=0.02))) != digest(plan())
    assert digest(plan(seed=1)) != digest(plan())
