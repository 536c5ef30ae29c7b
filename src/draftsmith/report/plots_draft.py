"""Plots of the draft: acceptance while serving, and training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from draftsmith.contract.measure import RequestSample
from draftsmith.report.numbers import percent
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import Accepted, Training, accepted_by, bucket, bucket_order, smooth, training
from draftsmith.report.svg import PAINT, WIDE, arm_paint, draw, short_name

INK, SOFT = PAINT["ink"], PAINT["soft"]
MOST_CLASSES = 8


def acceptance_by_position(parts: ReportParts) -> str | None:
    """Share of drafts accepted up to each position: measured while serving, and on validation rows in training."""
    rows = [
        (a.arm, a.acceptance_by_position)
        for a in (parts.decision.arms if parts.decision else ())
        if a.point == parts.primary and a.acceptance_by_position
    ]
    validation = parts.draft.validation_acceptance if parts.draft else ()
    if not rows and not validation:
        return None
    colours = arm_paint(parts.arms)
    longest = max([len(shares) for _, shares in rows] + [len(validation)])

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for name, shares in rows:
            axes.plot(
                range(1, len(shares) + 1), shares, color=colours.get(name, INK), marker="o", label=f"{name}, serving"
            )
            if len(shares) == longest:
                axes.annotate(
                    percent(shares[-1], 2),
                    (len(shares), shares[-1]),
                    (7, 0),
                    textcoords="offset points",
                    va="center",
                    color=SOFT,
                    fontsize=8.5,
                )
        if validation:
            leading = parts.leading
            colour = colours.get(leading.name, PAINT["arm1"]) if leading else PAINT["arm1"]
            axes.plot(
                range(1, len(validation) + 1),
                validation,
                color=colour,
                marker="o",
                mfc=PAINT["paper"],
                ls=(0, (3, 2)),
                label="validation, in training",
            )
        axes.set_xticks(range(1, longest + 1))
        axes.set_xlim(0.8, longest + 0.45)
        axes.set_xlabel("position in the draft")
        axes.set_ylabel("share of drafts accepted up to here")
        _share_axis(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3)

    return draw("positions", "Acceptance per draft position, serving and validation", paint)


def acceptance_by_class(parts: ReportParts) -> str | None:
    """Acceptance length per content class and arm at the primary point."""
    table = _accepted(parts, lambda sample: sample.content_class)
    sizes: dict[str, int] = {}
    for row in table.values():
        for name, accepted in row.items():
            sizes[name] = max(sizes.get(name, 0), accepted.requests)
    classes = sorted(sizes, key=lambda name: (-sizes[name], name))[:MOST_CLASSES]
    if not classes:
        return None
    colours = arm_paint(parts.arms)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        height = 0.8 / len(table)
        for index, (arm, row) in enumerate(table.items()):
            places = [i + height * (index - (len(table) - 1) / 2) for i, name in enumerate(classes) if name in row]
            values = [row[name].length for name in classes if name in row]
            axes.barh(places, [v - 1 for v in values], left=1, height=0.86 * height, color=colours[arm], label=arm)
            for place, value in zip(places, values, strict=True):
                axes.annotate(
                    f"{value:.2f}",
                    (value, place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    color=SOFT,
                    fontsize=8.5,
                )
        axes.set_yticks(range(len(classes)), [f"{short_name(name)}\n{sizes[name]} requests" for name in classes])
        axes.set_ylim(len(classes) - 0.45, -0.55)
        axes.set_xlim(1, 1 + 1.15 * max(a.length - 1 for row in table.values() for a in row.values()) + 0.05)
        axes.set_xlabel("acceptance length (tokens per verified step, 1 = nothing accepted)")
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=4)

    return draw("classes", "Acceptance length by content class", paint, (6.0, max(2.6, 1.2 + 0.62 * len(classes))))


def acceptance_by_length(parts: ReportParts) -> str | None:
    """Acceptance length by the length of the prompt and of the answer."""
    sides = (
        ("by prompt length (tokens)", _accepted(parts, lambda sample: bucket(sample.prompt_tokens))),
        ("by answer length (tokens)", _accepted(parts, lambda sample: bucket(sample.output_tokens))),
    )
    if not any(row for _, table in sides for row in table.values()):
        return None
    colours = arm_paint(parts.arms)

    def paint(figure: Any) -> None:
        both = figure.subplots(1, 2, sharey=True)
        for axes, (title, table) in zip(both, sides, strict=True):
            labels = sorted({label for row in table.values() for label in row}, key=bucket_order)
            for arm, row in table.items():
                known = [label for label in labels if label in row]
                axes.plot(
                    [labels.index(label) for label in known],
                    [row[label].length for label in known],
                    color=colours[arm],
                    marker="o",
                    label=arm,
                )
            axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) < 9 else 30)
            axes.set_xlim(-0.4, max(len(labels), 1) - 0.6)
            axes.set_xlabel(title)
        both[0].set_ylabel("acceptance length")
        both[0].set_ylim(bottom=1)
        both[0].legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=4)

    return draw("lengths", "Acceptance length by prompt and answer length", paint, WIDE)


def training_curves(parts: ReportParts) -> str | None:
    """Loss over optimiser steps, and validation acceptance per position and epoch, with the chosen epoch marked."""
    seen = training(parts.training)
    if not seen.steps and not seen.epochs:
        return None
    chosen = parts.draft.epoch if parts.draft else None

    def paint(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        _loss(left, seen, chosen)
        _epochs(right, seen, chosen)

    return draw("training", "Training loss, and validation acceptance per position by epoch", paint, WIDE)


def _loss(axes: Any, seen: Training, chosen: int | None) -> None:
    steps = [step for step, _, _ in seen.steps]
    losses = [loss for _, loss, _ in seen.steps]
    if steps:
        axes.plot(steps, losses, color=SOFT, alpha=0.45, lw=0.8, label="training, each step")
        width = max(1, len(steps) // 30)
        axes.plot(steps, smooth(losses, width), color=PAINT["arm0"], label=f"training, mean of {width} steps")
    marks = [(e.step, e.loss, e.epoch) for e in seen.epochs if e.step is not None and e.loss is not None]
    if marks:
        axes.plot([m[0] for m in marks], [m[1] for m in marks], "o", color=PAINT["arm1"], label="validation")
        for step, loss, epoch in marks:
            if epoch == chosen:
                axes.plot(step, loss, "o", ms=11, mfc="none", mec=PAINT["win"], mew=1.8)
    if losses:
        # The first steps are far off; without a cap nothing else could be told apart.
        axes.set_ylim(0, 1.05 * sorted(losses)[min(len(losses) - 1, int(0.97 * len(losses)))])
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss (summed over positions)")
    axes.legend(loc="upper right")


def _epochs(axes: Any, seen: Training, chosen: int | None) -> None:
    width = max((len(e.acceptance) for e in seen.epochs), default=0)
    for k in range(width):
        known = [(e.epoch + 1, e.acceptance[k]) for e in seen.epochs if k < len(e.acceptance)]
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            color=PAINT["arm1"],
            alpha=1 - 0.6 * k / max(width, 1),
            marker="o",
        )
        axes.annotate(f"position {k + 1}", known[-1], (8, 0), textcoords="offset points", va="center", color=SOFT)
    numbers = [e.epoch + 1 for e in seen.epochs]
    if chosen is not None and chosen + 1 in numbers:
        axes.axvline(chosen + 1, color=PAINT["win"], lw=1.3, ls=(0, (4, 3)))
        axes.annotate(
            "chosen epoch",
            (chosen + 1, 1.0),
            (-5, -2),
            textcoords="offset points",
            va="top",
            ha="right",
            color=PAINT["win"],
        )
    if numbers:
        step = max(1, len(numbers) // 10)
        axes.set_xticks(numbers[::step])
        axes.set_xlim(min(numbers) - 0.35, max(numbers) + 0.22 * max(1, len(numbers)) + 0.2)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation: accepted up to here")
    _share_axis(axes)


def _accepted(parts: ReportParts, group: Callable[[RequestSample], str | None]) -> dict[str, dict[str, Accepted]]:
    """Arms with anything to show, in the plan's order."""
    rates = {
        arm.name: accepted_by((t for t in parts.at(parts.primary) if t.arm == arm.name), group) for arm in parts.arms
    }
    return {arm: row for arm, row in rates.items() if row}


def _share_axis(axes: Any) -> None:
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
