"""plan.html: break-even curves and what follows from them. One file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from draftsmith.contract.context import Context
from draftsmith.contract.plan import ACTION_MEANING, Forecast, Plan
from draftsmith.report.numbers import DASH, duration, milliseconds, percent
from draftsmith.report.svg import PAINT, draw
from draftsmith.report.templates import template
from draftsmith.verdict.advice import speed
from draftsmith.verdict.break_even import CostModel, length_at

TONES = {"train": "win", "ngram": "win", "suffix": "win", "mtp": "win", "keep": "open", "nothing": "loss"}
CURVE_STEPS = 40


@dataclass(frozen=True)
class Exhibit:
    """A plot or a table, with the context of its numbers."""

    title: str
    how: str
    context: Context
    svg: str | None = None
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: tuple[int, ...] = ()
    wide: bool = False


def render_plan(plan: Plan) -> str:
    """The page as text."""
    page = template("plan.html.j2").render(
        plan=plan,
        tone=TONES[plan.advice],
        sections=_sections(plan),
        notes=[ACTION_MEANING[plan.advice], plan.acceptance.sentence, *plan.budget.basis, *plan.notes],
    )
    return str(page).strip() + "\n"


def _sections(plan: Plan) -> list[tuple[str, list[Exhibit]]]:
    model, context = CostModel(plan.samples, plan.fit.confidence), plan.context
    fit = plan.fit
    return [
        (
            "Break-even",
            [
                Exhibit(
                    "Acceptance length to break even",
                    "Above its line a draft is faster than no speculation. Dots: measured pairs; bands: interval of the fit. "
                    f"Residuals: {percent(fit.residual_rms)} rms, {percent(fit.residual_worst)} at worst.",
                    context,
                    svg=_needs_plot(plan, model),
                ),
                Exhibit(
                    "Speed by acceptance length",
                    "One line a concurrency, at the K that is best there (or the middle one). Above the dashed line a "
                    "draft wins.",
                    context,
                    svg=_speed_plot(plan, model),
                ),
                Exhibit(
                    "What a draft needs",
                    f"To win: {plan.min_gain:.0%} faster than what serves. Per token: chance of each next token. "
                    f"Intervals at {fit.confidence:.0%}.",
                    context,
                    head=("concurrency", "plain TPOT, ms", "K", "break-even AL", "interval", "AL to win", "per token"),
                    rows=_needs_rows(plan),
                    numeric=(0, 1, 2, 3, 5, 6),
                    wide=True,
                ),
            ],
        ),
        (
            "Forecast",
            [
                Exhibit(
                    "By concurrency",
                    "Speed against no speculation. A dash: nothing is known, and nothing is guessed.",
                    context,
                    head=("concurrency", "draft", "best K", "standing", "without training", "advice"),
                    rows=_forecast_rows(plan),
                    numeric=(0,),
                    wide=True,
                ),
                Exhibit(
                    "Fastest K by acceptance",
                    "For a chance that the next token is accepted. 0: no K pays.",
                    context,
                    head=("concurrency", *plan.points[0].k_by_acceptance),
                    rows=tuple((str(p.concurrency), *map(str, p.k_by_acceptance.values())) for p in plan.points),
                    numeric=tuple(range(len(plan.points[0].k_by_acceptance) + 1)),
                ),
                Exhibit(
                    "Acceptance by volume of traffic",
                    plan.acceptance.sentence,
                    context,
                    head=("answer tokens", "AL", "interval"),
                    rows=_volume_rows(plan),
                    numeric=(0, 1),
                ),
            ],
        ),
        ("Cost of the loop", [Exhibit("One passage", "", context, head=("what", "how much"), rows=_budget_rows(plan))]),
    ]


def _needs_plot(plan: Plan, model: CostModel) -> str:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for index, c in enumerate(model.concurrencies):
            colour = PAINT[f"arm{index % 8}"]
            costs = [model.ratio(c, k) for k in model.ks]
            axes.fill_between(model.ks, [x.low for x in costs], [x.high for x in costs], color=colour, alpha=0.16, lw=0)
            axes.plot(model.ks, [x.value for x in costs], color=colour, label=f"concurrency {c}")
            own_samples = [s for s in plan.samples if s.method == "draft" and s.concurrency == c]
            axes.plot([s.k for s in own_samples], [s.ratio for s in own_samples], "o", color=colour, markersize=4)
        if plan.acceptance.by_position:
            reached = [length_at(plan.acceptance.by_position, k) for k in model.ks]
            axes.plot(model.ks, reached, color=PAINT["ink"], ls=(0, (4, 3)), label="expected AL")
        axes.set_xticks(model.ks)
        axes.set_xlabel("K, drafted tokens a step")
        axes.set_ylabel("acceptance length (AL)")
        _legend(axes)

    return draw("needs", "Acceptance length at which a draft breaks even, by drafted tokens and concurrency", paint)


def _speed_plot(plan: Plan, model: CostModel) -> str:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for index, point in enumerate(plan.points):
            k = point.best_k or model.ks[len(model.ks) // 2]
            lengths = [1 + k * step / CURVE_STEPS for step in range(CURVE_STEPS + 1)]
            speeds = [speed(model, point.concurrency, k, length) for length in lengths]
            colour = PAINT[f"arm{index % 8}"]
            axes.fill_between(
                lengths, [s.low for s in speeds], [s.high for s in speeds], color=colour, alpha=0.16, lw=0
            )
            axes.plot(lengths, [s.value for s in speeds], color=colour, label=f"concurrency {point.concurrency}, K {k}")
        axes.axhline(1 + plan.min_gain, color=PAINT["win"], lw=1.3, ls=(0, (4, 3)))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("acceptance length (AL)")
        axes.set_ylabel("speed against no speculation (×)")
        _legend(axes)

    return draw("speed", "Speed against no speculation, by acceptance length and concurrency", paint)


def _legend(axes: Any) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3)


def _needs_rows(plan: Plan) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            str(point.concurrency),
            milliseconds(point.plain_tpot_s),
            str(need.k),
            f"{need.break_even.value:.2f}",
            f"{need.break_even.low:.2f} to {need.break_even.high:.2f}",
            f"{need.to_win.value:.2f}",
            percent(need.per_token, 2) if need.per_token is not None else "out of reach",
        )
        for point in plan.points
        for need in point.needs
    )


def _forecast_rows(plan: Plan) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            str(point.concurrency),
            _speed(point.draft),
            str(point.best_k or DASH),
            f"{point.standing.method} {_speed(point.standing)}" if point.standing else "no speculation",
            "; ".join(f"{f.method} K {f.k} {_speed(f)}" for f in point.trainless) or DASH,
            f"{point.advice}: {point.sentence}",
        )
        for point in plan.points
    )


def _speed(forecast: Forecast) -> str:
    if forecast.speedup is None:
        return DASH
    span = f" [{forecast.low:.2f}, {forecast.high:.2f}]" if forecast.low is not None else ""
    return f"{forecast.speedup:.2f}×{span}"


def _volume_rows(plan: Plan) -> tuple[tuple[str, ...], ...]:
    rows = []
    for volume in plan.acceptance.volumes:
        known = volume.acceptance_length is not None
        span = f"{volume.low:.2f} to {volume.high:.2f}" if volume.low is not None else "not known"
        rows.append((f"{volume.answer_tokens:,}", f"{volume.acceptance_length:.2f}" if known else DASH, span))
    return tuple(rows)


def _budget_rows(plan: Plan) -> tuple[tuple[str, ...], ...]:
    return tuple(budget_lines(plan))


def budget_lines(plan: Plan) -> Sequence[tuple[str, str]]:
    """(what, how much) of one passage through the loop."""
    b = plan.budget

    def wall(seconds: float | None) -> str:
        return duration(seconds) if seconds is not None else "not known"

    lines = [
        ("rows that train", f"{b.training_rows:,}, {b.answer_tokens:,} answer tokens"),
        ("capture", f"{b.capture_tokens:,} tokens, {b.capture_bytes / 2**30:.2f} GiB on disk; {wall(b.capture_s)}"),
        ("training", f"{b.train_tokens:,} tokens over all epochs; {wall(b.train_s)}"),
        ("comparison", wall(b.compare_s)),
        ("wall time", wall(b.wall_s)),
    ]
    if b.gpus:
        hours = f"{b.gpu_hours:.2f}" if b.gpu_hours is not None else "not known"
        lines.append(("GPU hours", f"{hours} ({b.gpus} GPU(s))"))
    return lines
