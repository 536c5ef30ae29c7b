"""The path of a decision, step by step from the frozen plan to the verdict. Words for what was decided; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from draftsmith.report.numbers import asked_prompts, percent, ratio
from draftsmith.report.parts import ReportParts
from draftsmith.verdict.schedule import schedule_sentence


@dataclass(frozen=True)
class Step:
    """`tone`: win = passed, loss = failed, open = open or unknown, soft = a fact."""

    title: str
    text: str
    tone: str = "soft"


def decision_path(parts: ReportParts) -> tuple[Step, ...]:
    """The steps that led to the verdict; empty without one."""
    if parts.decision is None:
        return ()
    return (*_before(parts), *_estimates(parts), *_end(parts))


def _before(parts: ReportParts) -> list[Step]:
    decision, steps = parts.decision, []
    if decision is None:
        return []
    if parts.plan is not None:
        plan = parts.plan
        names = ", ".join(arm.name for arm in plan.arms)
        steps.append(
            Step(
                "The plan was frozen",
                f"{len(plan.arms)} arms ({names}), baseline {plan.baseline}, {asked_prompts(plan)} at "
                f"{', '.join(p.name for p in plan.points)}; sha256 {decision.plan_sha256[:16]}…",
            )
        )
    if decision.aa_floor is None:
        steps.append(Step("Equal servers were not compared", "the noise of this machine is not known", "open"))
    else:
        steps.append(
            Step(
                "Equal servers were compared (A/A)",
                f"smallest gain worth claiming here: {percent(decision.aa_floor)}",
            )
        )
    if parts.trials:
        bad = len(parts.trials) - len(parts.good_trials)
        blocks = len({t.block for t in parts.at(parts.primary)})
        steps.append(
            Step(
                "Interleaved blocks were measured",
                f"{len(parts.trials)} trials, {blocks} blocks at {parts.primary}; {bad or 'none'} set aside",
                "open" if bad else "soft",
            )
        )
    return steps


def _estimates(parts: ReportParts) -> list[Step]:
    decision, steps = parts.decision, []
    for pair in decision.pairs if decision else ():
        if pair.point != parts.primary:
            continue
        tone = {"WIN": "win", "LOSS": "loss", "INCONCLUSIVE": "open"}[pair.outcome]
        steps.append(Step(f"{pair.candidate}: {pair.outcome}", f"{pair.reason} (bar {ratio(pair.min_speedup)})", tone))
        failed = [g.name for g in pair.guards if g.passed is False]
        unknown = [g.name for g in pair.guards if g.passed is None]
        if failed or unknown:
            words = [f"failed: {', '.join(failed)}"] if failed else []
            words += [f"not settled or not measured: {', '.join(unknown)}"] if unknown else []
            steps.append(Step(f"{pair.candidate}: guards", "; ".join(words), "loss" if failed else "open"))
    return steps


def _end(parts: ReportParts) -> list[Step]:
    decision = parts.decision
    if decision is None:
        return []
    tier = Step(
        f"Tier: {decision.tier}",
        "; ".join(decision.tier_reasons) or "every condition for acting on it is met",
        "win" if decision.tier == "verdict" else "open",
    )
    tone = {"WIN": "win", "LOSS": "loss", "INCONCLUSIVE": "open"}[decision.outcome]
    follow = {
        "WIN": f"{decision.winner} may be promoted"
        if decision.tier == "verdict"
        else "not to be promoted at this tier",
        "LOSS": "the standing configuration stays",
        "INCONCLUSIVE": "more blocks may settle it"
        if decision.need_more_blocks
        else "the standing configuration stays",
    }[decision.outcome]
    schedule = schedule_sentence(parts.plan, decision) if parts.plan else None
    more = [Step("Speculation length by load", schedule)] if schedule else []
    return [tier, Step(f"Verdict: {decision.outcome}", follow, tone), *more]
