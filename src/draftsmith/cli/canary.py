"""Canaries in Kubernetes: planned, up, down, swept; and the patch that a promotion would be."""

from __future__ import annotations

import json as jsonlib
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import say, show
from draftsmith.contract.errors import InputError, RunInterruptedError

if TYPE_CHECKING:
    from draftsmith.contract.config import Config
    from draftsmith.serving.canary.canaries import Canaries
    from draftsmith.serving.canary.ready import CanaryServer
    from draftsmith.serving.canary.text import ArmPlan

STANDING = "standing"
LOOK_EVERY_S = 30


class Action(StrEnum):
    """What to do with canaries."""

    PLAN = "plan"
    UP = "up"
    DOWN = "down"
    SWEEP = "sweep"
    PATCH = "patch"


def canary(
    action: Annotated[Action, typer.Argument(help="plan and patch only show; up, down and sweep perform")],
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="served Deployment; default: serving.deploy")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="NAME=JSON (a speculative config) or NAME=none; several times")
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", help="label of everything that belongs together")
    ] = "canary",
    detach: Annotated[
        bool, typer.Option("--detach", help="leave the canaries up, until down or their lifetime's end")
    ] = False,
    volumes: Annotated[bool, typer.Option("--volumes", help="down: remove the experiment's volume claim too")] = False,
    understood: Annotated[
        bool, typer.Option("--i-understand-this-uses-the-cluster", help="perform it; without it nothing is changed")
    ] = False,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Servers for a comparison beside a standing deployment in Kubernetes, and the patch that a promotion would be."""
    from draftsmith import wiring

    settled = o.configuration(config, workspace=workspace, settings=settings)
    if deployment:
        settled = settled.model_copy(update={"serving": settled.serving.model_copy(update={"deploy": deployment})})
    place = Path(settled.workspace).resolve()
    if action is Action.PATCH:
        _patch(settled, place, arm or [])
        return
    canaries = wiring.canaries(settled, place, allow_cluster=understood)
    if action is Action.DOWN:
        removed = canaries.down(experiment, volumes=volumes)
        show({"removed": removed}, "removed: " + (", ".join(removed) or "nothing was there"))
    elif action is Action.SWEEP:
        removed = canaries.sweep()
        show({"removed": removed}, "removed: " + (", ".join(removed) or "nothing was left over"))
    else:
        arms = _arms(settled, place, arm or [])
        plan = canaries.plan(experiment, arms)
        if action is Action.PLAN or not understood:
            show({"node": plan.node, "objects": plan.text()}, plan.text())
            say("dry run: nothing was created; `up` with --i-understand-this-uses-the-cluster creates this")
            return
        _up(canaries, experiment, arms, detach)


def _up(canaries: Canaries, experiment: str, arms: list[ArmPlan], detach: bool) -> None:
    if detach:
        servers = canaries.start(experiment, arms)
        canaries.keep(experiment)
        _print(servers)
        return
    with canaries.up(experiment, arms) as servers:
        _print(servers)
        say("up until this command is stopped (Ctrl-C)")
        try:
            while True:
                time.sleep(LOOK_EVERY_S)  # a signal ends it, and unwinds
                canaries.require_alive(servers)
        except RunInterruptedError:
            say("removing the canaries")


def _print(servers: dict[str, CanaryServer]) -> None:
    value = {name: {"url": s.url, "node": s.node, "model": s.model} for name, s in servers.items()}
    show(value, "\n".join(f"{name}: {s.url} (model {s.model}, on {s.node})" for name, s in servers.items()))


def _patch(config: Config, place: Path, given: list[str]) -> None:
    from draftsmith import wiring

    serving = wiring.kubernetes_serving(config, place)
    if len(given) != 1:
        raise InputError("patch needs one --arm", "give --arm NAME=JSON, or NAME=none for no speculation")
    text = serving.plan_text(serving.current(), _parse(given[0])[1])
    show({"patch": text}, text)


def _arms(config: Config, place: Path, given: list[str]) -> list[ArmPlan]:
    """The standing configuration first, then the arms given."""
    from draftsmith import wiring
    from draftsmith.serving.canary.text import ArmPlan

    parsed = dict(_parse(text) for text in given)
    standing = wiring.kubernetes_serving(config, place).current() if STANDING not in parsed else parsed[STANDING]
    return [ArmPlan(STANDING, standing), *(ArmPlan(name, spec) for name, spec in parsed.items() if name != STANDING)]


def _parse(text: str) -> tuple[str, dict[str, Any] | None]:
    name, separator, value = text.partition("=")
    try:
        spec = None if value == "none" else jsonlib.loads(value)
    except ValueError:
        spec = ""
    if not separator or not name or not (spec is None or isinstance(spec, dict)):
        raise InputError(f"--arm {text!r} is not NAME=JSON or NAME=none", "quote the JSON for the shell")
    return name, spec
