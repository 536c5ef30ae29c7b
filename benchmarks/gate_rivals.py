"""Rules beside the gate, on the same worlds: its first edition, t with peeking, Mann-Whitney, a confidence sequence."""

from __future__ import annotations

import math

import numpy as np
from gate_worlds import Array, Lab, World

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import BlockLog, critical
from draftsmith.verdict.first.floor import claimable_gain, components
from draftsmith.verdict.first.sequential import Rule, StartNoise, spread

PROMPTS = 24
BLOCKS = 8


def first_edition(world: World, rng: np.random.Generator) -> bool:
    """The first edition as it measured: the same prompts in every block, whole passes one after the other, medians.

    New servers for every block unless the world has one start; then promoted means without a declared spread, which
    stays at tier draft: never.
    """
    lab = Lab(world, rng, prompts=PROMPTS, visit=PROMPTS)
    chosen = lab.left = [int(i) for i in rng.permutation(world.held_out)]
    limits = Thresholds()
    logs: list[BlockLog] = []
    twins: list[BlockLog] = []
    for number in range(BLOCKS):
        lab.left = list(chosen)
        if number and not world.one_start:
            lab.restart()
        medians = {
            t.arm: float(np.median([s.tpot_s or 0.0 for s in t.samples])) for t in lab.block() if t.traffic != "general"
        }
        starts = (f"b{lab.starts}", f"c{lab.starts}")
        logs.append(BlockLog(number, math.log(medians["standing"] / medians["tailored"]), starts))
        twins.append(BlockLog(number, math.log(medians["standing"] / medians["standing#b"]), starts[:1]))
        if number + 1 < limits.min_blocks:
            continue
        floor = components(twins)
        rule = Rule.of(limits, claimable=claimable_gain(floor, Rule.of(limits), restarts=not world.one_start))
        known = StartNoise(floor.starts, floor.start_pairs) if floor.starts is not None else None
        result = spread(logs, known, floor.blocks)
        call = rule.settle(result).call if result else "open"
        if call != "open":
            return call == "faster" and result is not None and result.starts_known
    return False


def peeking_t(logs: Array) -> bool:
    """Naive: a 95 % t interval after every block, promoted as soon as one excludes zero."""
    for n in range(3, len(logs) + 1):
        seen = logs[:n]
        if seen.mean() > critical(0.025, n - 1) * seen.std(ddof=1) / math.sqrt(n):
            return True
    return False


def mann_whitney(base: Array, cand: Array) -> bool:
    """Naive: requests as samples after three blocks, one-sided at 1 %."""
    from scipy import stats

    return bool(stats.mannwhitneyu(cand, base, alternative="less").pvalue < 0.01)


def sequence(logs: Array, alpha: float = 0.01, tuned_for: int = 8) -> bool:
    """An asymptotic confidence sequence (Waudby-Smith et al. 2024): promoted when its lower end passes zero, ever."""
    rho2 = (-2 * math.log(2 * alpha) + math.log(-2 * math.log(2 * alpha) + 1)) / tuned_for
    for n in range(3, len(logs) + 1):
        seen = logs[:n]
        inner = 2 * (n * rho2 + 1) / (n * n * rho2) * math.log(1 + math.sqrt(n * rho2 + 1) / (2 * alpha))
        if seen.mean() > seen.std() * math.sqrt(inner):
            return True
    return False
