"""Plots of the traffic: lengths, content classes, and what trainless methods would reach on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draftsmith.contract.profile import ExpectedAcceptance, LengthBucket
from draftsmith.report.numbers import percent
from draftsmith.report.parts import ReportParts
from draftsmith.report.svg import PAINT, WIDE, draw, short_name

SOFT = PAINT["soft"]
MOST_CLASSES = 8


def traffic_lengths(parts: ReportParts) -> str | None:
    """Shares of requests by input and output length, as profiled."""
    profile = parts.profile
    if profile is None or not (profile.isl_buckets or profile.osl_buckets):
        return None

    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for axes, buckets, title in (
            (left, profile.isl_buckets, "input length (tokens)"),
            (right, profile.osl_buckets, "output length (tokens)"),
        ):
            _histogram(axes, buckets, title)
        left.set_ylabel("share of requests")

    return draw("traffic", "Histograms of input and output lengths in the traffic", paint, WIDE)


def _histogram(axes: Any, buckets: Sequence[LengthBucket], title: str) -> None:
    used = [i for i, b in enumerate(buckets) if b.share > 0]
    shown = buckets[used[0] : used[-1] + 1] if used else ()
    axes.bar(range(len(shown)), [b.share for b in shown], color=PAINT["arm0"], width=0.86)
    labels = [f"{b.low}+" if b.high is None else f"{b.low}–{b.high - 1}" for b in shown]
    axes.set_xticks(range(len(shown)), labels, **_slanted(len(shown)))
    axes.yaxis.set_major_formatter(lambda value, _: percent(value, 2))
    axes.set_xlabel(title)


def _slanted(labels: int) -> dict[str, Any]:
    return {} if labels < 9 else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}


def traffic_load(parts: ReportParts) -> str | None:
    """Arrivals and requests in flight over the log's own time."""
    slices = parts.profile.load_over_time if parts.profile else ()
    if len(slices) < 2:
        return None
    span = slices[-1].start_unix_s + slices[-1].seconds - slices[0].start_unix_s
    unit, size = next(
        ((u, s) for u, s in (("days", 86400), ("hours", 3600), ("minutes", 60)) if span >= 3 * s), ("s", 1)
    )
    edges = [(part.start_unix_s - slices[0].start_unix_s) / size for part in slices] + [span / size]
    series: list[tuple[str, list[float], str]] = [("requests per s", [s.requests_per_s for s in slices], "arm0")]
    if all(s.concurrency is not None for s in slices):
        series.append(("requests in flight", [s.concurrency or 0.0 for s in slices], "arm1"))

    def paint(figure: Any) -> None:
        both = figure.subplots(1, len(series), squeeze=False)[0]
        for axes, (label, values, colour) in zip(both, series, strict=True):
            axes.stairs(values, edges, fill=True, color=PAINT[colour], alpha=0.75)
            axes.set_ylim(bottom=0)
            axes.set_ylabel(label)
            axes.set_xlabel(f"{unit} since the log began")

    return draw("load", "Arrivals and requests in flight over time", paint, WIDE)


def traffic_classes(parts: ReportParts) -> str | None:
    """The mix of content classes."""
    mix = sorted((parts.profile.content_class_mix if parts.profile else {}).items(), key=lambda item: -item[1])
    if not mix:
        return None
    rest = sum(share for _, share in mix[MOST_CLASSES:])
    mix = mix[:MOST_CLASSES] + ([("all others", rest)] if rest else [])

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.barh(range(len(mix)), [share for _, share in mix], color=PAINT["arm0"], height=0.7)
        for place, (_, share) in enumerate(mix):
            axes.annotate(percent(share), (share, place), (5, 0), textcoords="offset points", va="center", color=SOFT)
        axes.set_yticks(range(len(mix)), [short_name(name) for name, _ in mix])
        axes.set_ylim(len(mix) - 0.4, -0.6)
        axes.set_xlim(0, 1.18 * mix[0][1])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.grid(visible=False)
        axes.set_xlabel("share of requests")

    return draw("mix", "Content classes in the traffic", paint, (6.0, max(1.6, 0.8 + 0.34 * len(mix))))


def expected_acceptance(parts: ReportParts) -> str | None:
    """What trainless methods would reach on this traffic, over all of it and per class."""
    profile = parts.profile
    if profile is None:
        return None
    groups: list[tuple[str, tuple[ExpectedAcceptance, ...]]] = [("all traffic", profile.expected_acceptance)]
    groups += [(c.name, c.expected_acceptance) for c in profile.classes]
    rows = [(name, best) for name, group in groups if (best := _best_by_method(group))][: MOST_CLASSES + 1]
    methods = sorted({method for _, best in rows for method in best})
    if not rows:
        return None
    colours = dict(zip(methods, (PAINT["arm3"], PAINT["arm4"]), strict=False))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        height = 0.76 / len(methods)
        for index, method in enumerate(methods):
            known = [
                (i + height * (index - (len(methods) - 1) / 2), best[method])
                for i, (_, best) in enumerate(rows)
                if method in best
            ]
            length = next(best[method].num_speculative_tokens for _, best in rows if method in best)
            values = [e.tokens_per_step or 1.0 for _, e in known]
            axes.barh(
                [place for place, _ in known],
                [v - 1 for v in values],
                left=1,
                height=0.86 * height,
                color=colours[method],
                label=f"{method}, K={length}",
            )
            for (place, _), value in zip(known, values, strict=True):
                axes.annotate(
                    f"{value:.2f}",
                    (value, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    color=SOFT,
                    fontsize=8.5,
                )
        axes.set_yticks(range(len(rows)), [short_name(name) for name, _ in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        top = max(e.tokens_per_step or 1.0 for _, best in rows for e in best.values())
        axes.set_xlim(1, 1 + 1.18 * (top - 1) + 0.02)
        axes.set_xlabel("simulated tokens per step (1 = no speculation)")
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3)

    return draw(
        "trainless", "Expected tokens per step of trainless methods", paint, (6.0, max(2.0, 1.1 + 0.48 * len(rows)))
    )


def _best_by_method(expected: Sequence[ExpectedAcceptance]) -> dict[str, ExpectedAcceptance]:
    best: dict[str, ExpectedAcceptance] = {}
    for item in expected:
        if item.tokens_per_step is None:
            continue
        old = best.get(item.method)
        if old is None or (old.tokens_per_step or 0.0) < item.tokens_per_step:
            best[item.method] = item
    return best
