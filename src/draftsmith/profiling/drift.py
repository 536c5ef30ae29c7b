"""Drift between two profiles, compared with the noise inside each of them.

Every profile holds its histograms in four parts that took turns over the log. The distance between halves of one log is
noise: sampling, and the hours of the day. It shrinks with the number of records, so the noise between two logs follows from
the noise inside each. A measure moved if its divergence is above that floor by a margin, and large enough to matter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.profiling.fingerprint import read_table
from draftsmith.traffic.classes import CLASSES

Floats = NDArray[np.float64]
Measure = Literal["input lengths", "output lengths", "content classes", "tokens", "token pairs"]

MARGIN = 3.0
"""How many times the floor a divergence must reach."""
SMALLEST = 0.005
"""Divergences (in bits) below this are left alone, however sure: a draft does not feel them."""
MIN_RECORDS = 40
_HALVES = ((0, 1), (0, 2), (0, 3))
_NAMES: dict[str, Measure] = {
    "input": "input lengths",
    "output": "output lengths",
    "class": "content classes",
    "token": "tokens",
    "pair": "token pairs",
}


class Moved(Frozen):
    """One measure. `distance` and `floor` are Jensen-Shannon divergences in bits; 0 is equal, 1 has nothing in common."""

    measure: Measure
    distance: float
    floor: float
    moved: bool
    sentence: str


class DriftReport(Frozen):
    """`drifted` None means that it could not be judged; `unknown` says why."""

    drifted: bool | None
    measures: tuple[Moved, ...] = ()
    unknown: tuple[str, ...] = ()
    sentence: str
    before_sha256: str = Field(description="profile compared from")
    after_sha256: str = Field(description="profile compared to")


def compare(a: WorkloadProfile, b: WorkloadProfile) -> DriftReport:
    """Compare earlier traffic `a` with later traffic `b`. Pure. Raises InputError for profiles of bench shapes."""
    if "shapes" in (a.token_counts, b.token_counts):
        raise InputError("bench shapes have no traffic to compare", "compare profiles made from logs")
    (shares_a, records_a, basis_a), (shares_b, records_b, basis_b) = (
        read_table(a.token_histogram),
        read_table(b.token_histogram),
    )
    measures, unknown = [], []
    for key, name in _NAMES.items():
        reason = _reason(
            key, records_a[key].sum(), records_b[key].sum(), (a.tokenizer, basis_a), (b.tokenizer, basis_b)
        )
        if reason:
            unknown.append(f"{name}: {reason}")
            continue
        left, right = (shares_a[key], records_a[key]), (shares_b[key], records_b[key])
        measures.append(_measure(name, left, right, _words(key, a, b)))
    moved = [measure for measure in measures if measure.moved]
    return DriftReport(
        drifted=bool(moved) if measures else None,
        measures=tuple(measures),
        unknown=tuple(unknown),
        sentence=_sentence(measures, moved, unknown),
        before_sha256=a.sha256,
        after_sha256=b.sha256,
    )


def _reason(
    key: str, before: float, after: float, a: tuple[str | None, set[str]], b: tuple[str | None, set[str]]
) -> str | None:
    if before < MIN_RECORDS or after < MIN_RECORDS:
        return f"too few records ({before:.0f} and {after:.0f}; {MIN_RECORDS} are needed)"
    if key in ("token", "pair"):
        if a[1] != b[1]:
            return "one profile has token ids, the other only words"
        if a[0] and b[0] and a[0] != b[0]:
            return "made with different tokenizers"
    return None


def _measure(name: Measure, a: tuple[Floats, Floats], b: tuple[Floats, Floats], words: str) -> Moved:
    distance = _divergence(_mean(*a), _mean(*b))
    unit = max(_noise(*a), _noise(*b))
    floor = unit * (1 / a[1].sum() + 1 / b[1].sum())
    moved = distance > max(MARGIN * floor, SMALLEST)
    verdict = "moved" if moved else "within noise"
    sentence = f"{name} {verdict}: divergence {distance:.4f} bits, floor {floor:.4f}"
    return Moved(
        measure=name,
        distance=round(distance, 6),
        floor=round(floor, 6),
        moved=moved,
        sentence=f"{sentence}; {words}" if words and moved else sentence,
    )


def _mean(shares: Floats, records: Floats) -> Floats:
    return np.asarray((shares * records[:, None]).sum(axis=0) / max(records.sum(), 1.0), float)


def _noise(shares: Floats, records: Floats) -> float:
    """Divergence between halves of one log, as if each half held one record: the largest over three ways to halve it."""
    noise = 0.0
    for pair in _HALVES:
        in_pair = np.isin(np.arange(len(records)), pair)
        sizes = records[in_pair].sum(), records[~in_pair].sum()
        if min(sizes) > 0:
            apart = _divergence(_mean(shares[in_pair], records[in_pair]), _mean(shares[~in_pair], records[~in_pair]))
            noise = max(noise, apart / (1 / sizes[0] + 1 / sizes[1]))
    return noise


def _divergence(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence in bits."""
    middle = (p + q) / 2

    def relative(counts: Floats) -> float:
        live = counts > 0
        return float((counts[live] * np.log2(counts[live] / middle[live])).sum())

    return max(0.0, (relative(p) + relative(q)) / 2)


def _words(key: str, a: WorkloadProfile, b: WorkloadProfile) -> str:
    """What moved, in the profile's own figures."""
    if key == "class":
        names = [name for name in CLASSES if name in a.content_class_mix or name in b.content_class_mix]
        steps = sorted(
            ((b.content_class_mix.get(name, 0.0) - a.content_class_mix.get(name, 0.0), name) for name in names),
            key=lambda step: -abs(step[0]),
        )
        shown = [f"{name} {step * 100:+.0f} points" for step, name in steps[:3] if abs(step) >= 0.01]
        return ", ".join(shown)
    if key in ("input", "output"):
        before, after = (profile.input_tokens if key == "input" else profile.output_tokens for profile in (a, b))
        return f"median {_n(before.p50)} -> {_n(after.p50)}, p99 {_n(before.p99)} -> {_n(after.p99)} tokens"
    return (
        "the answers use other words than before"
        if key == "token"
        else "the answers put their words together differently"
    )


def _n(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"


def _sentence(measures: list[Moved], moved: list[Moved], unknown: list[str]) -> str:
    if not measures:
        return f"drift cannot be judged: {'; '.join(unknown)}"
    if not moved:
        return f"no drift: all of {len(measures)} measures lie within the traffic's own noise"
    strongest = max(moved, key=lambda measure: measure.distance / max(measure.floor, 1e-9))
    return f"the traffic moved in {', '.join(measure.measure for measure in moved)}; most of all {strongest.sentence}"
