"""One screen for those who watch in a terminal: drawn from views with rich; nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from draftsmith.controller.words import story
from draftsmith.kit.clock import duration

if TYPE_CHECKING:
    from draftsmith.contract.view import ModelView

TONE = {"watching": "green", "running": "green", "promoting": "green", "stuck": "red", "stopped": "red", "blind": "red"}
EVENTS_SHOWN = 8


def screen(models: Sequence[ModelView]) -> RenderableType:
    """Every model: state, figures, the run in progress, and the latest events. Text from elsewhere is never markup."""
    return Group(*(Panel(_model(model), title=Text(model.name), title_align="left") for model in models))


def _model(model: ModelView) -> RenderableType:
    parts: list[RenderableType] = [_figures(model)]
    if (result := model.progress) is not None:
        words = f"{result.phase}: {result.stage}"
        words += f", {duration(result.eta_s)} left" if result.eta_s is not None else ""
        row = Table.grid(padding=(0, 2))
        row.add_row(Text(words), ProgressBar(total=1.0, completed=result.share or 0.0, width=30))
        parts.append(row)
    if model.trouble:
        parts.append(Text(f"could not be read: {model.trouble}", style="red"))
    if model.controller is not None:
        parts += [
            Text(line, overflow="ellipsis", no_wrap=True, style="dim")
            for line in story(model.controller.events)[-EVENTS_SHOWN:]
        ]
    return Group(*parts)


def _figures(model: ModelView) -> Table:
    grid = Table.grid(padding=(0, 2))
    controller = model.controller
    state = controller.state if controller else "no controller yet"
    grid.add_row("state", Text(state, style=TONE.get(state, "yellow")), Text(controller.why if controller else ""))
    standing = model.state.standing_config if model.state else None
    grid.add_row(
        "serves", Text(str(standing.get("method", "?")) if standing else "no speculation"), f"{model.runs_total} runs"
    )
    live = controller.seen.live if controller and controller.seen else None
    if live is not None:
        length = "unknown" if live.acceptance_length is None else f"{live.acceptance_length:.2f}"
        tpot = "unknown" if live.tpot_s is None else f"{live.tpot_s * 1000:.1f} ms"
        grid.add_row(
            "live", f"acceptance length {length}", f"{tpot} per token, {live.requests} requests, {live.failed} failed"
        )
    if model.runs and (verdict := model.runs[0].verdict) is not None:
        speed = f"{verdict.speedup.value:.3f}x" if verdict.speedup else ""
        grid.add_row("verdict", Text(f"{verdict.outcome} (tier {verdict.tier}) {speed}"), Text(verdict.reason))
    if controller is not None and controller.memory.proposal is not None:
        proposal = controller.memory.proposal
        grid.add_row("waits", Text(f"for a yes: {proposal.act.replace('_', ' ')}", style="yellow"), Text(proposal.why))
    return grid
