"""`draftsmith plan`: the forecast before training, and the check of a forecast after it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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
            "--concurrency",
            help="requests in flight, one operating point each; the first decides; default: the configured ones and the profile's",
        ),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", help="drafted tokens per step (K) to measure, 1 to 16; default: 1, 3 and 5"),
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option("--draft", help="measure with this EAGLE3 folder; default: an untrained one, made here"),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="plan with each of these engines and say which one, method and K is expected to be fastest; default: engine.kind alone",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="pairs of trials at each point")] = 2,
    check: Annotated[
        str | None,
        typer.Option("--check", help="compare the plan in --out with what this run measured (`newest`, or a run id)"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be started and how long it would take, then stop")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="folder for points, plan.json and plan.html; an interrupted plan is continued"
        ),
    ] = Path("plan"),
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Forecast before training: the acceptance length a draft needs to win at each concurrency, and which method is worth a run.

    It starts a server without speculation and, one after another, servers with an untrained draft of the right shape that the
    engine accepts at a chosen rate. Measured points are kept: the same command continues where it stopped.
    """
    from draftsmith import api
    from draftsmith.api.plans import across_text, plan_text
    from draftsmith.contract.plan import Plan

    settled = o.configuration(config, target=target, workspace=workspace, settings=settings)
    if check is not None:
        result = api.check_plan(settled, out, None if check == "newest" else check)
        left = [f"  left out: {reason}" for reason in result.left_out]
        show(result, "\n".join([result.sentence, *(f"  {row.sentence}" for row in result.rows), *left]))
        return
    request: dict[str, Any] = {
        "concurrencies": concurrency or (),
        "ks": k or (),
        "draft": draft,
        "repeats": repeats,
        "out": out,
        "console": RunConsole(ask=False),
        "dry_run": dry_run,
    }
    if engine:
        several = api.plan_across(settled, engine, profile, **request)
        if isinstance(several, dict):
            show({name: asdict(effort) for name, effort in several.items()})
        else:
            show(several, across_text(several))
        return
    forecast_plan = api.plan(settled, profile, **request)
    if not isinstance(forecast_plan, Plan):
        show({"starts": forecast_plan.starts, "trials": forecast_plan.trials, "seconds": forecast_plan.seconds})
        return
    show(forecast_plan, plan_text(forecast_plan))
    say(f"page     {out / 'plan.html'}")
