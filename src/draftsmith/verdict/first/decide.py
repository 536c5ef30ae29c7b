"""The gate: from frozen plan and raw trials to WIN, LOSS or INCONCLUSIVE, with the reason and the tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from draftsmith.contract.base import digest
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision, Outcome, Tier
from draftsmith.verdict.estimate import rounded
from draftsmith.verdict.first.floor import NoiseFloor, noise_floor
from draftsmith.verdict.first.pair import Bench, Judged, judge, promotable
from draftsmith.verdict.first.tier import tier_reasons
from draftsmith.verdict.points import primary_point
from draftsmith.verdict.summary import summarise
from draftsmith.verdict.validate import valid_trials

ATTEMPTS = 2


def decide(
    plan: ComparisonPlan,
    trials: Sequence[Trial],
    facts: Sequence[tuple[str, EngineFacts]],
    *,
    samples_sha256: str,
) -> Decision:
    """Judge a comparison as it stands now. Call it after every block: looking often is paid for.

    `facts`: (arm, what its engine said) per server start. Raises InputError if the plan itself cannot be judged.
    """
    primary, baseline = primary_point(plan), _baseline(plan)
    good, notes = valid_trials(plan, trials)
    floors = {point.name: noise_floor(plan, good, point.name) for point in plan.points}
    judged = {
        point.name: [judge(Bench.of(plan, point, good, floors[point.name]), arm) for arm in promotable(plan)]
        for point in plan.points
    }
    at_primary = judged[primary.name]
    at_point = [trial for trial in good if trial.point == primary.name]
    starts = {fact.start_id: fact for _, fact in facts}

    def doubts(pairs: Sequence[Judged]) -> tuple[str, ...]:
        return tier_reasons(plan, (baseline, *(pair.arm for pair in pairs)), at_point, starts, pairs)

    winner = _winner(at_primary, doubts)
    outcome = _outcome(at_primary, winner)
    # A WIN stands on its own pair; anything else on all that was compared.
    reasons = doubts([winner] if winner else at_primary)
    tier: Tier = "draft" if reasons else "verdict"
    return Decision(
        outcome=outcome,
        tier=tier,
        tier_reasons=reasons,
        reason=_reason(plan, at_primary, winner, outcome),
        winner=winner.arm.name if winner else None,
        primary_point=primary.name,
        need_more_blocks=_more(plan, primary, trials, at_primary, outcome),
        pairs=tuple(pair.result for pairs in judged.values() for pair in pairs),
        arms=summarise(plan, good),
        aa_floor=rounded(floor.smallest_claimable) if (floor := floors[primary.name]) else None,
        plan_sha256=digest(plan),
        samples_sha256=samples_sha256,
        notes=(*_remarks(plan, judged, primary, winner, floor), *notes),
    )


def _baseline(plan: ComparisonPlan) -> Arm:
    names = [arm.name for arm in plan.arms]
    if len(set(names)) < len(names) or any("#" in name for name in names):
        raise InputError("arm names must be unique and without '#'", "rename the arms")
    if plan.baseline not in names:
        raise InputError(f"the plan has no arm {plan.baseline!r} to be the baseline", "name one of its arms")
    if not promotable(plan):
        raise InputError("the plan compares the baseline with nothing", "add a candidate arm")
    return plan.arms[names.index(plan.baseline)]


def _winner(at_primary: Sequence[Judged], doubts: Callable[[Sequence[Judged]], tuple[str, ...]]) -> Judged | None:
    """The fastest of the arms that won; one at tier `verdict` before any that is only a draft."""
    won = [pair for pair in at_primary if pair.result.outcome == "WIN"]
    return max(won, key=lambda pair: (not doubts([pair]), pair.value, pair.arm.name), default=None)


def _leading(at_primary: Sequence[Judged]) -> list[Judged]:
    """The pairs that the comparison is about: the candidates, or all if there is none."""
    return [pair for pair in at_primary if pair.arm.role == "candidate"] or list(at_primary)


def _outcome(at_primary: Sequence[Judged], winner: Judged | None) -> Outcome:
    if winner:
        return "WIN"
    return "LOSS" if all(pair.result.outcome == "LOSS" for pair in _leading(at_primary)) else "INCONCLUSIVE"


def _reason(plan: ComparisonPlan, at_primary: Sequence[Judged], winner: Judged | None, outcome: Outcome) -> str:
    if winner:
        beaten = [p for p in _leading(at_primary) if p.arm.name != winner.arm.name and winner.arm.role != "candidate"]
        tail = f"; it also leaves {beaten[0].arm.name} behind ({beaten[0].value:.3f}x)" if beaten else ""
        return f"{winner.result.reason}{tail}."
    pairs = [pair for pair in _leading(at_primary) if pair.result.outcome == outcome]
    return f"{max(pairs, key=lambda pair: pair.value).result.reason}."


def _more(
    plan: ComparisonPlan, point: OperatingPoint, trials: Sequence[Trial], at_primary: Sequence[Judged], outcome: Outcome
) -> bool:
    """Whether another block could settle it. A campaign whose blocks keep failing ends after twice the preset limit."""
    tried = {trial.block for trial in trials if trial.point == point.name}
    if outcome != "INCONCLUSIVE" or len(tried) >= ATTEMPTS * plan.thresholds.max_blocks:
        return False
    return any(pair.more_blocks for pair in _leading(at_primary) if pair.result.outcome == "INCONCLUSIVE")


def _remarks(
    plan: ComparisonPlan,
    judged: dict[str, list[Judged]],
    primary: OperatingPoint,
    winner: Judged | None,
    floor: NoiseFloor | None,
) -> list[str]:
    remarks = [_floor_note(floor)]
    at_primary = judged[primary.name]
    for pair in at_primary:
        if pair.arm.role == "no_spec" and pair.value > 1 and (winner is None or winner.arm.name != pair.arm.name):
            slower = [p for p in at_primary if p.arm.role == "candidate" and p.value < pair.value]
            if slower:
                remarks.append(
                    f"{pair.arm.name}, without speculation, is faster ({pair.value:.3f}x) than {slower[0].arm.name} "
                    f"({slower[0].value:.3f}x): turning speculation off is the better proposal here"
                )
        better = winner and pair.value > winner.value and pair.arm.name != winner.arm.name
        if better and winner:
            why = "a WIN at tier draft only" if pair.result.outcome == "WIN" else pair.result.outcome
            remarks.append(f"{pair.arm.name} looks faster still but is {why}: {pair.result.reason}")
    for name, pairs in judged.items():
        remarks += [
            f"at {name}, not primary: {pair.result.reason}"
            for pair in pairs
            if name != primary.name and pair.result.speedup and pair.result.speedup.high < 1
        ]
    return remarks


def _floor_note(floor: NoiseFloor | None) -> str:
    if floor is None:
        return "no A/A trials: how far equal servers differ here was not measured"
    starts = "not measured" if floor.between_starts is None else f"{100 * floor.between_starts:.2g} %"
    needed = "more than 200" if floor.blocks_needed is None else str(floor.blocks_needed)
    used = "" if floor.usable else ", too few to be used"
    return (
        f"A/A over {floor.pairs} pairs{used}: {100 * floor.between_blocks:.2g} % between blocks, {starts} between "
        f"starts; smallest gain worth claiming {100 * floor.smallest_claimable:.2g} %; "
        f"{needed} blocks for a gain of twice the smallest in the plan"
    )
