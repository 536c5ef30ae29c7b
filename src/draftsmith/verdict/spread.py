"""An estimate over server starts, and what its error is made of.

Blocks take prompts of their own, so the spread between blocks has prompts and the machine's noise in it. Blocks that
share a server are one observation of starts. Where prompts repeat, what their spread adds is added.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import critical
from draftsmith.verdict.measures import BlockPair

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Kind = Literal["starts", "bound", "declared", "alone"]

TWINS = math.sqrt(0.75)
"""Noise of a block in terms of that between its two passes of the baseline: their mean and the candidate against two passes."""
LUCK = 0.25
"""Two equal modes of a server: the chance that one start of each arm favours the candidate."""


@dataclass(frozen=True)
class Estimate:
    """A mean log ratio and its error.

    `kind` says how starts are in it: by the spread of independent ones (`starts`), by the largest effect on record
    (`bound`), by a declared spread (`declared`), or not at all (`alone`: these servers and no others). `lean` is half the
    difference between the two passes of the baseline: the claim has to hold against the faster of the two. `values`: the
    blocks, one log ratio each. `between`: standard error of the mean by the spread between starts; None with one start.
    `noise`: sd of one block on the same servers as far as it is to be reckoned with, to plan by; no error rests on it.
    """

    mean: float
    se: float | None
    freedom: int
    kind: Kind
    groups: int
    blocks: int
    prompts: int
    bound: float
    lean: float
    values: tuple[float, ...]
    between: float | None
    own_se: float | None
    own_freedom: int
    noise: float | None
    in_last: int

    @property
    def typical(self) -> float:
        """The median block."""
        return statistics.median(self.values)

    def share_by_chance(self, bar: float) -> float:
        """Chance of so many blocks above `bar` if as many lie below it as above (exact binomial, one-sided)."""
        total = len(self.values)
        return float(sum(math.comb(total, k) for k in range(self.above(bar), total + 1)) / 2**total)

    def above(self, bar: float) -> int:
        """How many blocks lie above `bar`."""
        return sum(value > bar for value in self.values)

    @property
    def starts_known(self) -> bool:
        """Whether the error covers other starts than those that were measured."""
        return self.kind != "alone"

    def half_width(self, alpha: float) -> float:
        """Half of the interval whose end errs with chance `alpha`; infinite without enough data."""
        if self.se is None or alpha <= 0:
            return math.inf
        if self.kind == "bound" and self.bound > 0:
            return self.lean + bounded(alpha, self.se, self.freedom, self.groups, self.bound)
        return self.lean + critical(alpha, self.freedom) * self.se

    def half_width_here(self, alpha: float) -> float:
        """The same for the servers that were measured, whatever other starts would show."""
        if self.own_se is None or alpha <= 0:
            return math.inf
        return self.lean + critical(alpha, self.own_freedom) * self.own_se


def starts_needed(alpha: float) -> int:
    """Independent starts from which their own spread may speak: fewer agree by luck with more than the chance `alpha`.

    Servers with two equally likely modes favour one arm in a quarter of all starts, so in n of n with chance 4^-n.
    """
    return max(3, math.ceil(math.log(alpha) / math.log(LUCK) - 1e-9))


def estimate(
    pairs: Sequence[BlockPair], limits: Thresholds, needed: int, *, restarts: bool, fixed: bool = False
) -> Estimate | None:
    """The mean of the starts' means with its error. None without blocks.

    `needed`: independent starts from which the spread between them is used. `restarts`: whether other starts can come
    at all. `fixed`: for a check on one kind of traffic, whose prompts are always the same.
    """
    if not pairs:
        return None
    groups = grouped(pairs)
    count, blocks = len(groups), len(pairs)
    means = [sum(pair.value for pair in group) / len(group) for group in groups]
    mean = sum(means) / count
    weights = {pair.block: 1 / (count * len(group)) for group in groups for pair in group}
    within, freedom = _within(groups, means, pairs)
    own = within * within * sum(1 / len(group) for group in groups) / count**2 if within is not None else None
    repeats, distinct = (0.0, len(_prompts(pairs))) if fixed else _repeats(pairs, weights)
    kind: Kind
    variance: float | None
    between = sum((value - mean) ** 2 for value in means) / (count - 1) / count if count > 1 else None
    if count >= needed and between is not None:
        kind = "starts"
        variance, freed = max(between, own or 0.0), count - 1
    else:
        declared = limits.start_noise
        kind = "declared" if declared is not None else "bound" if restarts else "alone"
        variance, freed = own, freedom
        if variance is not None and declared is not None:
            variance += declared * declared / count
    own_freedom = freedom
    if repeats > 0:
        # Prompts that come again are few: what they say of the traffic has their number of degrees.
        variance = None if variance is None else variance + repeats
        own = None if own is None else own + repeats
        freed, own_freedom = min(freed, max(distinct - 1, 1)), min(freedom, max(distinct - 1, 1))
    aparts = [pair.apart for pair in pairs if pair.apart is not None]
    return Estimate(
        mean=mean,
        se=None if variance is None else math.sqrt(variance),
        freedom=freed,
        kind=kind,
        groups=count,
        blocks=blocks,
        prompts=distinct,
        bound=math.log(limits.start_bound),
        lean=abs(sum(aparts) / len(aparts)) / 2 if aparts else 0.0,
        values=tuple(pair.value for pair in pairs),
        between=None if between is None else math.sqrt(between),
        own_se=None if own is None else math.sqrt(own),
        own_freedom=own_freedom,
        noise=None if within is None else max(within, TWINS * _rms(aparts)),
        in_last=len(groups[-1]),
    )


def grouped(pairs: Sequence[BlockPair]) -> list[list[BlockPair]]:
    """Blocks with any server start in common are in one group; the group of the latest block is the last."""
    groups: list[tuple[set[str], list[BlockPair]]] = []
    for pair in pairs:
        starts, members = set(pair.starts), [pair]
        apart = []
        for known, rows in groups:
            if known & starts:
                starts |= known
                members = [*rows, *members]
            else:
                apart.append((known, rows))
        groups = [*apart, (starts, members)]
    return [members for _, members in groups]


def _within(
    groups: Sequence[Sequence[BlockPair]], means: Sequence[float], pairs: Sequence[BlockPair]
) -> tuple[float | None, int]:
    """Noise of one block on the same servers (sd), with its degrees of freedom.

    A baseline whose two passes differ by a in rms cannot give blocks that agree better than a / 2, unless by luck: the
    estimate has the mean of the two passes in it. So that is the least.
    """
    freedom = len(pairs) - len(groups)
    if freedom < 1:
        return None, 0
    squares = sum((pair.value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for pair in group)
    aparts = [pair.apart for pair in pairs if pair.apart is not None]
    least = _rms(aparts) / 2 if len(aparts) > 1 else 0.0
    return max(math.sqrt(squares / freedom), least), freedom


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0


def _prompts(pairs: Sequence[BlockPair]) -> set[str]:
    return {prompt for pair in pairs for prompt in pair.parts}


def _repeats(pairs: Sequence[BlockPair], weights: Mapping[int, float]) -> tuple[float, int]:
    """Variance that repeated prompts add to the mean, and how many different prompts there are.

    The two-way error of clustered data: variance by prompt, less that of its single answers. Without a repeat both are
    the same and nothing is added.
    """
    total: dict[str, float] = {}
    single, seen = 0.0, 0
    for pair in pairs:
        weight = weights[pair.block]
        for prompt, part in pair.parts.items():
            total[prompt] = total.get(prompt, 0.0) + weight * part
            single += (weight * part) ** 2
            seen += 1
    distinct = len(total)
    if seen == distinct:
        return 0.0, distinct
    if distinct == 1:
        return math.inf, distinct
    extra = sum(value * value for value in total.values()) - single
    return max(0.0, extra * distinct / (distinct - 1)), distinct


def bounded(alpha: float, se: float, freedom: int, groups: int, bound: float) -> float:
    """How far the mean may lie above the truth with chance `alpha`, with few starts and the worst known start effect.

    The worst case is two equally likely modes, `bound` apart in log. Over n starts of both arms the effect on the mean is
    (B - n) x bound / n with B binomial of 2n. The chance of going beyond c is the sum over B of its probability times
    the t tail of what is left.
    """
    import numpy as np
    from scipy import special

    chances, shifts = _modes(groups)

    def beyond(limit: float) -> float:
        if se <= 0:
            return float(chances[bound * shifts > limit - 1e-12].sum())
        return float(np.dot(chances, special.stdtr(freedom, (bound * shifts - limit) / se)))

    low, high = 0.0, bound + 1.0
    while beyond(high) > alpha and high < 1e6:
        low, high = high, 2 * high
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > alpha else (low, middle)
    return high


@lru_cache(maxsize=64)
def _modes(groups: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two equal modes over some starts of two arms: the chance of each effect on the mean, and the effect in units."""
    import numpy as np

    number = range(2 * groups + 1)
    chances = np.array([math.comb(2 * groups, k) / 4**groups for k in number])
    return chances, np.array([(k - groups) / groups for k in number])
