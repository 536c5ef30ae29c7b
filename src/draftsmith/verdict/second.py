"""The second edition: a plan of `draftsmith_comparison_v2` and its trials to a decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from draftsmith.contract.base import digest
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision, Need, Outcome, PairResult, Tier
from draftsmith.verdict.bench import Bench, deciding, promotable
from draftsmith.verdict.conditions import conditions
from draftsmith.verdict.estimate import rounded
from draftsmith.verdict.pair import Judged, judge
from draftsmith.verdict.points import primary_point
from draftsmith.verdict.rule import corrected
from draftsmith.verdict.summary import summarise
from draftsmith.verdict.tier import tier_reasons
from draftsmith.verdict.twin import equal_twins, floor_note, floor_of
from draftsmith.verdict.validate import valid_trials

ATTEMPTS = 2


def decide_second(
    plan: ComparisonPlan, trials: Sequence[Trial], facts: Sequence[tuple[str, EngineFacts]], *, samples_sha256: str
) -> Decision:
    """Judge a comparison as it stands now. `Decision.need` says what to measure next.

    Raises InputError if the plan itself cannot be judged.
    """
    primary, baseline = primary_point(plan), _baseline(plan)
    starts = {fact.start_id: fact for _, fact in facts}
    good, notes = valid_trials(plan, trials)
    good, twin_notes = equal_twins(plan, good, starts)
    judged = {
        point.name: [judge(Bench.of(plan, point, good), arm) for arm in promotable(plan)] for point in plan.points
    }
    deciding = [_together(plan, rivals) for rivals in _by_arm(plan, judged, primary.name)]

    def doubts(pairs: Sequence[Judged]) -> tuple[str, ...]:
        points = {pair.result.point for pair in pairs}
        used = [trial for trial in good if trial.point in points]
        arms = (baseline, *(pair.arm for pair in pairs))
        return (*tier_reasons(plan, arms, used, starts, pairs), *conditions(plan, arms, used))

    winner = _winner(deciding, doubts)
    outcome = _outcome(deciding, winner)
    # A WIN stands on its own pair; anything else on all that was compared.
    reasons = doubts([winner] if winner else deciding)
    tier: Tier = "draft" if reasons else "verdict"
    need = _need(plan, primary.name, trials, deciding, outcome)
    aparts = max((pair.aparts for pair in deciding), key=len, default=())
    return Decision(
        outcome=outcome,
        tier=tier,
        tier_reasons=reasons,
        reason=_reason(deciding, winner, outcome),
        winner=winner.arm.name if winner else None,
        primary_point=primary.name,
        need_more_blocks=need != "done",
        need=need,
        pairs=tuple(_published(pair, deciding, winner) for pairs in judged.values() for pair in pairs),
        arms=summarise(plan, good),
        aa_floor=rounded(floor_of(aparts)),
        plan_sha256=digest(plan),
        samples_sha256=samples_sha256,
        notes=(floor_note(aparts), *_remarks(judged, deciding, winner), *twin_notes, *notes),
    )


def _baseline(plan: ComparisonPlan) -> Arm:
    names = [arm.name for arm in plan.arms]
    points = {point.name for point in plan.points}
    if len(set(names)) < len(names) or any("#" in name for name in names):
        raise InputError("arm names must be unique and without '#'", "rename the arms")
    if plan.baseline not in names:
        raise InputError(f"the plan has no arm {plan.baseline!r} to be the baseline", "name one of its arms")
    if not promotable(plan):
        raise InputError("the plan compares the baseline with nothing", "add a candidate arm")
    if not set(plan.deciding) <= points or (plan.deciding and primary_point(plan).name not in plan.deciding):
        raise InputError(
            "the points that decide together are not points of the plan, or leave out the primary one",
            f"name points of the plan: {', '.join(sorted(points))}",
        )
    if plan.primary == "goodput" and plan.slo_ttft_s is None and plan.slo_tpot_s is None:
        raise InputError("goodput has no latency limit to be within", "give slo_ttft_s, slo_tpot_s or both")
    return plan.arms[names.index(plan.baseline)]


def _by_arm(plan: ComparisonPlan, judged: Mapping[str, Sequence[Judged]], primary: str) -> list[list[Judged]]:
    """The pairs of each arm at the points that decide, the primary point first."""
    points = [primary, *(name for name in deciding(plan) if name != primary)]
    return [list(pairs) for pairs in zip(*(judged[name] for name in points), strict=True)]


def _together(plan: ComparisonPlan, pairs: Sequence[Judged]) -> Judged:
    """One arm over all deciding points: it wins if it wins at one and is not worse at any.

    Worse: shown to be slower, or a guard failed there. An estimate that is slower by more than `throughput_margin` is not
    settled yet.
    """
    if len(pairs) == 1:
        return pairs[0]
    needs: list[Need] = [pair.need for pair in pairs]
    need: Need = "start" if "start" in needs else "blocks" if "blocks" in needs else "done"
    won = [pair for pair in pairs if pair.result.outcome == "WIN"]
    if not won:
        lost = all(pair.result.outcome == "LOSS" for pair in pairs)
        if lost:
            return replace(pairs[0], need="done")
        first = next(pair for pair in pairs if pair.result.outcome == "INCONCLUSIVE")
        return replace(first, need=need)
    best = max(won, key=lambda pair: pair.value)
    for pair in pairs:
        shown = pair.settled is not None and pair.settled.high < 0
        failed = any(check.state == "failed" and not check.suspect for check in pair.checks)
        if shown or failed:
            reason = f"{best.result.reason}, but it is worse at another deciding point: {pair.result.reason}"
            return _changed(best, "LOSS", reason, "done")
    least = 1 - plan.thresholds.throughput_margin
    for pair in pairs:
        if pair.value < least:
            reason = f"{best.result.reason}, but whether it is worse at another deciding point is not settled: "
            return _changed(best, "INCONCLUSIVE", reason + pair.result.reason, need)
    return best


def _changed(pair: Judged, outcome: Outcome, reason: str, need: Need) -> Judged:
    return replace(pair, need=need, result=pair.result.model_copy(update={"outcome": outcome, "reason": reason}))


def _winner(deciding: Sequence[Judged], doubts: Callable[[Sequence[Judged]], tuple[str, ...]]) -> Judged | None:
    """The fastest of the arms that won; one at tier `verdict` before any that is only a draft."""
    won = [pair for pair in deciding if pair.result.outcome == "WIN"]
    return max(won, key=lambda pair: (not doubts([pair]), pair.value, pair.arm.name), default=None)


def _leading(deciding: Sequence[Judged]) -> list[Judged]:
    """The pairs that the comparison is about: the candidates, or all if there is none."""
    return [pair for pair in deciding if pair.arm.role == "candidate"] or list(deciding)


def _outcome(deciding: Sequence[Judged], winner: Judged | None) -> Outcome:
    if winner:
        return "WIN"
    return "LOSS" if all(pair.result.outcome == "LOSS" for pair in _leading(deciding)) else "INCONCLUSIVE"


def _reason(deciding: Sequence[Judged], winner: Judged | None, outcome: Outcome) -> str:
    if winner:
        beaten = [p for p in _leading(deciding) if p.arm.name != winner.arm.name and winner.arm.role != "candidate"]
        tail = f"; it also leaves {beaten[0].arm.name} behind ({beaten[0].value:.3f}x)" if beaten else ""
        return f"{winner.result.reason}{tail}."
    pairs = [pair for pair in _leading(deciding) if pair.result.outcome == outcome]
    return f"{max(pairs, key=lambda pair: pair.value).result.reason}."


def _need(
    plan: ComparisonPlan, point: str, trials: Sequence[Trial], deciding: Sequence[Judged], outcome: Outcome
) -> Need:
    """What to measure next. A campaign whose blocks keep failing ends after twice the preset limit."""
    tried = {trial.block for trial in trials if trial.point == point}
    if outcome != "INCONCLUSIVE" or len(tried) >= ATTEMPTS * plan.thresholds.max_blocks:
        return "done"
    needs = {pair.need for pair in _leading(deciding) if pair.result.outcome == "INCONCLUSIVE"}
    return "blocks" if "blocks" in needs else "start" if "start" in needs else "done"


def _published(pair: Judged, deciding: Sequence[Judged], winner: Judged | None) -> PairResult:
    """A pair as the contract has it; the gain of a WIN also corrected for having been chosen."""
    result, data, settled = pair.result, pair.data, pair.settled
    if result.outcome != "WIN" or data is None or settled is None or data.se is None:
        return result
    chosen = winner is not None and winner.arm.name == pair.arm.name
    rivals = [p.settled.value for p in deciding if p.settled and p.result.outcome == "WIN" and p.arm != pair.arm]
    passed = max([settled.passed, *(value for value in rivals if chosen and value < settled.value)])
    log = corrected(settled.value, data.se, passed, settled.low)
    return result.model_copy(update={"corrected": rounded(math.exp(log))})


def _remarks(judged: Mapping[str, Sequence[Judged]], deciding: Sequence[Judged], winner: Judged | None) -> list[str]:
    remarks = []
    for pair in deciding:
        if pair.arm.role == "no_spec" and pair.value > 1 and (winner is None or winner.arm.name != pair.arm.name):
            slower = [p for p in deciding if p.arm.role == "candidate" and p.value < pair.value]
            if slower:
                remarks.append(
                    f"{pair.arm.name}, without speculation, is faster ({pair.value:.3f}x) than {slower[0].arm.name} "
                    f"({slower[0].value:.3f}x): turning speculation off is the better proposal here"
                )
        if winner and pair.value > winner.value and pair.arm.name != winner.arm.name:
            why = "a WIN at tier draft only" if pair.result.outcome == "WIN" else pair.result.outcome
            remarks.append(f"{pair.arm.name} looks faster still but is {why}: {pair.result.reason}")
    points = {pair.result.point for pair in deciding}
    for name, pairs in judged.items():
        remarks += [
            f"at {name}, which does not decide: {pair.result.reason}"
            for pair in pairs
            if name not in points and pair.result.speedup and pair.result.speedup.high < 1
        ]
    return remarks
