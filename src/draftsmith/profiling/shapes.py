"""Shapes to measure at: representative ones of real traffic, and named bench shapes instead of traffic."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from draftsmith import __version__
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import BenchShape, Recommendation, WorkloadProfile
from draftsmith.profiling import lengths as dist
from draftsmith.profiling.recommend import Evidence, has_mtp, recommend

DEFAULT_SHAPES = "1000:1000,10000:1500,100000:2000"
MAX_SHAPES = 4

Histogram = Any


def parse_shapes(text: str) -> tuple[tuple[int, int], ...]:
    """`default`, or `input:output` pairs with commas. Raises InputError."""
    shapes = []
    for part in (DEFAULT_SHAPES if text.strip() in ("", "default") else text).split(","):
        left, _, right = part.strip().partition(":")
        if not left.isdigit() or not (right or "1000").isdigit() or not int(left) or not int(right or 1000):
            raise InputError(f"bench shape {part.strip()!r} is not input:output", f"write it like {DEFAULT_SHAPES}")
        shapes.append((int(left), int(right or 1000)))
    return tuple(shapes)


def shapes_profile(shapes: tuple[tuple[int, int], ...], target: dict[str, Any] | None) -> WorkloadProfile:
    """A profile that stands for bench shapes, all of equal weight, without any traffic behind it."""
    sides = [np.array([shape[at] for shape in shapes], float) for at in (0, 1)]
    once = np.ones(len(shapes))
    inputs, outputs = ((np.sort(side), once) for side in sides)
    evidence = Evidence(len(shapes), dist.distribution(*outputs).p50, None, mtp_layers=has_mtp(target))
    advice = recommend(evidence)
    return WorkloadProfile(
        n_requests=0,
        token_counts="shapes",  # noqa: S106
        input_tokens=dist.distribution(*inputs),
        output_tokens=dist.distribution(*outputs),
        content_class_mix={},
        isl_buckets=dist.buckets(*inputs),
        osl_buckets=dist.buckets(*outputs),
        bench_shapes=tuple(
            BenchShape(name=f"isl{isl}-osl{osl}", isl=isl, osl=osl, weight=1 / len(shapes)) for isl, osl in shapes
        ),
        recommended_spec_decode=Recommendation(
            method=advice.method,
            rationale=f"bench shapes hold no text: {advice.rationale}",
            evidence={"shapes": [f"{isl}:{osl}" for isl, osl in shapes], **advice.evidence},
        ),
        not_available=("text", "content classes", "parameters", "arrivals", "concurrency", "expected acceptance"),
        created_unix_s=time.time(),
        draftsmith_version=__version__,
    )


def representative(
    classes: list[tuple[str, int, Histogram, Histogram]], concurrency: float | None
) -> tuple[BenchShape, ...]:
    """At most four shapes: the median lengths of the largest classes, weighted by their requests; the rest as one."""
    usable = [group for group in classes if group[2][1].sum() and group[3][1].sum()]
    total = sum(count for _, count, _, _ in usable)
    if not total:
        return ()
    own, rest = usable[: MAX_SHAPES - 1], usable[MAX_SHAPES - 1 :]
    groups = [(name, count, [inputs], [outputs]) for name, count, inputs, outputs in own]
    if rest:
        names = rest[0][0] if len(rest) == 1 else "rest"
        groups.append(
            (names, sum(group[1] for group in rest), [group[2] for group in rest], [group[3] for group in rest])
        )
    at_once = max(1, round(concurrency)) if concurrency else None
    return tuple(
        BenchShape(
            name=name,
            isl=_median(inputs),
            osl=_median(outputs),
            weight=count / total,
            concurrency=at_once,
        )
        for name, count, inputs, outputs in groups
    )


def _median(parts: list[Histogram]) -> int:
    return max(1, round(dist.distribution(*dist.merged(parts)).p50 or 1))
