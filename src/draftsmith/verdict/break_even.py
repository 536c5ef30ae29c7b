"""What a step costs with a draft, and the acceptance at which that is paid back. Pure.

A decode step runs the target once, over K drafted positions and one more, and the draft K times before it. How many of the
drafted tokens are accepted changes nothing in this work: it only divides it. So

    TPOT(c, K, AL) = (a_c + b_c K) / AL

with a line in K for every concurrency c. It is fitted as a ratio to the plain step measured beside it, which takes out the
drift of the machine, by least squares on the logarithm: noise of times is multiplicative. The break-even AL is that ratio.
The line is used between the smallest and the largest K that was measured and not beyond.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from draftsmith.contract.errors import InputError
from draftsmith.contract.plan import Fit, StepCost, StepSample
from draftsmith.contract.verdict import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST_DRAFTED = 0.2
NOISE_UNKNOWN = 0.10  # used while no repetition says better: what equal servers differed by from start to start


class CostModel:
    """Ratio of step times, with its uncertainty, for every measured concurrency and the K between the measured ones."""

    def __init__(self, samples: Sequence[StepSample], confidence: float = 0.95) -> None:
        """Fit the drafted samples. Raises InputError without any."""
        drafted = [s for s in samples if s.method == "draft"]
        if not drafted:
            raise InputError("no point with a draft was measured", "run the plan again: it goes on where it stopped")
        self.confidence = confidence
        self.concurrencies = tuple(sorted({s.concurrency for s in drafted}))
        self.ks = tuple(range(min(s.k for s in drafted), max(s.k for s in drafted) + 1))
        self._lines: dict[int, Floats] = {}
        self._inverse: dict[int, Floats] = {}
        residuals: list[float] = []
        parameters = 0
        for c in self.concurrencies:
            at_load = [s for s in drafted if s.concurrency == c]
            line, inverse, left = _fit_line([s.k for s in at_load], [math.log(s.ratio) for s in at_load])
            self._lines[c], self._inverse[c] = line, inverse
            residuals += left
            parameters += min(2, len({s.k for s in at_load}))
        self._samples = drafted
        self._residuals = residuals
        self.dof = len(residuals) - parameters
        spread = math.sqrt(sum(r * r for r in residuals) / self.dof) if self.dof > 0 else NOISE_UNKNOWN
        self.noise = max(spread, _between_repeats(drafted))

    def ratio(self, concurrency: int, k: int) -> Interval:
        """Cost of one step with K drafted tokens, a plain step being 1: the break-even AL."""
        import numpy as np

        line, inverse = self._lines[concurrency], self._inverse[concurrency]
        value = float(line[0] + line[1] * k)
        slope = np.array([1.0, k]) / value
        error = self.noise * math.sqrt(max(0.0, float(slope @ inverse @ slope)))
        half = _quantile(self.confidence, self.dof) * error
        return Interval(
            value=value, low=value * math.exp(-half), high=value * math.exp(half), confidence=self.confidence
        )

    def summary(self) -> Fit:
        """The fit in seconds, and its residuals."""
        costs = []
        for c in self.concurrencies:
            plain = plain_step(self._samples, c)
            line = self._lines[c]
            costs.append(StepCost(concurrency=c, plain_s=plain, a_s=float(line[0]) * plain, b_s=float(line[1]) * plain))
        return Fit(
            costs=tuple(costs),
            samples=len(self._samples),
            degrees_of_freedom=self.dof,
            residual_rms=math.sqrt(statistics.fmean(r * r for r in self._residuals)),
            residual_worst=max(abs(r) for r in self._residuals),
            noise=self.noise,
            confidence=self.confidence,
        )


def _fit_line(ks: Sequence[int], logs: Sequence[float]) -> tuple[Floats, Floats, list[float]]:
    """(intercept and slope, inverse of the normal matrix, residuals of the logarithm). With one K the slope is 0."""
    import numpy as np
    from scipy.optimize import least_squares

    x, y = np.asarray(ks, float), np.asarray(logs, float)
    if len(set(ks)) == 1:
        level = float(np.exp(y.mean()))
        inverse = np.array([[level**2 / len(ks), 0.0], [0.0, 0.0]])
        return np.array([level, 0.0]), inverse, [float(v) for v in y - y.mean()]
    start = np.array([max(0.1, float(np.exp(y).min())), 0.01])

    def residuals(line: Floats) -> Floats:
        return np.asarray(np.log(line[0] + line[1] * x) - y, float)

    # More drafted tokens never make a step cheaper, so the slope is not negative, whatever noise says.
    fit = least_squares(residuals, start, bounds=([1e-3, 0.0], [np.inf, np.inf]))
    slopes = np.column_stack([np.ones_like(x), x]) / (fit.x[0] + fit.x[1] * x)[:, None]
    return np.asarray(fit.x, float), np.linalg.pinv(slopes.T @ slopes), [float(v) for v in fit.fun]


def _between_repeats(samples: Sequence[StepSample]) -> float:
    """Spread of repeated pairs of one server, pooled: never let a lucky line look more certain than its points."""
    groups: dict[tuple[int, str], list[float]] = {}
    for s in samples:
        groups.setdefault((s.concurrency, s.arm), []).append(math.log(s.ratio))
    squares = sum((v - statistics.fmean(g)) ** 2 for g in groups.values() for v in g)
    free = sum(len(g) - 1 for g in groups.values())
    return math.sqrt(squares / free) if free else 0.0


def _quantile(confidence: float, dof: int) -> float:
    from scipy import special  # scipy.stats says the same and takes a second to import

    return float(special.stdtrit(max(dof, 1), (1 + confidence) / 2))


def plain_step(samples: Sequence[StepSample], concurrency: int) -> float:
    """Median seconds of a plain step at one concurrency."""
    return statistics.median(s.plain_step_s for s in samples if s.concurrency == concurrency)


def drafted_ngram_ratio(samples: Sequence[StepSample], concurrency: int) -> float | None:
    """Cost of an n-gram step that has a proposal, a plain step being 1. None if too few of the steps had one.

    Steps without a proposal cost what a plain step costs, so what was observed is a mixture of the two.
    """
    at_load = [s for s in samples if s.method == "ngram" and s.concurrency == concurrency]
    if not at_load or (rate := statistics.fmean(s.draft_rate for s in at_load)) < FEWEST_DRAFTED:
        return None
    return max(1.0, 1 + (statistics.fmean(s.ratio for s in at_load) - 1) / rate)


def acceptance_length(per_token: float, k: int) -> float:
    """AL with K drafted tokens of which each is accepted with this chance if those before it were."""
    return sum(per_token**i for i in range(k + 1))


def per_token_for(length: float, k: int) -> float | None:
    """The chance of each next token that gives an AL; None if even full acceptance (K + 1) does not."""
    if length > k + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if acceptance_length(middle, k) < length else (low, middle)
    return high


def length_at(by_position: Sequence[float], k: int) -> float:
    """AL at another K from acceptance by position. Positions beyond the known ones go on at the last conditional rate."""
    rates = list(by_position[:k])
    if rates and len(rates) < k:
        last = rates[-1] / rates[-2] if len(rates) > 1 and rates[-2] > 0 else rates[-1]
        while len(rates) < k:
            rates.append(rates[-1] * min(last, 1.0))
    return 1 + sum(rates)
