"""A plan against what was measured afterwards. Pure."""

from __future__ import annotations

from draftsmith.contract.measure import ComparisonPlan
from draftsmith.contract.plan import CheckRow, Plan, PlanCheck
from draftsmith.contract.verdict import ArmSummary, Decision
from draftsmith.verdict.advice import DRAFTED, speed
from draftsmith.verdict.break_even import CostModel


def check(plan: Plan, run_id: str, compared: ComparisonPlan, decision: Decision) -> PlanCheck:
    """Every drafting arm of the comparison: its speed by the plan at its own measured acceptance, and its measured speed.

    The plan speaks of speed against no speculation, so only pairs with such a baseline are set beside it.
    """
    model = CostModel(plan.samples, plan.fit.confidence)
    arms = {arm.name: arm for arm in compared.arms}
    loads = {point.name: point.concurrency for point in compared.points}
    rows, left_out = [], []
    for summary in decision.arms:
        speculates = arms[summary.arm].speculation
        if not speculates or not speculates.config:
            continue
        k, load = speculates.k, loads[summary.point]
        why = _why_not(model, str(speculates.method), k, load, summary)
        if why:
            left_out.append(f"{summary.arm} at {summary.point}: {why}")
            continue
        rows.append(_row(model, plan, decision, summary, int(k or 0), load, arms[compared.baseline].spec_config))
    return PlanCheck(run_id=run_id, rows=tuple(rows), left_out=tuple(left_out), sentence=_sentence(rows))


def _why_not(model: CostModel, method: str, k: object, load: int, summary: ArmSummary) -> str:
    if method not in DRAFTED:
        return f"the plan's costs are those of an EAGLE3 draft, this is {method}"
    if load not in model.concurrencies:
        return f"concurrency {load} was not planned for"
    if k not in model.ks:
        return f"K = {k} was not planned for"
    return "" if summary.tokens_per_step or summary.acceptance_length else "no acceptance was measured"


def _row(
    model: CostModel, plan: Plan, decision: Decision, summary: ArmSummary, k: int, load: int, baseline: object
) -> CheckRow:
    length = summary.tokens_per_step or summary.acceptance_length or 1.0
    predicted = speed(model, load, k, length)
    pair = next((p for p in decision.pairs if p.candidate == summary.arm and p.point == summary.point), None)
    measured = pair.speedup if pair and baseline is None else None
    error = predicted.value / measured.value - 1 if measured else None
    agrees = predicted.low <= measured.high and measured.low <= predicted.high if measured else None
    text = f"{summary.arm} at concurrency {load}: with its {length:.2f} tokens a step the plan gives {predicted.value:.2f}x"
    text += f" [{predicted.low:.2f}, {predicted.high:.2f}]"
    if measured and error is not None:
        text += f", measured {measured.value:.2f}x [{measured.low:.2f}, {measured.high:.2f}]: {error:+.0%}"
    else:
        text += "; its speed against no speculation was not measured"
    if plan.acceptance.by_position and plan.acceptance.k:
        volume = next((v for v in plan.acceptance.volumes if v.acceptance_length), None)
        text += f"; acceptance beforehand: {plan.acceptance.sentence}" if volume else ""
    return CheckRow(
        arm=summary.arm,
        concurrency=load,
        k=k,
        acceptance_length=length,
        predicted=predicted,
        measured=measured,
        error=error,
        agrees=agrees,
        sentence=text,
    )


def _sentence(rows: list[CheckRow]) -> str:
    judged = [row for row in rows if row.agrees is not None]
    if not judged:
        return "nothing in this run can be set beside the plan"
    worst = max(judged, key=lambda row: abs(row.error or 0.0))
    good = sum(1 for row in judged if row.agrees)
    return (
        f"{good} of {len(judged)} measured speeds agree with the plan within their intervals; the largest error is "
        f"{worst.error:+.0%} ({worst.arm} at concurrency {worst.concurrency})"
    )
