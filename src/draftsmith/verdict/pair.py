"""One arm against the baseline at one operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.contract.measure import Arm
from draftsmith.contract.verdict import Interval, Need, Outcome, PairResult
from draftsmith.verdict.arms import may_forget, says_speculation
from draftsmith.verdict.bench import Bench, promotable
from draftsmith.verdict.estimate import rounded
from draftsmith.verdict.guards import Checked, Sides, check_all, data_blocks, errors
from draftsmith.verdict.measures import MEASURE_WORDS, BlockPair
from draftsmith.verdict.rule import Look, Rule, Settled
from draftsmith.verdict.spread import Estimate
from draftsmith.verdict.summary import merged

ACCEPTANCE_SLACK = 1.15


@dataclass(frozen=True)
class Judged:
    """A pair's result, with what the whole decision needs and the contract does not carry."""

    result: PairResult
    arm: Arm
    need: Need
    checks: tuple[Checked, ...]
    data: Estimate | None
    settled: Settled | None
    aparts: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """The estimated speedup, 0 where there is none."""
        return math.exp(self.settled.value) if self.settled else 0.0


def judge(bench: Bench, arm: Arm) -> Judged:
    """The pair's estimate, guards, outcome and one-sentence reason."""
    rule = bench.rule(arm)
    every = bench.pairs(bench.plan.baseline, arm.name)
    look = rule.look(every)
    used = every[: look.blocks]
    estimate = rule.estimate(used)
    shared = bench.shared(arm.name)
    blocks = {b for b in shared if not used or len(used) == len(every) or b <= used[-1].block}
    if estimate is None:
        return _without_ratio(bench, arm, rule, blocks)
    settled = rule.settle(estimate, look)
    counts = bench.sides(bench.own, arm.name, blocks, rule, look.share)
    own = bench.sides(bench.own, arm.name, {pair.block for pair in used}, rule, look.share)
    general = bench.sides(bench.general, arm.name, blocks, rule, look.share) if may_forget(arm) else None
    checks = check_all(own, counts, general, bench.plan.thresholds, estimate.mean)
    outcome, reason, more = _outcome(bench, arm, rule, look, estimate, settled, checks, own)
    confidence = bench.plan.thresholds.confidence
    half_width = estimate.half_width_here(rule.alpha * look.share)
    result = PairResult(
        candidate=arm.name,
        baseline=bench.plan.baseline,
        point=bench.point.name,
        blocks=estimate.blocks,
        speedup=_interval(settled.value, settled.value - settled.low, confidence),
        block_ratios=tuple(_speedup(pair.value) for pair in used),
        min_speedup=_speedup(rule.bar),
        guards=tuple(check.guard() for check in checks),
        outcome=outcome,
        reason=reason,
        measure=bench.plan.primary,
        starts=estimate.groups,
        prompts=estimate.prompts,
        these_starts=_interval(settled.value, half_width, confidence),
    )
    need: Need = rule.need(every) if more else "done"
    aparts = tuple(pair.apart for pair in used if pair.apart is not None)
    return Judged(result, arm, need, checks, estimate, settled, aparts)


def _without_ratio(bench: Bench, arm: Arm, rule: Rule, blocks: set[int]) -> Judged:
    """No block gave a ratio. That is no evidence against the arm, unless its requests were recorded as failing."""
    limit = bench.plan.thresholds.error_rate_margin
    look = rule.look([BlockPair(block, 0.0, (), {}) for block in sorted(blocks)])
    counts = bench.sides(bench.own, arm.name, blocks, rule, look.share)
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
        measure=bench.plan.primary,
    )
    return Judged(result, arm, "done" if lost else "blocks", tuple(checks), None, None)


def _outcome(
    bench: Bench,
    arm: Arm,
    rule: Rule,
    look: Look,
    estimate: Estimate,
    settled: Settled,
    checks: Sequence[Checked],
    own: Sides,
) -> tuple[Outcome, str, bool]:
    """Outcome, reason, and whether more measurement could change it. The first sentence that applies."""
    numbers = _numbers(bench, arm, estimate, settled)
    left = not look.final
    if any(check.state == "failed" and check.suspect for check in checks):
        broken = next(check for check in checks if check.suspect)
        return "INCONCLUSIVE", f"{numbers}, but the measurement does not hold: {broken.sentence}", left
    failed = [check for check in checks if check.state == "failed"]
    if failed and estimate.blocks >= rule.first:
        return "LOSS", f"{numbers}, and the guard {failed[0].name} failed: {failed[0].sentence}", False
    if settled.call == "not_faster":
        return "LOSS", f"{numbers}: less than the {_gain(rule.claim)} worth having", False
    if settled.call == "open":
        return "INCONCLUSIVE", f"{numbers}: {_why_open(rule, look, estimate, settled)}", left
    doubt = _acceptance_doubt(bench, arm, own, settled)
    if doubt:
        return "INCONCLUSIVE", f"{numbers}, but {doubt}", False
    unsettled = [check for check in checks if check.state in ("unsettled", "failed")]
    if unsettled:
        words = f"the guard {unsettled[0].name} is not settled: {unsettled[0].sentence}"
        return "INCONCLUSIVE", f"{numbers}, but {words}", left
    slower = _slower_than_nothing(bench, arm, rule, look)
    if slower:
        return "LOSS", f"{numbers}, but {slower}", False
    held = "and every guard holds" if all(c.state == "held" for c in checks) else "and no guard speaks against it"
    return "WIN", f"{numbers}: the lower end clears {_speedup(rule.bar):.3f}x {held}", False


def _numbers(bench: Bench, arm: Arm, estimate: Estimate, settled: Settled) -> str:
    low, high = (f"{math.exp(x):.3f}" if math.isfinite(x) and x < 99 else "?" for x in (settled.low, settled.high))
    shown = f"{low} to {high}" if math.isfinite(settled.low) and settled.low > -99 else "no interval yet"
    starts = f"{estimate.groups} start{'s' if estimate.groups != 1 else ''}"
    return (
        f"{arm.name} is {math.exp(settled.value):.3f}x as fast as {bench.plan.baseline} in "
        f"{MEASURE_WORDS[bench.plan.primary]} at {bench.point.name} over {data_blocks(range(estimate.blocks))}, "
        f"{estimate.prompts} prompts and {starts} ({shown})"
    )


def _why_open(rule: Rule, look: Look, estimate: Estimate, settled: Settled) -> str:
    if estimate.blocks < rule.first:
        return f"nothing is inferred from fewer than {rule.first} blocks"
    if settled.value < rule.claim:
        return f"the estimate does not reach the {_gain(rule.claim)} worth claiming, and chance is not excluded"
    limit = f"within the preset {estimate.blocks} blocks" if look.final else "yet"
    doubt = rule.doubt(estimate) if settled.low > rule.bar and settled.value >= settled.passed else None
    if doubt == "one_start":
        return "the interval clears the bar, but one start of each server says little of the next"
    if doubt == "starts_differ":
        return f"the interval clears the bar, but {estimate.groups} starts do not agree well enough {limit}"
    if doubt == "few_blocks":
        return (
            f"the gain may rest on a few blocks: {estimate.above(rule.bar)} of {estimate.blocks} are above {_speedup(rule.bar):.3f}x, "
            f"which is too few, and the median block shows {_speedup(estimate.typical):.3f}x"
        )
    if estimate.kind == "bound" and estimate.bound > 0:
        return (
            f"with fewer than {rule.needed} independent starts the gain has to survive the worst start effect on record "
            f"({math.exp(estimate.bound):.2f}x), and it does not {limit}"
        )
    return f"the interval does not clear {_speedup(rule.bar):.3f}x {limit}"


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
    if bounded and bench.plan.primary != "goodput" and settled.low > math.log(length * ACCEPTANCE_SLACK):
        return f"its acceptance length of {length:.2f} cannot give such a speedup over no speculation"
    return None


def _slower_than_nothing(bench: Bench, arm: Arm, rule: Rule, look: Look) -> str | None:
    """A sentence if the arm is shown to be slower than an arm without speculation."""
    if arm.role == "no_spec":
        return None
    for other in promotable(bench.plan):
        if other.role != "no_spec":
            continue
        estimate = rule.estimate(bench.pairs(other.name, arm.name)[: look.blocks])
        if estimate is not None and estimate.mean + estimate.half_width(rule.alpha * look.share) < 0:
            return f"{other.name}, without speculation, is {math.exp(-estimate.mean):.3f}x as fast as {arm.name}"
    return None


def _interval(log: float, width: float, confidence: float) -> Interval | None:
    if not math.isfinite(width) or width > 99:
        return None
    return Interval(value=_speedup(log), low=_speedup(log - width), high=_speedup(log + width), confidence=confidence)


def _speedup(log: float) -> float:
    return rounded(math.exp(log)) or 0.0


def _gain(log: float) -> str:
    return f"{100 * math.expm1(log):.1f} %"
