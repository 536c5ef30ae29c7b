"""Hashed histograms of traffic, in four parts, so that later traffic can be compared and this traffic's own noise is known.

Keys of `token_histogram`: `<what>/<part>/<bin>` with shares of that part, and `n/<part>/<what>` with its number of
observations. `what` is token, pair (two tokens in a row), input, output or class. Parts take turns of sixteen records. Bins
of tokens are hashes of many tokens each: no text can be recovered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.traffic.classes import CLASSES

BINS = 128
LENGTH_BINS = 40
PARTS = 4
SIZES = {"token": BINS, "pair": BINS, "input": LENGTH_BINS, "output": LENGTH_BINS, "class": len(CLASSES)}
_PER_E = 3.0
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Fingerprint:
    """Counts by what, part and bin. `basis` says whether token bins come from token ids or from words."""

    counts: dict[str, NDArray[np.float64]] = field(
        default_factory=lambda: {name: np.zeros((PARTS, size)) for name, size in SIZES.items()}
    )
    records: dict[str, NDArray[np.float64]] = field(default_factory=lambda: {name: np.zeros(PARTS) for name in SIZES})
    basis: set[str] = field(default_factory=set)

    def add_classes(self, parts: NDArray[Any], codes: NDArray[Any]) -> None:
        """Class codes of records."""
        self._add("class", parts, codes.astype(np.int64))

    def add_lengths(self, parts: NDArray[Any], kind: str, tokens: NDArray[Any]) -> None:
        """Lengths of records; negative ones are not known."""
        known = tokens >= 0
        bins = np.clip(np.log(np.maximum(tokens[known], 1)) * _PER_E, 0, LENGTH_BINS - 1).astype(np.int64)
        self._add({"in": "input", "out": "output"}[kind], parts[known], bins)

    def add_tokens(self, sample: Any) -> None:
        """Answer tokens of one sampled record, or its prompt where there is no answer."""
        tokens = (sample.output if len(sample.output) else sample.prompt).astype(np.uint64)
        part = (sample.order // 16) % PARTS
        self.basis.add("words" if sample.words else "tokens")
        self.counts["token"][part] += np.bincount(_hashed(tokens), minlength=BINS)
        pairs = tokens[:-1] * np.uint64(1_000_003) + tokens[1:]
        self.counts["pair"][part] += np.bincount(_hashed(pairs), minlength=BINS)
        for name in ("token", "pair"):
            self.records[name][part] += 1

    def _add(self, name: str, parts: NDArray[Any], bins: NDArray[np.int64]) -> None:
        size = SIZES[name]
        self.counts[name] += np.bincount(parts * size + bins, minlength=PARTS * size).reshape(PARTS, size)
        self.records[name] += np.bincount(parts, minlength=PARTS)

    def table(self) -> dict[str, float]:
        """As the profile keeps it. Zero bins are left out."""
        table: dict[str, float] = {f"basis/{name}": 1.0 for name in sorted(self.basis)}
        for name, counts in self.counts.items():
            for part in range(PARTS):
                total = counts[part].sum()
                if not total:
                    continue
                table[f"n/{part}/{name}"] = float(self.records[name][part])
                for bucket in np.flatnonzero(counts[part]).tolist():
                    table[f"{name}/{part}/{bucket}"] = round(float(counts[part][bucket] / total), 7)
        return table


def read_table(
    table: dict[str, float],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]], set[str]]:
    """Shares by what [part, bin], records by what [part], and the basis: the inverse of `Fingerprint.table`."""
    shares = {name: np.zeros((PARTS, size)) for name, size in SIZES.items()}
    records = {name: np.zeros(PARTS) for name in SIZES}
    basis = {key.partition("/")[2] for key in table if key.startswith("basis/")}
    for key, value in table.items():
        group, part, rest = (*key.split("/", 2), "", "")[:3]
        if group == "n" and rest in records and part.isdigit() and int(part) < PARTS:
            records[rest][int(part)] = value
        elif group in shares and part.isdigit() and rest.isdigit() and int(part) < PARTS and int(rest) < SIZES[group]:
            shares[group][int(part), int(rest)] = value
    return shares, records, basis


def _hashed(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    mixed = (values + np.uint64(1)) * _MIX
    mixed ^= mixed >> np.uint64(32)
    return ((mixed * _MIX) >> np.uint64(64 - 7)).astype(np.int64)
