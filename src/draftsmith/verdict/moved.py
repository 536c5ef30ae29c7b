"""What moved between two campaigns beyond the noise of both, by the gate's own intervals. Pure.

Speed-ups are compared, not times: each is taken within its own campaign, beside its own baseline, so a machine that is slower today
moves neither. The gate's intervals cover blocks and starts; two that are independent combine as the root of their squares.
The gate computes no interval for acceptance lengths: it is computed here from the blocks of each campaign (Welch's t).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from draftsmith.contract.base import Frozen
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision, Interval

LEAST = 0.01  # a move of less than one per cent is none, however sure
Direction = Literal["better", "worse", "same", "unknown"]


class Campaign(Frozen):
    """What a bundle holds, as far as it is compared."""

    plan: ComparisonPlan
    decision: Decision
    trials: tuple[Trial, ...]
    facts: tuple[tuple[str, EngineFacts], ...]


class Move(Frozen):
    """One figure in both. `change` is the ratio after/before (above 1: more), with its interval; None = cannot be told."""

    what: str
    before: float | None
    after: float | None
    change: Interval | None
    direction: Direction

    def sentence(self) -> str:
        """For people."""
        if self.change is None or self.before is None or self.after is None:
            return f"{self.what}: cannot be told"
        span = f"[{self.change.low:.3f}, {self.change.high:.3f}] at {self.change.confidence:.0%}"
        return f"{self.what}: {self.before:.3f} -> {self.after:.3f}, {self.change.value:.3f}x {span}: {self.direction}"


def moves(before: Campaign, after: Campaign) -> list[Move]:
    """Speed-ups of pairs and acceptance lengths of arms that both campaigns have, by name and operating point."""
    changes = []
    for pair in after.decision.pairs:
        key = (pair.candidate, pair.baseline, pair.point)
        old = next((p for p in before.decision.pairs if (p.candidate, p.baseline, p.point) == key), None)
        if old is not None and old.measure == pair.measure:
            title = f"speed-up of {pair.candidate} over {pair.baseline} at {pair.point}"
            changes.append(speed_move(title, old.speedup, pair.speedup))
    for arm in after.decision.arms:
        earlier = next((a for a in before.decision.arms if (a.arm, a.point) == (arm.arm, arm.point)), None)
        if earlier is not None and (earlier.acceptance_length or arm.acceptance_length):
            confidence = after.plan.thresholds.confidence
            left, right = _lengths(before, arm.arm, arm.point), _lengths(after, arm.arm, arm.point)
            changes.append(_length(f"acceptance length of {arm.arm} at {arm.point}", left, right, confidence))
    return changes


def unlike(before: Campaign, after: Campaign) -> list[str]:
    """In what the two differ beside time, one sentence each: then a move has more than one possible cause."""
    sentences = []
    for name, value in (("prompts", "prompts_sha256"), ("regime of the cache", "cache_regime"), ("measure", "primary")):
        left, right = getattr(before.plan, value), getattr(after.plan, value)
        if left != right:
            sentences.append(f"{name}: {str(left)[:16]} before, {str(right)[:16]} after")
    first, second = dict(before.facts), dict(after.facts)
    for arm in sorted(first.keys() & second.keys()):
        for name in ("engine", "version", "device", "dtype", "graph_mode", "enforce_eager", "runner", "max_num_seqs"):
            left, right = getattr(first[arm], name), getattr(second[arm], name)
            if left != right:
                sentences.append(f"{name} of {arm}: {left} before, {right} after")
    old_points = {point.name: point for point in before.plan.points}
    for point in after.plan.points:
        if (old := old_points.get(point.name)) is not None and old.concurrency != point.concurrency:
            sentences.append(f"concurrency of {point.name}: {old.concurrency} before, {point.concurrency} after")
    return sentences


def speed_move(title: str, before: Interval | None, after: Interval | None) -> Move:
    """How a speed-up moved between two campaigns: `unknown` where one has none or an interval that is open or not positive."""
    usable = [
        interval for interval in (before, after) if interval and interval.low > 0 and math.isfinite(interval.high)
    ]
    if before is None or after is None or len(usable) < 2:
        known = (before.value if before else None, after.value if after else None)
        return Move(what=title, before=known[0], after=known[1], change=None, direction="unknown")
    middle = math.log(after.value / before.value)
    # The wider side of each: intervals need not be symmetric.
    down = math.hypot(math.log(after.value / after.low), math.log(before.high / before.value))
    up = math.hypot(math.log(after.high / after.value), math.log(before.value / before.low))
    return _move(title, before.value, after.value, middle, (down, up), min(before.confidence, after.confidence))


def _lengths(campaign: Campaign, arm: str, point: str) -> list[float]:
    """Acceptance length of each block, on the arm's own traffic."""
    blocks: dict[int, list[Trial]] = {}
    for trial in campaign.trials:
        if (trial.arm, trial.point, trial.traffic) == (arm, point, "own") and trial.counters.drafts:
            blocks.setdefault(trial.block, []).append(trial)
    return [
        1 + sum(t.counters.accepted_tokens for t in block) / sum(t.counters.drafts for t in block)
        for block in blocks.values()
    ]


def _length(title: str, before: Sequence[float], after: Sequence[float], confidence: float) -> Move:
    if min(len(before), len(after)) < 2:
        return Move(what=title, before=None, after=None, change=None, direction="unknown")
    logs = [[math.log(value) for value in side] for side in (before, after)]
    shares = [statistics.variance(side) / len(side) for side in logs]
    error = math.sqrt(sum(shares))
    freedom = (
        sum(shares) ** 2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, logs, strict=True))
        if error > 0
        else 1.0
    )
    from scipy import special  # scipy.stats says the same and takes a second to import

    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    middle = statistics.mean(logs[1]) - statistics.mean(logs[0])
    known = (math.exp(statistics.mean(logs[0])), math.exp(statistics.mean(logs[1])))
    return _move(title, *known, middle, (half, half), confidence)


def _move(
    title: str, before: float, after: float, middle: float, halves: tuple[float, float], confidence: float
) -> Move:
    low, high = middle - halves[0], middle + halves[1]
    surely = (low > 0 or high < 0) and abs(middle) >= math.log1p(LEAST)
    direction: Direction = "same" if not surely else "better" if middle > 0 else "worse"
    change = Interval(value=math.exp(middle), low=math.exp(low), high=math.exp(high), confidence=confidence)
    return Move(what=title, before=before, after=after, change=change, direction=direction)
