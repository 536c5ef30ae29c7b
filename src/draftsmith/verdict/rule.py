"""When the gate looks, and what it says at a look.

Looks are at preset numbers of blocks, each with its share of the error; the shares add up to the whole (union bound), so
whatever the dependence between looks, the chance that any of them errs is at most the sum. Blocks between two looks wait
for the next. How many blocks a start gets depends on the noise that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from draftsmith.contract.measure import Thresholds
from draftsmith.contract.verdict import Need
from draftsmith.verdict.agreement import allowed, late, spread_of, widest
from draftsmith.verdict.measures import BlockPair
from draftsmith.verdict.spread import Estimate, estimate, grouped, starts_needed

Call = Literal["faster", "not_faster", "open"]
Doubt = Literal["one_start", "starts_differ", "few_blocks"]

FIRST_SHARE = 0.2
LAST_SHARE = 0.3
GROWTH = 1.25
FEWEST_STARTS = 2
FEW_BLOCKS_CHANCE = 6.25  # times the chance of a false promotion: four of four blocks do
FEW_BLOCKS = 4
MANY_BLOCKS = 14
CLEARLY = 2.0  # times a start's own noise: what few starts may differ by, so that the noise hardly ever exceeds it


def looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of blocks at which the gate looks: the first, a quarter more each time, the last."""
    blocks = [first]
    while blocks[-1] < last:
        blocks.append(min(last, max(blocks[-1] + 1, math.ceil(blocks[-1] * GROWTH))))
    return tuple(blocks)


def shares(first: int, last: int) -> dict[int, float]:
    """The share of the error of each look: a fifth for the first, three tenths for the last, the rest even."""
    counts = looks(first, last)
    if len(counts) == 1:
        return {first: 1.0}
    if len(counts) == 2:
        return {first: FIRST_SHARE, last: 1 - FIRST_SHARE}
    between = (1 - FIRST_SHARE - LAST_SHARE) / (len(counts) - 2)
    return {n: FIRST_SHARE if n == first else LAST_SHARE if n == last else between for n in counts}


@dataclass(frozen=True)
class Look:
    """What the gate uses now: the first `blocks` blocks, with `share` of the error; share 0 before the first look."""

    blocks: int
    share: float
    final: bool


@dataclass(frozen=True)
class Rule:
    """The preset of one arm. Gains are log ratios (baseline / candidate).

    `alpha` is the error of each end of the interval, `alpha_equal` that of calling an equal arm faster; both over all
    looks together, already divided among arms and deciding points. `claim`: the smallest gain worth claiming. `bar`: what
    the lower end must clear. `needed`: independent starts from which their own spread speaks.
    """

    limits: Thresholds
    first: int
    last: int
    alpha: float
    alpha_equal: float
    claim: float
    bar: float
    needed: int
    restarts: bool

    @classmethod
    def of(cls, limits: Thresholds, *, share: float = 1.0, restarts: bool = True) -> Rule:
        """The rule for one arm that has `share` of the error."""
        last = max(limits.min_blocks, limits.max_blocks)
        first = min(max(2, limits.min_blocks), last)
        equal = share * limits.false_promotion
        return cls(
            limits=limits,
            first=first,
            last=last,
            alpha=share * (1 - limits.confidence) / 2,
            alpha_equal=equal,
            claim=math.log1p(limits.min_gain),
            bar=math.log1p(limits.min_gain * limits.lower_end_share),
            needed=starts_needed(equal),
            restarts=restarts,
        )

    def alone(self) -> Rule:
        """The same for what a start of a server does not change."""
        return replace(self, restarts=False)

    def look(self, pairs: Sequence[BlockPair]) -> Look:
        """The latest look that these blocks allow.

        The last one comes early where all starts that are allowed have had their blocks: it takes the share that is left.
        """
        each = shares(self.first, self.last)
        least = max(self.first, self.limits.max_starts)
        many = self.restarts and len(pairs) >= least and len(grouped(pairs)) >= self.limits.max_starts
        ends = range(least, min(len(pairs), self.last) + 1) if many else ()
        full = next((n for n in ends if self.full(pairs[:n])), None)
        if full is not None:
            return Look(full, 1 - sum(share for n, share in each.items() if n < full), final=True)
        reached = [n for n in each if n <= len(pairs)]
        if not reached:
            return Look(len(pairs), 0.0, final=False)
        return Look(reached[-1], each[reached[-1]], final=reached[-1] == self.last)

    def estimate(self, pairs: Sequence[BlockPair], *, fixed: bool = False) -> Estimate | None:
        """The estimate over some blocks by this rule."""
        return estimate(pairs, self.limits, self.needed, restarts=self.restarts, fixed=fixed)

    def full(self, pairs: Sequence[BlockPair]) -> bool:
        """Whether every start that is allowed has come and has had its blocks."""
        if not self.restarts or len(grouped(pairs)) < self.limits.max_starts:
            return False
        estimated = self.estimate(pairs)
        return estimated is not None and estimated.in_last >= self.wanted(estimated)

    def wanted(self, estimated: Estimate) -> int:
        """Blocks that the present start should have.

        As many as bring the start's own noise below the smallest gain worth claiming, four at most. While starts are few
        and the gain may be large enough to survive the worst start effect, as many as bring it clearly below what few starts
        may differ by.
        """
        least = self.first if estimated.groups == 1 else 1
        if estimated.noise is None:
            return max(least, 2)
        tolerated = max(self.claim, 1e-6)
        usual = min(FEW_BLOCKS, math.ceil((estimated.noise / tolerated) ** 2 - 1e-9))
        if not self.hopeful(estimated):
            return max(least, usual)
        apart = self.agreeing(max(estimated.groups, self.needed - 1), estimated)
        clear = math.ceil((CLEARLY * estimated.noise / apart) ** 2 - 1e-9) if apart > 0 else MANY_BLOCKS
        return max(least, usual, min(MANY_BLOCKS, clear))

    def hopeful(self, estimated: Estimate) -> bool:
        """Whether starts are few and the gain may be large enough to survive the largest effect on record."""
        error = estimated.own_se if estimated.own_se is not None else math.inf
        return estimated.kind == "bound" and estimated.mean + error > estimated.bound

    def need(self, pairs: Sequence[BlockPair]) -> Need:
        """What to measure next, while the answer is open."""
        estimated = self.estimate(pairs)
        if estimated is None or estimated.blocks < self.first:
            return "blocks"
        if estimated.blocks >= self.last or self.full(pairs):
            return "done"
        if not self.restarts or estimated.kind == "declared" or estimated.in_last < self.wanted(estimated):
            return "blocks"
        if (
            self.hopeful(estimated)
            and estimated.groups == self.needed - 1
            and estimated.blocks not in shares(self.first, self.last)
        ):
            return "blocks"  # the last of the few starts: another one would change the rule before the next look
        return "start"

    def doubt(self, estimated: Estimate) -> Doubt | None:
        """What is left to chance although the interval clears the bar.

        Few starts of an arm agree by luck, and the bound is a record, not a law: so they have to agree with each other too.
        And a few blocks in which something hit the baseline must not carry a claim.
        """
        if estimated.kind == "bound" and estimated.bound > 0:
            if estimated.groups < FEWEST_STARTS:
                return "one_start"
            if spread_of(estimated.between or 0.0, estimated.groups) > self.agreeing(estimated.groups, estimated):
                return "starts_differ"
        chance = FEW_BLOCKS_CHANCE * self.limits.false_promotion
        return "few_blocks" if estimated.share_by_chance(self.bar) > chance else None

    def agreeing(self, groups: int, estimated: Estimate) -> float:
        """The sd (log ratio) that so few starts may show, if their mean is beyond the largest effect on record."""
        return widest(groups, allowed(groups, self.needed, self.alpha_equal), estimated.bound)

    def settle(self, estimated: Estimate, look: Look) -> Settled:
        """What may be said of an estimate at a look."""
        width = estimated.half_width(self.alpha * look.share)
        low, high = estimated.mean - width, estimated.mean + width
        call: Call = "open"
        equal = late(self.alpha_equal) if estimated.kind == "starts" else self.alpha_equal
        passed = max(self.claim, self.bar + width, estimated.half_width(equal * look.share))
        if high < self.claim:
            call = "not_faster"
        elif estimated.mean >= passed and low > self.bar and not self.doubt(estimated):
            call = "faster"
        return Settled(estimated.mean, low, high, passed, call)


@dataclass(frozen=True)
class Settled:
    """An estimate (log ratio), its interval at this look, the value that it has to reach, and the call."""

    value: float
    low: float
    high: float
    passed: float
    call: Call


def corrected(value: float, error: float, passed: float, low: float) -> float:
    """A gain that was published because it passed: what it is likely to be (log ratio).

    The truth for which the estimate, given that it is above `passed`, is as often too high as too low (normal error), and
    never below the interval's lower end. Far above the threshold nothing changes.
    """
    from scipy import special

    if error <= 0 or not math.isfinite(error) or value <= passed:
        return max(low, value)

    def too_high(truth: float) -> bool:
        """Whether an estimate of at least `value` is less likely than not, given that it passed."""
        beyond, chosen = special.log_ndtr((truth - value) / error), special.log_ndtr((truth - passed) / error)
        return bool(beyond - chosen < math.log(0.5))

    bottom, top = value - 8 * error, value
    if not too_high(bottom):
        return max(low, bottom)
    for _ in range(48):
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if too_high(middle) else (bottom, middle)
    return max(low, top)
