"""Commands of the controller: start it, look at it, give it requests."""

from __future__ import annotations

import contextlib
import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import RunConsole, say, show

if TYPE_CHECKING:
    from draftsmith.contract.config import Config
    from draftsmith.contract.control import ControlView


class Action(StrEnum):
    """What to do with the controller of a workspace."""

    RUN = "run"
    STATUS = "status"
    WHY = "why"
    LOG = "log"
    PAUSE = "pause"
    RESUME = "resume"
    REQUEST = "request"
    APPROVE = "approve"
    DECLINE = "decline"
    DOWN = "down"


def controller(
    action: Annotated[
        Action,
        typer.Argument(
            help="run: run the controller until Ctrl-C; status, why and log only read; pause, resume, request (a run), approve "
            "and decline (a proposal) are sent to the running controller; down stops a managed service"
        ),
    ] = Action.RUN,
    target: o.Target = None,
    profile: o.Sources = None,
    because: Annotated[str, typer.Option("--because", help="reason to record in the journal")] = "",
    everything: Annotated[bool, typer.Option("--all", help="log: show intents too")] = False,
    understood: o.Understood = False,
    listen: Annotated[
        str | None, typer.Option("--listen", help="run: HOST:PORT at which it also shows its page, as `draftsmith web`")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="the token of the page with which an operator may act")
    ] = None,
    config: o.ConfigFile = None,
    workspace: o.Workspace = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """The controller runs the loop by itself: it watches, retrains, compares, promotes and falls back.

    It follows the traffic in --profile (the recorder's folder) and the served engine. It starts a run when the traffic drifted,
    the acceptance fell, or the target or engine changed, if the run pays. In mode `propose` (the default) it proposes each act and
    waits for `draftsmith controller approve`; with --set controller.mode=auto it acts within its budgets. You can stop it at any
    time: the serving configuration stays as it is, and the next controller continues where this one stopped.
    """
    from draftsmith import api

    settled = o.configuration(config, target=target, sources=profile, workspace=workspace, settings=settings)
    match action:
        case Action.RUN:
            serve(settled, understood, listen, token_file)
        case Action.STATUS | Action.WHY:
            view = api.controller_view(settled)
            show(view, _why(view) if action is Action.WHY else _status(view))
        case Action.LOG:
            events = api.controller_log(settled, everything=everything)
            shown = api.controller_story(settled, everything=everything)
            from draftsmith.cli.output import Mode

            if Mode.json:
                show([event.model_dump(mode="json") for event in events])
            else:
                show(None, shown or "the journal is empty")
        case Action.PAUSE:
            event = api.pause_controller(settled, because)
            show(event, event.sentence)
        case Action.RESUME:
            event = api.resume_controller(settled)
            show(event, event.sentence)
        case Action.REQUEST:
            event = api.request_run(settled, because)
            show(event, event.sentence)
        case Action.DOWN:
            ended = api.stop_service(settled)
            show(ended, f"stopped {len(ended.stopped)} processes of the managed service")
        case Action.APPROVE | Action.DECLINE:
            event = api.answer_proposal(settled, action is Action.APPROVE, because)
            show(event, event.sentence)


def serve(config: Config, understood: bool, listen: str | None = None, token_file: Path | None = None) -> None:
    """Run the controller until SIGINT or SIGTERM; with `listen` its page is served as long."""
    from draftsmith import api
    from draftsmith.api.watching import watch
    from draftsmith.cli.watching import address, page

    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: signals.append(number))
    say(
        f"controller in {config.workspace}: a look every {config.controller.every_s:g} s, mode {config.controller.mode}"
    )
    with contextlib.ExitStack() as stack:
        if listen is not None:
            stack.enter_context(page().beside(watch(config), *address(listen), token_file, say))
        view = api.control(
            config, console=RunConsole(ask=False), allow_cluster=understood, stopped=lambda: bool(signals)
        )
    show(view, _status(view))


def _status(view: ControlView) -> str:
    lines = [f"state    {view.state}: {view.sentence}", f"why      {view.why}", f"mode     {view.mode}"]
    if view.looked_unix_s is not None:
        lines.append(f"looked   {max(0.0, time.time() - view.looked_unix_s):.0f} s ago")
    if (seen := view.seen) is not None and seen.traffic is not None:
        lines.append(f"traffic  {seen.traffic.new} new requests; {seen.traffic.drift or 'no window is complete yet'}")
    if seen is not None and seen.live is not None:
        length, tpot = seen.live.acceptance_length, seen.live.tpot_s
        lines.append(
            f"live     acceptance length {'unknown' if length is None else f'{length:.2f}'}, "
            f"time per output token {'unknown' if tpot is None else f'{tpot * 1000:.1f} ms'}"
        )
    if view.memory.proposal is not None and view.state == "waiting":
        lines.append(f"proposed {view.memory.proposal.act.replace('_', ' ')}: {view.memory.proposal.why}")
    return "\n".join(lines)


def _why(view: ControlView) -> str:
    """The present reason, and the last acts with their reasons."""
    from draftsmith.controller.words import story

    return "\n".join([f"{view.state}: {view.why}", "", "before that:", *story(view.events[-6:])])
