"""Counting with fixed memory: which hashes were seen, and how requests lie on the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

_SALTS = tuple(
    np.uint64(item) for item in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
)
_MAX_BINS = 100_000
MOST_SLICES = 48


class Seen:
    """A Bloom filter over 64-bit hashes. With 2^28 bits, a million entries give about one false hit in ten million."""

    def __init__(self, bits: int = 28) -> None:
        self._shift = np.uint64(64 - bits)
        self._bytes = np.zeros(1 << (bits - 3), np.uint8)

    def check_and_add(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each hash whether it occurred before, in an earlier call or earlier in this one. Zero is never seen."""
        before = np.ones(len(hashes), bool)
        places = [(hashes * salt) >> self._shift for salt in _SALTS]
        for place in places:
            before &= (self._bytes[place >> np.uint64(3)] >> (place & np.uint64(7)).astype(np.uint8)) & 1 == 1
        live = hashes != 0
        for place in places:
            index, bit = place[live] >> np.uint64(3), (1 << (place[live] & np.uint64(7))).astype(np.uint8)
            np.bitwise_or.at(self._bytes, index.astype(np.int64), bit)
        _, first = np.unique(hashes, return_index=True)
        repeated = np.ones(len(hashes), bool)
        repeated[first] = False
        return np.asarray((before | repeated) & live)

    def check(self, hashes: Hashes) -> NDArray[np.bool_]:
        """For each hash whether an earlier call added it."""
        before = np.ones(len(hashes), bool)
        for salt in _SALTS:
            place = (hashes * salt) >> self._shift
            before &= (self._bytes[place >> np.uint64(3)] >> (place & np.uint64(7)).astype(np.uint8)) & 1 == 1
        return np.asarray(before & (hashes != 0))


@dataclass
class Clock:
    """Requests by start time, in bins that widen when the log gets long. Times in seconds."""

    width: float = 1.0
    starts: dict[int, int] = field(default_factory=dict)
    busy: dict[int, float] = field(default_factory=dict)
    edges: dict[int, int] = field(default_factory=dict)
    timed: int = 0
    lasting: int = 0

    def add(self, start: Floats, latency: Floats) -> None:
        """Take in requests; NaN where a time is not known."""
        known = np.isfinite(start) & (np.abs(start) < 1e11)
        start, latency = start[known], latency[known]
        self.timed += len(start)
        self._count(self.starts, self._bin(start))
        lasts = np.isfinite(latency)
        self.lasting += int(lasts.sum())
        self._occupy(start[lasts], latency[lasts])
        while max(len(self.starts), len(self.busy)) > _MAX_BINS:
            self._widen()

    def _bin(self, moments: Floats) -> NDArray[np.int64]:
        return np.floor(moments / self.width).astype(np.int64)

    def _count(self, table: dict[int, int], bins: NDArray[np.int64], step: int = 1) -> None:
        for bin_id, times in zip(*(part.tolist() for part in np.unique(bins, return_counts=True)), strict=True):
            table[bin_id] = table.get(bin_id, 0) + step * times

    def _occupy(self, start: Floats, latency: Floats) -> None:
        """Add each request's running time to the bins it runs in: its ends in part, the bins between by their edges."""
        first, last = self._bin(start), self._bin(start + latency)
        head = np.where(first == last, latency, (first + 1) * self.width - start)
        tail = np.where(first == last, 0.0, start + latency - last * self.width)
        for bins, part in ((first, head), (last, tail)):
            unique, inverse = np.unique(bins, return_inverse=True)
            for bin_id, seconds in zip(unique.tolist(), np.bincount(inverse, part).tolist(), strict=True):
                self.busy[bin_id] = self.busy.get(bin_id, 0.0) + seconds
        longer = last > first + 1
        self._count(self.edges, first[longer] + 1, 1)
        self._count(self.edges, last[longer], -1)

    def _widen(self) -> None:
        """Double the bins. Full bins of long requests become running time first."""
        busy = self._busy_bins()
        self.width *= 2
        self.starts = _halved(self.starts)
        self.busy, self.edges = _halved(busy), {}

    def _busy_bins(self) -> dict[int, float]:
        busy, running = dict(self.busy), 0
        steps = sorted(self.edges)
        for at, following in zip(steps, [*steps[1:], *steps[-1:]], strict=True):
            running += self.edges[at]
            if running:
                for bin_id in range(at, min(following, at + _MAX_BINS)):
                    busy[bin_id] = busy.get(bin_id, 0.0) + running * self.width
        return busy

    def summary(self) -> dict[str, float | None]:
        """arrival_rate_per_s, peak_rate_per_s, concurrency_mean, concurrency_p90; None where times are missing."""
        empty = dict.fromkeys(("arrival_rate_per_s", "peak_rate_per_s", "concurrency_mean", "concurrency_p90"))
        if self.timed < 2:
            return empty
        bins = np.array(sorted(self.starts))
        times = np.array([self.starts[bin_id] for bin_id in bins.tolist()], float)
        low, high = _central(bins, times)
        inside = (bins >= low) & (bins <= high)
        span = (high - low + 1) * self.width
        if high == low:
            return empty  # all at one moment: the log has no arrivals, only a date
        window = max(1, round(60 / self.width)) if span >= 600 else 1
        grouped = np.bincount((bins[inside] - low) // window, times[inside])
        summary = {
            "arrival_rate_per_s": float(times[inside].sum() / span),
            "peak_rate_per_s": float(grouped.max() / (window * self.width)),
        }
        return {**empty, **summary, **self._concurrency(int(low), int(high))}

    def slices(self) -> list[tuple[float, float, float, float | None]]:
        """(start, length, requests a second, requests in flight) of at most MOST_SLICES equal stretches of the log."""
        if self.timed < 2:
            return []
        bins = np.array(sorted(self.starts))
        times = np.array([self.starts[item] for item in bins.tolist()], float)
        low, high = _central(bins, times)
        if high == low:
            return []
        step = -(-(high - low + 1) // MOST_SLICES)
        count = -(-(high - low + 1) // step)
        inside = (bins >= low) & (bins <= high)
        arrived = np.bincount((bins[inside] - low) // step, times[inside], minlength=count)
        busy = np.zeros(count)
        for bin_id, seconds in self._busy_bins().items():
            if low <= bin_id <= high:
                busy[(bin_id - low) // step] += seconds
        slices: list[tuple[float, float, float, float | None]] = []
        for at in range(count):
            # The last slice may reach beyond the log: only what the log covers counts.
            covered = (min(low + (at + 1) * step, high + 1) - low - at * step) * self.width
            at_once = float(busy[at] / covered * self.timed / self.lasting) if self.lasting else None
            slices.append(((low + at * step) * self.width, covered, float(arrived[at] / covered), at_once))
        return slices

    def _concurrency(self, low: int, high: int) -> dict[str, float | None]:
        if not self.lasting:
            return {}
        load = np.zeros(min(high - low + 1, 50 * _MAX_BINS))
        for bin_id, seconds in self._busy_bins().items():
            if 0 <= bin_id - low < len(load):
                load[bin_id - low] += seconds / self.width
        scale = self.timed / self.lasting
        return {
            "concurrency_mean": float(load.mean() * scale),
            "concurrency_p90": float(np.quantile(load, 0.9) * scale),
        }


def _halved(table: dict[int, Any]) -> dict[int, Any]:
    merged: dict[int, Any] = {}
    for bin_id, value in table.items():
        merged[bin_id // 2] = merged.get(bin_id // 2, 0) + value
    return merged


def _central(bins: NDArray[np.int64], times: Floats) -> tuple[int, int]:
    """First and last bin that hold the central 99.8 % of requests: a stray date must not stretch the span."""
    reached = np.cumsum(times) / times.sum()
    low = int(bins[int(np.searchsorted(reached, 0.001))])
    high = int(bins[min(int(np.searchsorted(reached, 0.999)), len(bins) - 1)])
    return low, high
