"""The gate: from frozen plan and raw trials to WIN, LOSS or INCONCLUSIVE, with the reason and the tier."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.verdict.first.decide import decide as decide_first
from draftsmith.verdict.points import primary_point
from draftsmith.verdict.second import decide_second

__all__ = ["decide", "primary_point"]


def decide(
    plan: ComparisonPlan,
    trials: Sequence[Trial],
    facts: Sequence[tuple[str, EngineFacts]],
    *,
    samples_sha256: str,
) -> Decision:
    """Judge a comparison as it stands now, by the edition of the rule that its plan names.

    `facts`: (arm, what its engine said) per server start. Raises InputError if the plan itself cannot be judged.
    """
    if plan.schema_ == "draftsmith_comparison_v2":
        return decide_second(plan, trials, facts, samples_sha256=samples_sha256)
    return decide_first(plan, trials, facts, samples_sha256=samples_sha256)
