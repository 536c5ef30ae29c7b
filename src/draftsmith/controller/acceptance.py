"""Has acceptance fallen? A sequential test over windows, valid at every look. Pure.

Each window gives a share of drafted tokens that were accepted, a number between 0 and 1. Under "it did not fall" that share
is at least the promoted one less a margin, on average. A bettor who stakes part of what he has on each window being lower
cannot grow rich then; how rich he is, is the evidence (an e-value). Because the fall may come after months of good windows,
he never starts below one: that is the e-detector of the CUSUM kind, whose mean time to a false alarm is at least 1 / alpha.
He spreads his money over several stakes, so that large falls are seen at once and small ones in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.base import Frozen

STAKES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Wealth(Frozen):
    """What the test remembers between windows. `each`: by stake, of a bettor that began when it last was worth it."""

    each: tuple[float, ...] = (1.0,) * len(STAKES)
    windows: int = 0

    @property
    def evidence(self) -> float:
        """How much speaks for a fall: at least 1 / alpha is enough."""
        return sum(self.each) / len(self.each)


def share(accepted: int, drafted: int) -> float | None:
    """Accepted share of drafted tokens of one window; None for a window without drafts."""
    return min(1.0, accepted / drafted) if drafted > 0 else None


def bet(wealth: Wealth, seen: float, promised: float, margin: float) -> Wealth:
    """The test after one more window. `margin`: relative loss that is left alone."""
    limit = promised * (1 - margin)
    each = tuple(
        max(1.0, amount) * max(1e-12, 1 + _stake(stake, limit) * (limit - seen))
        for stake, amount in zip(STAKES, wealth.each, strict=True)
    )
    return Wealth(each=each, windows=wealth.windows + 1)


def over(windows: Sequence[float], promised: float, margin: float) -> Wealth:
    """The test over windows, oldest first."""
    wealth = Wealth()
    for seen in windows:
        wealth = bet(wealth, seen, promised, margin)
    return wealth


def _stake(stake: float, limit: float) -> float:
    """No bet may lose more than all: at a window of 1 the loss is stake * (1 - limit)."""
    return min(stake, 0.99 / max(1e-9, 1 - limit))
