"""Token-length distributions: exact where tokens were counted, estimated with their spread where they were not.

The estimate has two parts. A line through characters, spaces and wide bytes, fitted per class on the first counted records,
gives every record a guess. The random sample then tells, for guesses of every size, how the truth is spread around them;
the reported distribution is the guesses with that spread put back. So an error of the line does not bias a percentile, and
memory is one histogram a class whatever the number of records.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from draftsmith.contract.profile import Distribution, LengthBucket

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 400
"""Bins of an estimate per factor e: a quarter of a per cent each."""
_BINS = GRID * 17  # e^17, 24 million tokens: longer than any request
_STRATUM = 60  # pairs in the top stratum at least: the p99 rests on them
_LEVELS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Where the guesses are cut into strata; finer at the top, where the spread changes and the p99 lies."""
EDGES = (0, 32, 128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)


@dataclass
class Lengths:
    """Lengths of one kind (input or output) in one group of records."""

    exact: dict[int, int] = field(default_factory=dict)
    guessed: Floats = field(default_factory=lambda: np.zeros(_BINS))
    pairs: list[NDArray[np.float64]] = field(default_factory=list)

    def add_exact(self, values: Ints) -> None:
        """Counted lengths."""
        for value, times in zip(*(column.tolist() for column in np.unique(values, return_counts=True)), strict=True):
            self.exact[value] = self.exact.get(value, 0) + times

    def add_guesses(self, guesses: Floats) -> None:
        """Guesses for records that were not counted."""
        self.guessed += np.bincount(_bin(guesses), minlength=_BINS)

    def add_pairs(self, guesses: Floats, truth: Ints, weights: Floats) -> None:
        """Random records with both guess and count: how far guesses lie off."""
        self.pairs.append(np.column_stack([guesses, np.maximum(truth, 1).astype(float), weights]))

    def histogram(self, fallback: list[NDArray[np.float64]] | None = None) -> tuple[Floats, Floats]:
        """Lengths in ascending order and how many records have each (fractional where estimated)."""
        values = np.array(sorted(self.exact), float)
        times = np.array([self.exact[int(value)] for value in values], float)
        if self.guessed.any():
            spread = self._spread(self.pairs or fallback or [])
            bins = np.flatnonzero(spread)
            values = np.concatenate([values, np.exp((bins + 0.5) / GRID)])
            times = np.concatenate([times, spread[bins]])
            order = np.argsort(values, kind="stable")
            values, times = values[order], times[order]
        return values, times

    def _spread(self, pairs: list[NDArray[np.float64]]) -> Floats:
        """The guesses' histogram with the sampled errors put back, stratum by stratum of the guess."""
        table = np.concatenate(pairs) if pairs else np.empty((0, 3))
        # Too few to know the spread: the guesses as they are, which is right in the mean and too narrow at the ends.
        if len(table) < 20:
            return self.guessed
        table = table[np.argsort(table[:, 0], kind="stable")]
        # Errors grow with length, so every stratum of the guess gets the errors that were seen in it.
        levels = [level for level in _LEVELS if len(table) * (1 - level) >= _STRATUM]
        cuts = np.unique(_bin(np.asarray(np.quantile(table[:, 0], levels), float))) if levels else np.empty(0, np.int64)
        of_bin = np.searchsorted(cuts, np.arange(_BINS), side="right")
        of_pair = np.searchsorted(cuts, _bin(table[:, 0]), side="right")
        result = np.zeros(_BINS)
        for stratum in range(len(cuts) + 1):
            weights = np.where(of_bin == stratum, self.guessed, 0.0)
            rows = table[of_pair == stratum]
            rows = rows if len(rows) >= 20 else table  # a thin stratum borrows the errors of all
            result += _shifted(weights, np.log(rows[:, 1] / rows[:, 0]), rows[:, 2])
        return result


def _bin(guesses: Floats) -> Ints:
    return np.asarray(np.clip((np.log(np.maximum(guesses, 1.0)) * GRID).astype(np.int64), 0, _BINS - 1), np.int64)


def _shifted(counts: Floats, shifts: Floats, weights: Floats) -> Floats:
    """Convolve a histogram on the log grid with weighted shifts of it."""
    result = np.zeros(_BINS)
    if not counts.any():
        return result
    # On a grid of logarithms a relative error is a shift, so that one convolution applies all errors at once. An error of
    # more than e^3 is a broken record and would only make the kernel long.
    steps = np.clip(np.rint(shifts * GRID), -3 * GRID, 3 * GRID).astype(np.int64)
    low, high = int(steps.min()), int(steps.max())
    kernel = np.bincount(steps - low, weights=weights, minlength=high - low + 1)
    full = np.convolve(counts, kernel / kernel.sum())
    source = np.arange(len(full)) + low
    np.add.at(result, np.clip(source, 0, _BINS - 1), full)
    return result


def distribution(values: Floats, times: Floats, *, whole: bool = True) -> Distribution:
    """Mean and percentiles of a weighted histogram; percentiles are values that occur (nearest rank)."""
    total = float(times.sum())
    if total <= 0:
        return Distribution()
    reached = np.cumsum(times)
    # The small number keeps a share that is met exactly from slipping to the next value by rounding.
    at = [
        values[min(int(np.searchsorted(reached, share * total - 1e-9)), len(values) - 1)] for share in (0.5, 0.9, 0.99)
    ]
    p50, p90, p99 = (float(round(quantile)) if whole else float(quantile) for quantile in at)
    top = float(round(values[-1])) if whole else float(values[-1])
    return Distribution(count=round(total), mean=float(values @ times / total), p50=p50, p90=p90, p99=p99, max=top)


def merged(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Several histograms as one."""
    if not parts:
        return np.empty(0), np.empty(0)
    values, times = np.concatenate([item for item, _ in parts]), np.concatenate([item for _, item in parts])
    order = np.argsort(values, kind="stable")
    return values[order], times[order]


def buckets(values: Floats, times: Floats) -> tuple[LengthBucket, ...]:
    """Shares of the traffic by length; empty buckets left out."""
    total = times.sum()
    buckets = []
    for low, high in zip(EDGES, (*EDGES[1:], None), strict=True):
        inside = (values >= low) & (values < (high if high is not None else np.inf))
        share = float(times[inside].sum() / total) if total else 0.0
        if share > 0:
            buckets.append(LengthBucket(low=low, high=high, share=share))
    return tuple(buckets)


def fit(features: Floats, truth: Ints) -> Floats:
    """Coefficients of non-negative guesses by relative least squares. Features have shape [records, n]."""
    # Too few records for a line: a quarter token per character, as of English prose.
    if len(truth) < 8:
        return np.array([0.25, *([0.0] * (features.shape[1] - 1))])
    # Relative errors: else a few very long records would decide the line for all the short ones.
    weight = 1.0 / np.maximum(truth, 1)
    coefficients = np.linalg.lstsq(features * weight[:, None], truth * weight, rcond=None)[0]
    return np.asarray(coefficients, float)


def guess(features: Floats, coefficients: Floats) -> Floats:
    """Guesses from features; never below a token, never below a twelfth of the characters."""
    return np.asarray(np.maximum(np.maximum(features @ coefficients, features[:, 0] / 12.0), 1.0), float)
