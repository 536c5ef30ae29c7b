"""How many blocks a comparison will need, before it is run."""

from __future__ import annotations

import math

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import critical
from draftsmith.verdict.first.sequential import LAST_SHARE, Rule

MOST_BLOCKS = 200


def blocks_needed(
    floor: float, gain: float, confidence: float, *, power: float = 0.9, thresholds: Thresholds | None = None
) -> int | None:
    """Fewest blocks that promote a true `gain` with probability `power` at the last look.

    `floor` is the sd of one block's log ratio, `gain` a fraction (0.05 = 5 %). None if the gain is below what may be
    claimed at all, or if more than 200 blocks would be needed.
    """
    limits = (thresholds or Thresholds()).model_copy(update={"confidence": confidence})
    rule = Rule.of(limits)
    if math.log1p(gain) <= rule.claim:
        return None
    return next((n for n in range(rule.first, MOST_BLOCKS + 1) if _power(floor, gain, n, rule) >= power), None)


def _power(sd: float, gain: float, blocks: int, rule: Rule) -> float:
    """Chance to pass the last look alone: the weakest of the rule's three conditions decides (a good lower bound)."""
    from scipy import special

    effect = math.log1p(gain)
    if sd <= 0:
        return 1.0
    error = sd / math.sqrt(blocks)
    share = LAST_SHARE if blocks > rule.first else 1.0
    above_bar = _clears(critical(rule.alpha * share, blocks - 1), blocks - 1, (effect - rule.bar) / error)
    above_zero = _clears(critical(rule.alpha_equal * share, blocks - 1), blocks - 1, effect / error)
    above_claim = float(special.ndtr((effect - rule.claim) / error))
    return min(above_bar, above_zero, above_claim)


def _clears(limit: float, freedom: int, shift: float) -> float:
    from scipy import special

    return 1.0 - float(special.nctdtr(freedom, shift, limit))


def smallest_gain(sd: float, rule: Rule, start_sd: float = 0.0) -> float:
    """The gain (fraction) that equal servers may still show after the last block: half the width of their interval."""
    alpha = rule.alpha * LAST_SHARE
    width = critical(alpha, rule.last - 1) * sd / math.sqrt(rule.last) + critical(alpha, 0) * start_sd
    return math.expm1(width)
