"""A/A: how far equal servers differ here, and what gain is therefore worth claiming.

An A/A pair is two trials of the baseline in one block: two trials with traffic `aa` (arms `<baseline>#a` and
`<baseline>#b`, or the baseline's own name twice), or one such trial beside the baseline's ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.verdict.estimate import paired_log, starts_of, tpot
from draftsmith.verdict.power import blocks_needed, smallest_gain
from draftsmith.verdict.sequential import BlockLog, Rule, StartNoise, start_groups
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
    for block, found in sorted(twins.items()):
        found.sort(key=lambda t: (t.arm, t.order, t.trial_id))
        pair = found if len(found) > 1 else [*plain.get(block, [])[:1], *found]
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


def floor_of(logs: list[BlockLog], plan: ComparisonPlan) -> NoiseFloor:
    """The floor from A/A log ratios. Their true mean is zero, so spread is taken about zero and includes any bias."""
    same = [log.value for log in logs if len(log.starts) == 1]
    groups = start_groups([log for log in logs if len(log.starts) > 1])
    inner = [value - sum(group) / len(group) for group in groups for value in group]
    freedom = len(same) + sum(len(group) - 1 for group in groups)
    total = _rms([log.value for log in logs])
    blocks = math.sqrt((sum(v * v for v in same) + sum(v * v for v in inner)) / freedom) if freedom else total
    starts = _rms([sum(group) / len(group) for group in groups]) if groups else None
    limits = plan.thresholds
    rule = Rule.of(limits)
    # With restarts every block draws its own starts; without, one draw of the starts is in all of them.
    per_block = total if plan.restarts or starts is None else blocks
    shared = 0.0 if plan.restarts or starts is None else starts
    return NoiseFloor(
        between_blocks=blocks,
        between_starts=starts,
        start_pairs=len(groups),
        pairs=len(logs),
        smallest_claimable=smallest_gain(per_block, rule, shared),
        blocks_needed=blocks_needed(per_block, 2 * limits.min_gain, limits.confidence, thresholds=limits),
        usable=len(logs) >= ENOUGH_PAIRS,
    )


def _rms(numbers: list[float]) -> float:
    return math.sqrt(sum(value * value for value in numbers) / len(numbers))
