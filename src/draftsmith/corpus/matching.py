"""Making a corpus look like the traffic: explicit weights, subsampling that keeps the mix, hard rows, public sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import LengthBucket, WorkloadProfile
from draftsmith.corpus.rows import acceptance
from draftsmith.corpus.splits import unit_hash

Weights = NDArray[np.float64]


def class_weights(rows: Mapping[str, int], mix: Mapping[str, float] | None) -> dict[str, float]:
    """class -> weight of each of its rows, so that weighted rows have the profile's mix; the mean weight is 1.

    Without a mix, or for a class that the mix lacks, the weight is 1 (relative to the corpus's own share).
    """
    total = sum(rows.values())
    if not total:
        return {}
    raw = {name: (mix or {}).get(name, 0.0) / (count / total) or 1.0 for name, count in rows.items() if count}
    mean = sum(raw[name] * rows[name] for name in raw) / total
    return {name: round(raw[name] / mean, 6) for name in sorted(raw)}


def bucket_of(length: int, buckets: Sequence[LengthBucket]) -> int | None:
    """Index of the bucket [low, high) that holds `length`; None if none does."""
    for place, bucket in enumerate(buckets):
        if length >= bucket.low and (bucket.high is None or length < bucket.high):
            return place
    return None


def row_weights(
    classes: Sequence[str], prompt_tokens: Sequence[int], answer_tokens: Sequence[int], profile: WorkloadProfile
) -> Weights:
    """Weight of each row so that class mix, input lengths and output lengths all match the profile; mean 1.

    Raking (iterative proportional fitting) over the three marginals; a bucket without rows cannot be matched and is
    left out. Weights are kept within [0.1, 10], so that no single row dominates training.
    """
    marginals = [
        _marginal(classes, profile.content_class_mix),
        _marginal([bucket_of(n, profile.isl_buckets) for n in prompt_tokens], _shares(profile.isl_buckets)),
        _marginal([bucket_of(n, profile.osl_buckets) for n in answer_tokens], _shares(profile.osl_buckets)),
    ]
    weights = np.ones(len(classes))
    for _ in range(50):
        before = weights.copy()
        for codes, shares in marginals:
            if not len(shares):
                continue
            held = np.bincount(codes, weights=weights, minlength=len(shares)) / weights.sum()
            weights *= np.where(held > 0, shares / np.maximum(held, 1e-12), 1.0)[codes]
        weights = np.clip(weights / weights.mean(), 0.1, 10.0)
        if np.allclose(before, weights, rtol=1e-4):
            break
    return np.asarray(weights / weights.mean())


def _shares(buckets: Sequence[LengthBucket]) -> dict[int, float]:
    return {place: bucket.share for place, bucket in enumerate(buckets)}


def _marginal(keys: Sequence[Any], wanted: Mapping[Any, float]) -> tuple[NDArray[np.int64], Weights]:
    names = list(dict.fromkeys(keys))
    code = {name: place for place, name in enumerate(names)}
    codes = np.array([code[key] for key in keys], dtype=np.int64)
    held = np.bincount(codes, minlength=len(names)) / max(len(keys), 1)
    target_features = np.array([wanted.get(name, 0.0) for name in names])
    known = target_features > 0
    if not known.any():
        return codes, np.empty(0)
    # What the profile does not name keeps the share it has.
    shares = np.where(known, target_features / target_features[known].sum() * held[known].sum(), held)
    return codes, shares / shares.sum()


def quotas(available: Mapping[str, int], weight: Mapping[str, float], total: int) -> dict[str, int]:
    """How many to take of each stratum: `total` in proportion to available x weight, never more than there are.

    Largest remainders; what a short stratum cannot give is spread over the others.
    """
    left = {name: count for name, count in available.items() if count > 0}
    taken: dict[str, int] = {}
    total = min(total, sum(left.values()))
    while left:
        mass = {name: count * max(weight.get(name, 1.0), 1e-9) for name, count in left.items()}
        scale = total / sum(mass.values())
        full = [name for name in left if mass[name] * scale >= left[name]]
        if not full:
            return dict(sorted((taken | _rounded({n: m * scale for n, m in mass.items()}, total)).items()))
        for name in full:
            taken[name] = min(left.pop(name), total)
            total -= taken[name]
    return dict(sorted(taken.items()))


def _rounded(exact: Mapping[str, float], total: int) -> dict[str, int]:
    floor = {name: math.floor(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (floor[name] - exact[name], name))
    for name in order[: total - sum(floor.values())]:
        floor[name] += 1
    return floor


def choose(
    strata: Sequence[str],
    names: Sequence[str],
    total: int,
    seed: int,
    *,
    weight: Mapping[str, float] | None = None,
    odds: Sequence[float] | None = None,
    first: Sequence[float | None] | None = None,
    first_share: float = 0.0,
) -> list[int]:
    """Places of `total` rows, drawn by hash of their name so that every stratum keeps its (weighted) share.

    `odds`: of each row, against the others of its stratum. With `first_share`, that part of every quota goes to the rows with the lowest number in `first` (the hardest).
    The same rows come back for the same seed; places are ascending.
    """
    quota = quotas(Counter(strata), weight or {}, total)
    members: dict[str, list[int]] = {}
    for place, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(place)
    chosen: list[int] = []
    for stratum, places in members.items():
        take = quota.get(stratum, 0)
        drawn = sorted(places, key=lambda place: (_turn(names[place], seed, odds[place] if odds else 1.0), place))
        hard = _hardest(places, first or [], round(take * first_share))
        chosen += [*hard, *[p for p in drawn if p not in set(hard)]][:take]
    return sorted(chosen)


def _turn(name: str, seed: int, odds: float) -> float:
    """When a row is drawn, without replacement: the first of exponential clocks that run as fast as the odds are."""
    return -math.log1p(-unit_hash(name, seed)) / max(odds, 1e-9)


def _hardest(places: Sequence[int], numbers: Sequence[float | None], count: int) -> list[int]:
    known = [(number, place) for place in places if numbers and (number := numbers[place]) is not None]
    return [place for _, place in sorted(known)[:count]]


def hard_examples(records: Iterable[AccessRecord], share: float = 0.1, min_drafts: int = 4) -> list[str]:
    """Ids of the requests whose drafts were accepted least, hardest first: the lowest `share` of those measured.

    Requests with fewer than `min_drafts` drafts say nothing about their acceptance and are left out.
    """
    measured = [
        (a, r.id) for r in records if r.spec and r.spec.drafts >= min_drafts and (a := acceptance(r)) is not None
    ]
    return [name for _, name in sorted(measured)[: math.ceil(len(measured) * share)]]


def plan_public_mix(profile: WorkloadProfile, sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Weights over user-supplied public sets that come closest to traffic of which only lengths and classes are known.

    `sets`: name -> requests, each {"prompt_tokens", "answer_tokens" (optional), "content_class" (optional)}. Returns a JSON-able plan:
    weights (sum 1), what the mix will look like beside what was asked, and the largest gap. Non-negative least squares
    over the shares of every class and length bucket. Raises InputError when there is nothing to match.
    """
    from scipy.optimize import nnls

    target_features = _features(profile)
    if not target_features or not any(sets.values()):
        raise InputError("nothing to match: the profile has neither classes nor lengths, or no public set was given",
                         "profile the traffic first, and name at least one public set")  # fmt: skip
    names = sorted(name for name, rows in sets.items() if rows)
    columns = np.array([[_share(sets[name], feature, profile) for name in names] for feature in target_features])
    target = np.array(list(target_features.values()))
    # A heavy last row makes the weights sum to one.
    solved, _ = nnls(np.vstack([columns, np.full(len(names), 10.0)]), np.append(target, 10.0))
    weights = solved / solved.sum()
    mix = columns @ weights
    return {
        "schema": "draftsmith_public_mix_v1",
        "weights": {name: round(float(w), 6) for name, w in zip(names, weights, strict=True)},
        "marginals": [
            {"feature": "/".join(map(str, feature)), "asked": round(float(a), 6), "planned": round(float(m), 6)}
            for (feature, a), m in zip(target_features.items(), mix, strict=True)
        ],
        "largest_gap": round(float(np.abs(mix - target).max()), 6),
        "profile_sha256": profile.sha256 or None,
        "note": "answers must still be made by the target: public answers are off-policy",
    }


def _features(profile: WorkloadProfile) -> dict[tuple[str, Hashable], float]:
    features: dict[tuple[str, Hashable], float] = {}
    if set(profile.content_class_mix) - {"unknown"}:
        features |= {("class", name): share for name, share in profile.content_class_mix.items()}
    features |= {("input", place): share for place, share in _shares(profile.isl_buckets).items()}
    return features | {("output", place): share for place, share in _shares(profile.osl_buckets).items()}


def _share(rows: Sequence[Mapping[str, Any]], feature: tuple[str, Hashable], profile: WorkloadProfile) -> float:
    kind, wanted = feature
    if kind == "class":
        return float(np.mean([row.get("content_class") == wanted for row in rows]))
    buckets, field = (
        (profile.isl_buckets, "prompt_tokens") if kind == "input" else (profile.osl_buckets, "answer_tokens")
    )
    known = [int(row[field]) for row in rows if row.get(field) is not None]
    return sum(bucket_of(n, buckets) == wanted for n in known) / len(known) if known else 0.0
