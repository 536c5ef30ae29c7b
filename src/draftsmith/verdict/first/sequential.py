"""The stopping rule: what the gate says after each block, without charging twice for looking often.

Errors are spent by the union bound over a preset schedule of looks. The look after `n` blocks has its own share of the
error (`spend`), the shares add up to the whole, and each look is an ordinary t interval at its share. Whatever the
dependence between looks, the chance that any of them errs is at most the sum. No simulation, no asymptotics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import BlockLog, critical, start_groups

Call = Literal["faster", "not_faster", "open"]

FIRST_SHARE = 0.2
LAST_SHARE = 0.5
FEWEST_GROUPS = 3
LEAST_OF_EQUAL = 0.75


def spend(blocks: int, first: int, last: int) -> float:
    """Share of the error that belongs to the look after `blocks` blocks; 0 before the first look.

    A fifth goes to the first look (large effects stop there), half to the last, the rest evenly in between.
    """
    if blocks < first or blocks > last:
        return 0.0
    if first == last:
        return 1.0
    between = last - first - 1
    if blocks == first:
        return FIRST_SHARE
    if blocks == last:
        return LAST_SHARE if between else 1.0 - FIRST_SHARE
    return (1.0 - FIRST_SHARE - LAST_SHARE) / between


@dataclass(frozen=True)
class StartNoise:
    """What is known of the spread between starts: sd of a log ratio, and its degrees of freedom (0 = taken as known)."""

    sd: float
    freedom: int = 0


@dataclass(frozen=True)
class Spread:
    """A mean of log ratios and what its error is made of.

    `se` with `freedom` is estimated from the data; `allowance` is added for starts that the data cannot show.
    `starts_known` is False where blocks share their servers and nothing says how far two starts differ.
    """

    mean: float
    se: float | None
    freedom: int
    groups: int
    blocks: int
    allowance: StartNoise | None
    starts_known: bool

    def half_width(self, alpha: float) -> float:
        """Half of the interval whose end errs with chance `alpha`; infinite without enough data."""
        if self.se is None or alpha <= 0:
            return math.inf
        width = critical(alpha, self.freedom) * self.se
        if self.allowance is not None:
            width += critical(alpha, self.allowance.freedom) * self.allowance.sd
        return width


def spread(logs: Sequence[BlockLog], start_noise: StartNoise | None = None, equal_sd: float = 0.0) -> Spread | None:
    """Mean of the blocks with its error. None without blocks.

    `equal_sd`: standard deviation of one block's log ratio between equal servers in the same blocks. Few blocks that agree
    better than those do so by luck, so the error is that of at least three quarters of it.

    Three or more independent groups of server starts: the group means are the sample, so that noise between starts and
    between blocks are both in it. Fewer: noise between blocks comes from within the groups, and the starts need
    `start_noise` from elsewhere.
    """
    if not logs:
        return None
    groups = start_groups(logs)
    count, blocks = len(groups), len(logs)
    least = LEAST_OF_EQUAL * equal_sd / math.sqrt(blocks)
    if count >= min(FEWEST_GROUPS, blocks) and count > 1:
        means = [sum(group) / len(group) for group in groups]
        mean = sum(means) / count
        variance = sum((value - mean) ** 2 for value in means) / (count - 1)
        error = max(math.sqrt(variance / count), least)
        return Spread(mean, error, count - 1, count, blocks, None, count >= FEWEST_GROUPS)
    mean = sum(log.value for log in logs) / blocks
    freedom = blocks - count
    if freedom < 1:
        return Spread(mean, None, 0, count, blocks, None, False)
    inner = sum((value - sum(group) / len(group)) ** 2 for group in groups for value in group)
    error = max(math.sqrt(inner / freedom / blocks), least)
    return Spread(mean, error, freedom, count, blocks, start_noise, start_noise is not None)


@dataclass(frozen=True)
class Rule:
    """The preset of one comparison. Gains are log ratios (baseline time / candidate time).

    `alpha` is the error of each end of the interval, `alpha_equal` that of calling an equal arm faster; both over all
    looks together, already divided among the arms. `claim` is the smallest gain worth claiming on this machine, `bar`
    what the lower end must clear; `wanted` is the smallest gain worth having: what noise adds to it can hide a gain,
    but is no evidence against one.
    """

    first: int
    last: int
    alpha: float
    alpha_equal: float
    wanted: float
    claim: float
    bar: float

    @classmethod
    def of(cls, thresholds: Thresholds, *, share: float = 1.0, claimable: float = 0.0) -> Rule:
        """The rule for one arm that has `share` of the error; `claimable` is the A/A floor's gain (a fraction)."""
        gain = max(thresholds.min_gain, claimable)
        first = max(2, thresholds.min_blocks)
        return cls(
            first=first,
            last=max(first, thresholds.max_blocks),
            alpha=share * (1 - thresholds.confidence) / 2,
            alpha_equal=share * thresholds.false_promotion,
            wanted=math.log1p(thresholds.min_gain),
            claim=math.log1p(gain),
            bar=math.log1p(gain * thresholds.lower_end_share),
        )

    def alpha_at(self, blocks: int) -> float:
        """The error that one end of the interval may make at the look after `blocks` blocks."""
        return self.alpha * spend(blocks, self.first, self.last)

    def settle(self, data: Spread) -> Settled:
        """What may be said of the primary estimate now."""
        share = spend(data.blocks, self.first, self.last)
        width = data.half_width(self.alpha * share)
        low, high = data.mean - width, data.mean + width
        call: Call = "open"
        if high < self.wanted:
            call = "not_faster"
        elif data.mean >= self.claim and low > self.bar and data.mean > data.half_width(self.alpha_equal * share):
            call = "faster"
        return Settled(data.mean, low, high, call)


@dataclass(frozen=True)
class Settled:
    """The estimate (log ratio), its interval at this look, and the call."""

    value: float
    low: float
    high: float
    call: Call
