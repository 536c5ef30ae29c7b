"""How well a few starts have to agree before they may carry a claim.

Starts of equal servers may differ by any amount. If a few of them agree, that is either because they differ little, or luck.
The chance of such luck is bounded over every spread that starts may have, so no spread has to be assumed.
"""

from __future__ import annotations

import math
from functools import lru_cache

EARLY = 0.7
"""Part of the error of calling an equal arm faster that few starts may have; what is left is for many."""
TWO = 0.25
"""Part of the error of few starts that exactly two have; the rest is for three and more."""


def luck(groups: int, spread: float, least: float) -> float:
    """The largest chance, over all spreads that starts may have, that equal arms look like this or better.

    That is: the mean over `groups` starts is at least `least` (log ratio), and their sd is at most `spread`. Both are
    independent for normal starts, so the chance is a product: P(Z >= least sqrt(n) / sd) P(chi2 <= (n - 1) spread^2 / sd^2).
    1 where nothing is asked of the mean.
    """
    if groups < 2 or least <= 0:
        return 1.0
    import numpy as np
    from scipy import special

    far = np.geomspace(0.01, 10.0, 400)  # least x sqrt(n) / sd
    ratio = (groups - 1) / (2 * groups) * (spread / least) ** 2
    return float(np.max(special.ndtr(-far) * special.gammainc((groups - 1) / 2, ratio * far * far)))


@lru_cache(maxsize=256)
def widest(groups: int, allowed: float, least: float) -> float:
    """The largest sd of a few starts whose luck is at most `allowed`; see `luck`."""
    if groups < 2 or least <= 0:
        return 0.0
    low, high = 0.0, 10 * least
    while high - low > 1e-9 * least:
        middle = (low + high) / 2
        low, high = (middle, high) if luck(groups, middle, least) <= allowed else (low, middle)
    return low


def allowed(groups: int, needed: int, alpha: float) -> float:
    """The chance of luck that so many starts may have, `needed` being the number from which their spread speaks.

    Over all numbers of starts below `needed` the chances add up to at most `EARLY` x alpha.
    """
    if groups < 2 or groups >= needed:
        return 0.0
    if groups == 2:
        return EARLY * TWO * alpha
    return EARLY * (1 - TWO) * alpha / max(1, needed - 3)


def late(alpha: float) -> float:
    """What is left of the error for those numbers of starts whose own spread speaks."""
    return (1 - EARLY) * alpha


def spread_of(between: float, groups: int) -> float:
    """The sd of starts from the standard error of their mean."""
    return between * math.sqrt(groups)
