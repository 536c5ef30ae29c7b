"""The plots of a report. Each takes the parts and returns inline SVG, or None if there is nothing to draw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from draftsmith.report.numbers import milliseconds, ratio
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import Spread, block_spread, tpots
from draftsmith.report.svg import PAINT, WIDE, arm_paint, draw

INK, SOFT, LINE = PAINT["ink"], PAINT["soft"], PAINT["line"]
MOST_STEPS = 400  # of a distribution's curve: more cannot be seen and would only make the page heavy


def tpot_by_concurrency(parts: ReportParts) -> str | None:
    """Median TPOT of every arm at every operating point, with an interval over blocks."""
    confidence = parts.plan.thresholds.confidence if parts.plan else 0.95
    table = {
        arm.name: {
            point.concurrency: spread
            for point in parts.points
            if (spread := _spread(parts, arm.name, point.name, confidence))
        }
        for arm in parts.arms
    }
    table = {arm: row for arm, row in table.items() if row}
    loads = sorted({load for row in table.values() for load in row})
    if not loads:
        return None
    colours = arm_paint(parts.arms)
    if len(loads) == 1:
        return _tpot_one_point({arm: row[loads[0]] for arm, row in table.items()}, colours, loads[0])

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for index, (arm, row) in enumerate(table.items()):
            nudge = 1 + 0.035 * (index - (len(table) - 1) / 2)
            xs = [load * nudge for load in row]
            ys = [1000 * s.value for s in row.values()]
            axes.errorbar(
                xs, ys, yerr=_bars(list(row.values())), color=colours[arm], marker="o", capsize=2.5, label=arm
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(loads, [str(load) for load in loads])
        axes.minorticks_off()
        axes.set_xlabel("concurrency (requests in flight)")
        axes.set_ylabel("median TPOT (ms per token)")
        axes.set_ylim(bottom=0)
        _legend(axes, len(table))

    return draw("tpot", "Median time per output token against concurrency, by arm", paint)


def _spread(parts: ReportParts, arm: str, point: str, confidence: float) -> Spread | None:
    """The verdict's own median, so that plot and table say the same, with the interval over blocks around it."""
    spread, summary = block_spread((t for t in parts.at(point) if t.arm == arm), confidence), parts.summary(arm, point)
    if spread is None or summary is None or summary.median_tpot_s is None:
        return spread
    value = summary.median_tpot_s
    low = None if spread.low is None else min(spread.low, value)
    high = None if spread.high is None else max(spread.high, value)
    return Spread(value, low, high, spread.blocks)


def _tpot_one_point(row: dict[str, Any], colours: dict[str, str], load: int) -> str:
    """With a single point a line has no meaning: one row per arm instead."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        names = list(row)
        for place, name in enumerate(names):
            spread = row[name]
            axes.hlines(place, 0, 1000 * spread.value, color=colours[name], linewidth=9, alpha=0.28)
            axes.errorbar(
                1000 * spread.value,
                place,
                xerr=_bars([spread]),
                color=colours[name],
                marker="o",
                capsize=3,
                markersize=6,
            )
            end = 1000 * (spread.high or spread.value)
            axes.annotate(
                milliseconds(spread.value), (end, place), (8, 0), textcoords="offset points", va="center", color=INK
            )
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, 1.14 * max(1000 * (s.high or s.value) for s in row.values()))
        axes.set_xlabel(f"median TPOT (ms per token) at concurrency {load}")
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")

    return draw("tpot", "Median time per output token by arm", paint, (6.0, 1.3 + 0.45 * len(row)))


def tpot_distribution(parts: ReportParts) -> str | None:
    """Share of requests at or below each TPOT, by arm, at the primary point."""
    table = {arm.name: sorted(tpots(t for t in parts.at(parts.primary) if t.arm == arm.name)) for arm in parts.arms}
    table = {arm: values for arm, values in table.items() if len(values) > 1}
    if not table:
        return None
    colours = arm_paint(parts.arms)
    everything = sorted(value for values in table.values() for value in values)
    last = everything[min(len(everything) - 1, math.ceil(0.995 * len(everything)))]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for arm, values in table.items():
            every = max(1, len(values) // MOST_STEPS)
            steps = [*range(0, len(values) - 1, every), len(values) - 1]
            shares = [(i + 1) / len(values) for i in steps]
            axes.step([1000 * values[i] for i in steps], shares, where="post", color=colours[arm], label=arm)
            axes.plot(1000 * statistics.median(values), 0.5, "o", color=colours[arm])
        axes.set_xlabel("TPOT of one request (ms per token)")
        axes.set_ylabel("share of requests")
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlim(0.94 * 1000 * everything[0], 1.02 * 1000 * last)
        _legend(axes, len(table))

    return draw("ecdf", "Distribution of time per output token over requests, by arm", paint)


def block_ratios(parts: ReportParts) -> str | None:
    """Block by block: how much faster each arm was than the baseline, the noise of equal servers, the bar to clear."""
    if parts.decision is None:
        return None
    pairs = [pair for pair in parts.decision.pairs if pair.point == parts.primary and pair.block_ratios]
    if not pairs:
        return None
    colours, floor = arm_paint(parts.arms), parts.decision.aa_floor
    longest = max(len(pair.block_ratios) for pair in pairs)
    bar = max(pair.min_speedup for pair in pairs)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        if floor:
            axes.axhspan(1 / (1 + floor), 1 + floor, color=SOFT, alpha=0.16, lw=0, label="equal servers (A/A floor)")
        axes.axhline(1, color=SOFT, lw=1)
        axes.axhline(bar, color=PAINT["win"], lw=1.3, ls=(0, (4, 3)), label=f"bar to clear, {ratio(bar)}")
        for index, pair in enumerate(pairs):
            colour = colours.get(pair.candidate, INK)
            blocks = range(1, len(pair.block_ratios) + 1)
            axes.plot(blocks, pair.block_ratios, color=colour, marker="o", lw=1.2, label=pair.candidate)
            if pair.speedup:
                s = pair.speedup
                place = longest + 0.9 + 0.22 * index
                axes.errorbar(
                    place, s.value, yerr=[[s.value - s.low], [s.high - s.value]], color=colour, marker="D", capsize=3
                )
        end = longest + 0.9 + 0.22 * (len(pairs) - 1)
        axes.axvline(longest + 0.5, color=LINE, lw=1)
        axes.set_xticks(
            [*range(1, longest + 1), (longest + 0.9 + end) / 2], [*map(str, range(1, longest + 1)), "interval"]
        )
        axes.set_xlim(0.6, end + 0.4)
        axes.set_ylim(*_limits(pairs, floor or 0.0, bar))
        axes.set_xlabel("block")
        axes.set_ylabel("speed-up over the baseline (×)")
        _legend(axes, len(pairs) + 2, columns=6)

    return draw(
        "blocks", "Speed-up over the baseline, block by block, with the noise floor and the bar to clear", paint, WIDE
    )


def _limits(pairs: Sequence[Any], floor: float, bar: float) -> tuple[float, float]:
    """Room for every block and the band; an interval that is far wider is cut rather than flattening all else."""
    shown = [ratio for pair in pairs for ratio in pair.block_ratios] + [1 - floor, 1 + floor, bar]
    low, high = min(shown), max(shown)
    room = max(high - low, 0.06)
    lows = [pair.speedup.low for pair in pairs if pair.speedup]
    highs = [pair.speedup.high for pair in pairs if pair.speedup]
    return (
        max(0.0, max(low - 0.6 * room, min([low, *lows])) - 0.05 * room),
        min(high + 0.6 * room, max([high, *highs])) + 0.05 * room,
    )


def _bars(spreads: Sequence[Any]) -> Any:
    """Error bars in milliseconds, for matplotlib: [[below], [above]]."""
    below = [1000 * (s.value - (s.low if s.low is not None else s.value)) for s in spreads]
    above = [1000 * ((s.high if s.high is not None else s.value) - s.value) for s in spreads]
    return [below, above]


def _legend(axes: Any, entries: int, columns: int = 4) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=min(entries, columns))
