"""One arm against the baseline at one operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Trial
from draftsmith.contract.verdict import Interval, Outcome, PairResult
from draftsmith.verdict.arms import may_forget, says_speculation
from draftsmith.verdict.blocks import BlockLog
from draftsmith.verdict.estimate import Cell, cells, rounded, tpot_logs
from draftsmith.verdict.first.floor import NoiseFloor
from draftsmith.verdict.first.guards import Checked, Sides, check_all, data_blocks, errors
from draftsmith.verdict.first.sequential import Rule, Settled, Spread, StartNoise, spread
from draftsmith.verdict.summary import merged

CANDIDATE_SHARE = 0.75
ACCEPTANCE_SLACK = 1.15


@dataclass(frozen=True)
class Judged:
    """A pair's result, with what the whole decision needs and the contract does not carry."""

    result: PairResult
    arm: Arm
    more_blocks: bool
    checks: tuple[Checked, ...]
    data: Spread | None

    @property
    def value(self) -> float:
        """The estimated speedup, 0 where there is none."""
        return self.result.speedup.value if self.result.speedup else 0.0


@dataclass(frozen=True)
class Bench:
    """The evidence of one operating point, laid out once for all pairs."""

    plan: ComparisonPlan
    point: OperatingPoint
    own: dict[str, dict[int, Cell]]
    general: dict[str, dict[int, Cell]]
    floor: NoiseFloor | None

    @classmethod
    def of(
        cls, plan: ComparisonPlan, point: OperatingPoint, trials: Sequence[Trial], floor: NoiseFloor | None
    ) -> Bench:
        """Lay out the valid trials of one point."""
        return cls(plan, point, cells(trials, point.name, "own"), cells(trials, point.name, "general"), floor)

    def start_noise(self) -> StartNoise | None:
        """How far two starts differ: measured by A/A over three pairs of starts or more, else as the plan declares."""
        measured = self.floor.start_noise() if self.floor else None
        declared = self.plan.thresholds.start_noise
        if measured is not None or declared is None:
            return measured
        seen = (self.floor.between_starts if self.floor else None) or 0.0
        return StartNoise(max(declared, seen))

    def equal_sd(self) -> float:
        """How far one block's log ratio of equal servers lies from zero here; 0 where too few pairs say so."""
        return self.floor.between_blocks if self.floor and self.floor.usable else 0.0

    def rule(self, arm: Arm) -> Rule:
        """The preset rule for one arm: its share of the error, and the floor's say in what may be claimed."""
        claimable = self.floor.smallest_claimable if self.floor and self.floor.usable else 0.0
        return Rule.of(self.plan.thresholds, share=error_share(self.plan, arm), claimable=claimable)

    def logs(self, slow: str, fast: str, last: int) -> list[BlockLog]:
        """Per-block log ratios, at most the preset number of blocks."""
        return tpot_logs(self.own.get(slow, {}), self.own.get(fast, {}))[:last]

    def blocks(self, arm: str, logs: Sequence[BlockLog], last: int) -> set[int]:
        """Blocks in which both arms have valid trials, with or without a ratio, as far as the preset limit reaches."""
        shared = self.own.get(self.plan.baseline, {}).keys() & self.own.get(arm, {}).keys()
        return {block for block in shared if len(logs) < last or block <= logs[-1].block}

    def sides(self, table: dict[str, dict[int, Cell]], arm: str, blocks: set[int], alpha: float) -> Sides:
        """Both arms' cells over those of `blocks` that both have."""
        base, cand = table.get(self.plan.baseline, {}), table.get(arm, {})
        use = sorted(base.keys() & cand.keys() & blocks)
        return Sides(
            {b: base[b] for b in use},
            {b: cand[b] for b in use},
            alpha,
            self.start_noise(),
            closed_loop=not self.point.open_loop,
        )


def promotable(plan: ComparisonPlan) -> tuple[Arm, ...]:
    """The arms on trial: all but the baseline and a second arm of role `standing`."""
    return tuple(arm for arm in plan.arms if arm.name != plan.baseline and arm.role != "standing")


def error_share(plan: ComparisonPlan, arm: Arm) -> float:
    """This arm's part of the allowed error: weighted Bonferroni, three quarters to the candidates.

    The other quarter belongs to the reference arms (no speculation, n-gram...), which may win as well. With only one
    kind of arm, that kind has it all.
    """
    arms = promotable(plan)
    same = sum(1 for other in arms if (other.role == "candidate") == (arm.role == "candidate"))
    if same == len(arms):
        return 1.0 / same
    return (CANDIDATE_SHARE if arm.role == "candidate" else 1 - CANDIDATE_SHARE) / same


def judge(bench: Bench, arm: Arm) -> Judged:
    """The pair's estimate, guards, outcome and one-sentence reason."""
    rule = bench.rule(arm)
    logs = bench.logs(bench.plan.baseline, arm.name, rule.last)
    data = spread(logs, bench.start_noise(), bench.equal_sd())
    every = bench.blocks(arm.name, logs, rule.last)
    counts = bench.sides(bench.own, arm.name, every, rule.alpha_at(min(len(every), rule.last)))
    if data is None:
        return _without_ratio(bench, arm, rule, counts)
    settled = rule.settle(data)
    alpha = rule.alpha_at(data.blocks)
    own = bench.sides(bench.own, arm.name, {log.block for log in logs}, alpha)
    general = bench.sides(bench.general, arm.name, every, alpha) if may_forget(arm) else None
    checks = check_all(own, counts, general, bench.plan.thresholds)
    outcome, reason, more = _outcome(bench, arm, rule, data, settled, checks, own)
    result = PairResult(
        candidate=arm.name,
        baseline=bench.plan.baseline,
        point=bench.point.name,
        blocks=data.blocks,
        speedup=_interval(settled, bench.plan.thresholds.confidence),
        block_ratios=tuple(_speedup(log.value) for log in logs),
        min_speedup=_speedup(rule.bar),
        guards=tuple(check.guard() for check in checks),
        outcome=outcome,
        reason=reason,
    )
    return Judged(result, arm, more, checks, data)


def _without_ratio(bench: Bench, arm: Arm, rule: Rule, counts: Sides) -> Judged:
    """No block gave a ratio. That is no evidence against the arm, unless its requests were recorded as failing."""
    limit = bench.plan.thresholds.error_rate_margin
    checks = [errors(counts, limit)] if counts.base else []
    lost = len(counts.base) >= rule.first and any(check.state == "failed" for check in checks)
    reason = f"{arm.name} and {bench.plan.baseline} have no block in which both gave times to compare"
    if lost:
        reason += f", and the guard errors failed: {checks[0].sentence}"
    result = PairResult(
        candidate=arm.name,
        baseline=bench.plan.baseline,
        point=bench.point.name,
        blocks=0,
        speedup=None,
        min_speedup=_speedup(rule.bar),
        guards=tuple(check.guard() for check in checks),
        outcome="LOSS" if lost else "INCONCLUSIVE",
        reason=reason,
    )
    return Judged(result, arm, not lost, tuple(checks), None)


def _outcome(
    bench: Bench, arm: Arm, rule: Rule, data: Spread, settled: Settled, checks: Sequence[Checked], own: Sides
) -> tuple[Outcome, str, bool]:
    """Outcome, reason, and whether more blocks could change it. The first sentence that applies."""
    numbers = _numbers(bench, arm, data, settled)
    left = data.blocks < rule.last
    if any(check.state == "failed" and check.suspect for check in checks):
        broken = next(check for check in checks if check.suspect)
        return "INCONCLUSIVE", f"{numbers}, but the measurement does not hold: {broken.sentence}", left
    failed = [check for check in checks if check.state == "failed"]
    if failed and data.blocks >= rule.first:
        return "LOSS", f"{numbers}, and the guard {failed[0].name} failed: {failed[0].sentence}", False
    if settled.call == "not_faster":
        return "LOSS", f"{numbers}: less than the {_gain(rule.wanted)} worth having", False
    if settled.call == "open":
        return "INCONCLUSIVE", f"{numbers}: {_why_open(rule, data, settled)}", left
    doubt = _acceptance_doubt(bench, arm, own, settled)
    if doubt:
        return "INCONCLUSIVE", f"{numbers}, but {doubt}", False
    unsettled = [check for check in checks if check.state in ("unsettled", "failed")]
    if unsettled:
        words = f"the guard {unsettled[0].name} is not settled: {unsettled[0].sentence}"
        return "INCONCLUSIVE", f"{numbers}, but {words}", left
    slower = _slower_than_nothing(bench, arm, rule)
    if slower:
        return "LOSS", f"{numbers}, but {slower}", False
    return "WIN", f"{numbers}: the lower end clears {_speedup(rule.bar):.3f}x and every guard holds", False


def _numbers(bench: Bench, arm: Arm, data: Spread, settled: Settled) -> str:
    low, high = (f"{math.exp(x):.3f}" if math.isfinite(x) else "?" for x in (settled.low, settled.high))
    shown = f"{low} to {high}" if math.isfinite(settled.low) else "no interval yet"
    return (
        f"{arm.name} is {math.exp(settled.value):.3f}x as fast as {bench.plan.baseline} in median TPOT at "
        f"{bench.point.name} over {data_blocks(range(data.blocks))} ({shown})"
    )


def _why_open(rule: Rule, data: Spread, settled: Settled) -> str:
    if data.blocks < rule.first:
        return f"nothing is inferred from fewer than {rule.first} blocks"
    if settled.high < rule.claim:
        return f"equal servers differ by {_gain(rule.claim)} here, which hides any gain this could be"
    if settled.value < rule.claim:
        return f"the estimate does not reach the {_gain(rule.claim)} worth claiming, and chance is not excluded"
    if data.blocks >= rule.last:
        return f"the interval does not clear {_speedup(rule.bar):.3f}x within the preset {rule.last} blocks"
    return f"the interval does not clear {_speedup(rule.bar):.3f}x yet"


def _acceptance_doubt(bench: Bench, arm: Arm, own: Sides, settled: Settled) -> str | None:
    """Why the acceptance length contradicts a gain, if it does: AL explains, and what it cannot explain is suspect.

    An arm that does not speculate (another flag is on trial) or of which nobody knows has nothing to explain.
    """
    counters = merged(own.trials("cand"))
    speculates = says_speculation(arm)
    if speculates is False or (speculates is None and not counters.drafts):
        return None
    length = counters.acceptance_length
    if not counters.present or length is None:
        return "its server counted no drafts at all, so speculation cannot be the cause"
    if length <= 1.0:
        return f"its acceptance length is {length:.2f}: no drafted token was accepted, so it cannot be the cause"
    baseline = next(a for a in bench.plan.arms if a.name == bench.plan.baseline)
    alike = arm.flags == baseline.flags and arm.env == baseline.env and arm.command is None and baseline.command is None
    bounded = alike and says_speculation(arm) and says_speculation(baseline) is False
    if bounded and settled.low > math.log(length * ACCEPTANCE_SLACK):
        return f"its acceptance length of {length:.2f} cannot give such a speedup over no speculation"
    return None


def _slower_than_nothing(bench: Bench, arm: Arm, rule: Rule) -> str | None:
    """A sentence if the arm is shown to be slower than an arm without speculation."""
    if arm.role == "no_spec":
        return None
    for other in promotable(bench.plan):
        if other.role != "no_spec":
            continue
        data = spread(bench.logs(other.name, arm.name, rule.last), bench.start_noise(), bench.equal_sd())
        if data is not None and data.mean + data.half_width(rule.alpha_at(data.blocks)) < 0:
            return f"{other.name}, without speculation, is {math.exp(-data.mean):.3f}x as fast as {arm.name}"
    return None


def _interval(settled: Settled, confidence: float) -> Interval | None:
    if not math.isfinite(settled.low):
        return None
    return Interval(
        value=_speedup(settled.value),
        low=_speedup(settled.low),
        high=_speedup(settled.high),
        confidence=confidence,
    )


def _speedup(log: float) -> float:
    return rounded(math.exp(log)) or 0.0


def _gain(log: float) -> str:
    return f"{100 * math.expm1(log):.1f} %"
