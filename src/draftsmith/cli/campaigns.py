"""Commands of campaigns: settled, measured cell by cell, gathered, and set beside the GPU's own counters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.frontier import of_workspace, show_measured
from draftsmith.cli.output import RunConsole, say, show

Place = Annotated[
    str | None, typer.Option("--campaign", help="id or folder of the campaign; default: the newest of the workspace")
]


def _action(given: str, *known: str) -> None:
    from draftsmith.contract.errors import InputError

    if given not in known:
        raise InputError(f"no action {given!r}", " or ".join(known))


def campaign(
    action: Annotated[str, typer.Argument(help="init")],
    experiment_id: Annotated[
        str, typer.Option("--experiment-id", help="id of a run, whose arms, profile and prompts are used; or a new id")
    ] = "",
    focus: Annotated[
        str, typer.Option("--focus", help="latency: one request in flight; throughput: the profile's load")
    ] = "latency",
    profile: Annotated[
        Path | None, typer.Option("--profile", "-p", help="workload-profile.json with the bench shapes")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="JSON lines of real prompts; prompts of every length are made from them"),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="as in `draftsmith compare`")] = None,
    standing: Annotated[str | None, typer.Option("--standing", help="the baseline; default: the first arm")] = None,
    candidate: Annotated[list[str] | None, typer.Option("--candidate", help="arms on trial")] = None,
    concurrency: Annotated[
        list[int] | None, typer.Option("--concurrency", help="requests in flight; the first decides")
    ] = None,
    target: o.Target = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Settle a campaign: which arms are measured at which shapes of the profile. Nothing is measured yet.

    After a run, its id is enough: run, experiment and campaign have one name. `draftsmith cell run` measures.
    """
    from draftsmith import api
    from draftsmith.contract.errors import InputError

    _action(action, "init")
    if focus not in ("latency", "throughput"):
        raise InputError(f"no focus {focus!r}", "latency or throughput")
    created = api.campaign_init(
        o.configuration(config, target=target, workspace=workspace, settings=settings),
        api.CampaignRequest(
            experiment_id=experiment_id,
            focus="latency" if focus == "latency" else "throughput",
            profile=profile,
            prompts=prompts,
            arms=tuple(arm or ()),
            standing=standing,
            candidates=tuple(candidate) if candidate else None,
            concurrency=tuple(concurrency or ()),
        ),
    )
    cells = [
        f"  {cell.name}: {cell.isl} in, {cell.osl} out, concurrency {', '.join(map(str, cell.concurrency))}"
        for cell in created.record.cells
    ]
    text = f"campaign {created.record.campaign} in {created.folder}: {len(cells)} cells, baseline {created.record.standing}"
    show(created.record, "\n".join([text, *cells, "next     draftsmith cell run"]))


def cell(
    action: Annotated[str, typer.Argument(help="run")],
    campaign: Place = None,
    name: Annotated[
        str | None, typer.Option("--cell", help="which cell; default: the next one that is not measured")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="one cell after the other until all are measured")] = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Measure a cell: every arm at one shape of the profile, by the rules of `compare`, with an evidence bundle of its own.

    An interrupted cell is continued. Prompts have the shape's length exactly; nothing is cut to fit a smaller context.
    """
    from draftsmith import api

    _action(action, "run")
    settled = o.configuration(config, workspace=workspace, settings=settings)
    console = RunConsole(ask=False)
    while True:
        measured = api.cell_run(settled, campaign, name, console=console)
        atlas = api.atlas_aggregate(settled, campaign)
        still = [view.cell.name for view in atlas.cells if view.state != "measured"]
        if not every or name or not still:
            break
        say(f"cell     {measured.decision.outcome} (tier {measured.decision.tier}); {len(still)} to go")
    api.ship_waiting(settled, console=console)
    goes_on = f"to measure still: {', '.join(still)}" if still else "all measured: draftsmith atlas aggregate"
    show_measured(measured.value(), f"{measured.text()}\ncells    {goes_on}", of_workspace(settled.workspace))


def atlas(
    action: Annotated[str, typer.Argument(help="aggregate")],
    campaign: Place = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Gather the cells of a campaign into atlas.json. Every bundle is verified first."""
    from draftsmith import api
    from draftsmith.report.atlas_page import atlas_text

    _action(action, "aggregate")
    settled = o.configuration(config, workspace=workspace)
    atlas_view = api.atlas_aggregate(settled, campaign)
    value = atlas_view.model_dump(mode="json", by_alias=True)
    show_measured(value, atlas_text(atlas_view), of_workspace(settled.workspace))


def dcgm(
    action: Annotated[str, typer.Argument(help="correlate")],
    place: Annotated[
        str | None, typer.Argument(help="run, campaign, or folder of a comparison; default: the newest")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", help="output of a DCGM exporter during the measurement: all scrapes in one file"),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option("--prometheus", help="address of a Prometheus that scraped the exporter")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="node whose readings are used; default: the node of the trials")
    ] = None,
    cell: Annotated[str | None, typer.Option("--cell", help="cell of the campaign")] = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Set DCGM's counters of memory and tensor cores beside what was measured, and write its evidence anew at rigor L3.

    Only readings that lie in an arm's own trials count; with too few of them the rigor stays as it was, and it says why.
    """
    from draftsmith import api

    _action(action, "correlate")
    settled = o.configuration(config, workspace=workspace)
    correlation = api.dcgm_correlate(settled, place, cell=cell, text=text, prometheus=prometheus, host=host)
    value = correlation.model_dump(mode="json", by_alias=True)
    show_measured(value, correlation.text(), of_workspace(settled.workspace))
