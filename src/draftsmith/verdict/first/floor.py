"""A/A: how far equal servers differ here, and what gain is therefore worth claiming.

An A/A pair is two trials of the baseline in one block: two trials with traffic `aa` (arms `<baseline>#a` and
`<baseline>#b`, or the baseline's own name twice), or one such trial beside the baseline's ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.verdict.blocks import BlockLog, start_groups
from draftsmith.verdict.estimate import paired_log, starts_of, tpot
from draftsmith.verdict.first.power import blocks_needed, smallest_gain
from draftsmith.verdict.first.sequential import Rule, StartNoise
from draftsmith.verdict.validate import base_arm

ENOUGH_PAIRS = 3


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviations of log(TPOT / TPOT) of equal servers.

    `between_starts` is None if every pair shared one server; where blocks and starts cannot be told apart both are in
    it, which errs on the safe side. `smallest_claimable` is a fraction (0.03 = 3 %): what equal servers may still show
    after the preset number of blocks. `blocks_needed` is for a true gain of twice the plan's `min_gain`. A floor from
    fewer than three pairs is shown and not used (`usable`).
    """

    between_blocks: float
    between_starts: float | None
    start_pairs: int
    pairs: int
    smallest_claimable: float
    blocks_needed: int | None
    usable: bool

    def start_noise(self) -> StartNoise | None:
        """The spread between starts as the stopping rule wants it; None if too few starts were seen."""
        if self.between_starts is None or self.start_pairs < ENOUGH_PAIRS:
            return None
        return StartNoise(self.between_starts, self.start_pairs)


def aa_logs(plan: ComparisonPlan, trials: Iterable[Trial], point: str) -> list[BlockLog]:
    """Per block, log(median TPOT of twin a / median TPOT of twin b), paired by prompt."""
    twins: dict[int, list[Trial]] = {}
    plain: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.point == point and base_arm(trial.arm) == plan.baseline:
            if trial.traffic == "aa":
                twins.setdefault(trial.block, []).append(trial)
            elif trial.traffic == "own":
                plain.setdefault(trial.block, []).append(trial)
    logs = []
    for block, rows in sorted(twins.items()):
        rows.sort(key=lambda t: (t.arm, t.order, t.trial_id))
        pair = rows if len(rows) > 1 else [*plain.get(block, [])[:1], *rows]
        if len(pair) < 2:
            continue
        value = paired_log((pair[0],), (pair[1],), tpot)
        if value is not None:
            logs.append(BlockLog(block, value, starts_of((pair[0],), (pair[1],))))
    return logs


def noise_floor(plan: ComparisonPlan, trials: Iterable[Trial], point: str) -> NoiseFloor | None:
    """The floor at one operating point from valid trials; None without an A/A pair."""
    logs = aa_logs(plan, trials, point)
    return floor_of(logs, plan) if logs else None


def floor_of(logs: Sequence[BlockLog], plan: ComparisonPlan) -> NoiseFloor:
    """The floor from A/A log ratios of at least one pair."""
    parts = components(logs)
    limits = plan.thresholds
    return NoiseFloor(
        between_blocks=parts.blocks,
        between_starts=parts.starts,
        start_pairs=parts.start_pairs,
        pairs=len(logs),
        smallest_claimable=claimable_gain(parts, Rule.of(limits), restarts=plan.restarts),
        blocks_needed=blocks_needed(
            parts.per_block(plan.restarts), 2 * limits.min_gain, limits.confidence, thresholds=limits
        ),
        usable=len(logs) >= ENOUGH_PAIRS,
    )


@dataclass(frozen=True)
class Components:
    """Standard deviations of A/A log ratios: between blocks, between starts (None = one server only), together."""

    blocks: float
    starts: float | None
    start_pairs: int
    total: float

    def per_block(self, restarts: bool) -> float:
        """What one block adds: with restarts every block draws its own starts, without it keeps them."""
        return self.total if restarts or self.starts is None else self.blocks


def components(logs: Sequence[BlockLog]) -> Components:
    """Split A/A noise. The true mean is zero, so spread is taken about zero: a bias between twins counts as noise."""
    same = [log.value for log in logs if len(log.starts) == 1]
    groups = start_groups([log for log in logs if len(log.starts) > 1])
    inner = [value - sum(group) / len(group) for group in groups for value in group]
    freedom = len(same) + sum(len(group) - 1 for group in groups)
    total = _rms([log.value for log in logs])
    squares = sum(value * value for value in (*same, *inner))
    return Components(
        blocks=math.sqrt(squares / freedom) if freedom else total,
        starts=_rms([sum(group) / len(group) for group in groups]) if groups else None,
        start_pairs=len(groups),
        total=total,
    )


def claimable_gain(parts: Components, rule: Rule, *, restarts: bool) -> float:
    """The gain (fraction) that equal servers may still show after the preset number of blocks."""
    shared = 0.0 if restarts or parts.starts is None else parts.starts
    return smallest_gain(parts.per_block(restarts), rule, shared)


def _rms(numbers: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in numbers) / len(numbers))
