"""`draftsmith plan`: what a draft has to reach, before anything is trained; and afterwards, whether the plan was right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import RunConsole, say, show


def plan(
    target: o.Target = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", "-p", help="workload-profile.json, or access logs (file, folder, glob or URL)"),
    ] = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(
            "--concurrency", help="operating points; the first decides; default: configured and the profile's"
        ),
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option("--k", help="drafted tokens a step to measure, 1 to 16; default: 1, 3 and 5")
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option("--draft", help="measure with this EAGLE3 folder; default: an untrained one, made here"),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="pairs of trials at each point")] = 2,
    check: Annotated[
        str | None,
        typer.Option("--check", help="set the plan in --out beside what this run measured (`newest`, or its id)"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be started and how long it takes, and stop")
    ] = False,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="folder for points, plan.json and plan.html; an interrupted one is continued"),
    ] = Path("plan"),
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Say before training what acceptance length a draft needs to win at each concurrency, and what is worth doing.

    Starts a plain server and, one after another, servers with an untrained draft of the right shape that the engine accepts
    at a chosen rate. Points that are measured are kept: the same command goes on where it stopped.
    """
    from draftsmith import api
    from draftsmith.api.plans import plan_text
    from draftsmith.contract.plan import Plan

    settled = o.configuration(config, target=target, workspace=workspace, settings=settings)
    if check is not None:
        result = api.check_plan(settled, out, None if check == "newest" else check)
        left = [f"  left out: {reason}" for reason in result.left_out]
        show(result, "\n".join([result.sentence, *(f"  {row.sentence}" for row in result.rows), *left]))
        return
    found = api.plan(
        settled,
        profile,
        concurrencies=concurrency or (),
        ks=k or (),
        draft=draft,
        repeats=repeats,
        out=out,
        console=RunConsole(ask=False),
        dry_run=dry_run,
    )
    if not isinstance(found, Plan):
        show({"starts": found.starts, "trials": found.trials, "seconds": found.seconds})
        return
    show(found, plan_text(found))
    say(f"page     {out / 'plan.html'}")
