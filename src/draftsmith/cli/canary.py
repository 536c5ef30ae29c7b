"""Commands of canaries in Kubernetes: plan, up, down, sweep; and the patch of a promotion."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import say, show
from draftsmith.contract.errors import RunInterruptedError

if TYPE_CHECKING:
    from draftsmith.api.canaries import CanaryView

LOOK_EVERY_S = 30


class Action(StrEnum):
    """What to do with canaries."""

    PLAN = "plan"
    UP = "up"
    DOWN = "down"
    SWEEP = "sweep"
    PATCH = "patch"


def canary(
    action: Annotated[Action, typer.Argument(help="plan and patch only print; up, down and sweep change the cluster")],
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="served Deployment; default: serving.deploy")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="NAME=JSON (a speculative config) or NAME=none; can be repeated")
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", help="name of the experiment; it labels all of its objects")
    ] = "canary",
    detach: Annotated[
        bool, typer.Option("--detach", help="leave the canaries running until `down` or the end of their lifetime")
    ] = False,
    volumes: Annotated[bool, typer.Option("--volumes", help="down: also remove the experiment's volume claim")] = False,
    understood: Annotated[
        bool,
        typer.Option(
            "--i-understand-this-uses-the-cluster", help="allow changes in the cluster; without it nothing is changed"
        ),
    ] = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Start servers for a comparison beside a served deployment in Kubernetes, and print the patch of a promotion."""
    from draftsmith import api
    from draftsmith.api.settings import override

    settled = o.configuration(config, workspace=workspace, settings=settings)
    if deployment:
        settled = override(settled, {"serving.deploy": deployment})
    arms = arm or []
    if action is Action.PATCH:
        text = api.promotion_patch(settled, arms)
        show({"patch": text}, text)
    elif action is Action.DOWN:
        removed = api.remove_canaries(settled, experiment, volumes=volumes, allow_cluster=understood)
        show({"removed": removed}, "removed: " + (", ".join(removed) or "nothing was there"))
    elif action is Action.SWEEP:
        removed = api.sweep_canaries(settled, allow_cluster=understood)
        show({"removed": removed}, "removed: " + (", ".join(removed) or "nothing was left over"))
    elif action is Action.PLAN or not understood:
        plan = api.plan_canaries(settled, experiment, arms)
        show(plan, plan.objects)
        say("dry run: nothing was created; `up` with --i-understand-this-uses-the-cluster creates this")
    elif detach:
        _print(api.start_canaries(settled, experiment, arms, allow_cluster=understood))
    else:
        with api.canaries_up(settled, experiment, arms, allow_cluster=understood) as (servers, require_alive):
            _print(servers)
            say("up until this command is stopped (Ctrl-C)")
            try:
                while True:
                    time.sleep(LOOK_EVERY_S)  # a signal ends it, and unwinds
                    require_alive()
            except RunInterruptedError:
                say("removing the canaries")


def _print(servers: dict[str, CanaryView]) -> None:
    value = {name: server.model_dump() for name, server in servers.items()}
    show(value, "\n".join(f"{name}: {s.url} (model {s.model}, on {s.node})" for name, s in servers.items()))
