"""`draftsmith frontier`, and the last words of every command that measures: the next lever, its expected unlock, cost and gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show

if TYPE_CHECKING:
    from draftsmith.contract.config import Config
    from draftsmith.contract.frontier import Frontier
    from draftsmith.report.parts import ReportParts

SHOWN = 3


def frontier(
    action: Annotated[str, typer.Argument(help="show | refute | reopen")] = "show",
    key: Annotated[str | None, typer.Argument(help="the lever, by the word in brackets")] = None,
    because: Annotated[str, typer.Option("--because", help="refute: why it loses")] = "",
    evidence: Annotated[str | None, typer.Option("--evidence", help="refute: the run or note that shows it")] = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """What to try next, by value and cost, and what was refuted, with the reason and evidence. Kept over runs in HANDOFF.md.

    Levers come from what was measured; an arm that lost is refuted by that. `refute` closes one for another reason, `reopen`
    opens it again.
    """
    from draftsmith import api
    from draftsmith.contract.errors import InputError
    from draftsmith.report.frontier import handoff

    settled = o.configuration(config, workspace=workspace)
    if action == "show":
        frontier = api.frontier(settled)
    elif action == "refute" and key:
        frontier = api.refute_lever(settled, key, because, evidence)
    elif action == "reopen" and key:
        frontier = api.reopen_lever(settled, key)
    else:
        raise InputError(
            f"{action!r} is not understood", "frontier, frontier refute KEY --because TEXT, frontier reopen KEY"
        )
    show(frontier, handoff(frontier).rstrip())


def show_measured(value: dict[str, Any], text: str, current: Frontier | None) -> None:
    """Print what a measuring command gives, and the next levers after it."""
    show(value | {"next_levers": levers(current)}, text + last_words(current))


def last_words(current: Frontier | None) -> str:
    """With the newline before them; empty where there is no frontier."""
    from draftsmith.report.frontier import lines_of

    return "\n" + "\n".join(lines_of(current)) if current is not None else ""


def levers(current: Frontier | None) -> list[dict[str, Any]]:
    """The same for --json."""
    return [lever.model_dump(mode="json") for lever in current.open[:SHOWN]] if current is not None else []


def of_workspace(workspace: str | Path) -> Frontier | None:
    """As it stands there; None if there is none yet, or it cannot be read."""
    from draftsmith.api.frontiers import FILE, quietly
    from draftsmith.api.frontiers import frontier as read
    from draftsmith.contract.config import Config

    if not (Path(workspace) / FILE).is_file():
        return None
    return quietly(lambda: read(Config(workspace=str(workspace))))


def of_comparison(config: Config, folder: Path) -> Frontier | None:
    """After a comparison in `folder`, which joins the workspace's frontier."""
    from draftsmith.api.frontiers import learn_from_comparison, quietly

    return quietly(lambda: learn_from_comparison(config, folder))


def of_evidence(parts: ReportParts, name: str) -> Frontier | None:
    """Of evidence that belongs to no workspace."""
    from draftsmith.api.frontiers import of_parts, quietly

    return quietly(lambda: of_parts(parts, name))
