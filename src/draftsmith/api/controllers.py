"""The controller as operators use it: start it, read it, send it requests. Its own work is in `draftsmith.controller`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from draftsmith import wiring
from draftsmith.api.service import Stopped, list_runs
from draftsmith.api.settings import absolute, require_target, resolve_sources, sources_of
from draftsmith.contract.config import Config
from draftsmith.contract.control import STATE_SENTENCE, Act, ControlEvent, ControlView, Wait
from draftsmith.contract.errors import DraftsmithError, InputError, RefusedError
from draftsmith.contract.view import ServiceOverview
from draftsmith.controller.journal import ChangedMeanwhileError, Journal
from draftsmith.controller.words import story as story_of
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import private_dir
from draftsmith.loop.base import QUIET, Console
from draftsmith.store.runs import Store
from draftsmith.store.state import read_state


def controller_view(config: Config, events: int = 20) -> ControlView:
    """The controller of the workspace, from its journal and its last look; nothing is changed, and none need be alive."""
    journal = Journal(_workspace(config))
    memory, alive = journal.memory(), journal.alive()
    result = journal.events()
    state = memory.state if alive else "stopped"
    seen = journal.last_look()
    return ControlView(
        workspace=str(journal.workspace),
        alive=alive,
        state=state,
        sentence=STATE_SENTENCE[state],
        why=memory.why or "the journal is empty",
        mode=config.controller.mode,
        since_unix_s=result[-1].at_unix_s if result else 0.0,
        looked_unix_s=seen.now_unix_s if seen else None,
        memory=memory,
        seen=seen,
        events=tuple(result[-events:]) if events else (),
    )


def service_view(config: Config, events: int = 20) -> ServiceOverview:
    """What serves, every run, and the controller: all that a page shows. Empty where nothing has begun yet."""
    workspace = _workspace(config)
    runs = list_runs(config)
    unreadable = tuple(Store(workspace).unreadable())
    try:
        state = read_state(workspace)
        begun = bool(Journal(workspace).events())
        controller = controller_view(config, events) if begun else None
    except InputError as error:  # a page is to say what is damaged, not to be away
        return ServiceOverview(workspace=str(workspace), runs=runs, unreadable=unreadable, trouble=error.message)
    return ServiceOverview(
        workspace=str(workspace), state=state, runs=runs, unreadable=unreadable, controller=controller
    )


def controller_log(config: Config, *, everything: bool = False) -> tuple[ControlEvent, ...]:
    """The journal, oldest first. `everything`: intents too."""
    events = Journal(_workspace(config)).events()
    return tuple(event for event in events if everything or event.kind != "intent")


def controller_story(config: Config, *, everything: bool = False) -> str:
    """The journal as text, a line an event, times in UTC."""
    return "\n".join(story_of(Journal(_workspace(config)).events(), everything))


def pause_controller(config: Config, why: str = "") -> ControlEvent:
    """Start nothing until it is resumed. A run in progress continues; a broken guard still takes its share of traffic back."""
    sentence = f"paused by an operator{f': {why}' if why else ''}"
    return _journal(config).append("paused", sentence)


def resume_controller(config: Config) -> ControlEvent:
    """Go on after a pause, and after failures that it waited with."""
    return _journal(config).append("resumed", "resumed by an operator")


def request_run(config: Config, why: str = "") -> ControlEvent:
    """Ask for a run at the next look. It passes pauses between runs, quiet hours and the forecast, not the budgets."""
    return _journal(config).append("requested", f"an operator asked for a run{f': {why}' if why else ''}")


def answer_proposal(config: Config, yes: bool, why: str = "", key: str | None = None) -> ControlEvent:
    """Say yes or no to what is proposed, once. `key`: of the proposal that was seen; None takes the present one.

    Raises RefusedError if nothing is proposed, or something else by then.
    """
    journal = _journal(config)
    while True:
        memory = journal.memory()
        proposal = memory.proposal
        if proposal is None and key is None:
            raise RefusedError("nothing is proposed at the moment", "see `draftsmith controller status`")
        if proposal is None or key not in (None, proposal.key):
            raise RefusedError("what you saw is not proposed any more", "look at what is proposed now")
        word = "yes" if yes else "no"
        sentence = f"an operator said {word} to {proposal.act.replace('_', ' ')}{f': {why}' if why else ''}"
        with contextlib.suppress(ChangedMeanwhileError):  # then look again: the answer is to what is proposed now
            return journal.append("approved" if yes else "declined", sentence, after=memory.last, key=proposal.key)


def stop_service(config: Config) -> Stopped:
    """Stop the engines and the proxy of a managed service. Requests in flight are cut, and later requests are refused.

    Raises RefusedError while a controller is at work, for it would start them again.
    """
    from draftsmith.kit import processes

    if config.serving.kind != "managed":
        raise RefusedError('this service is not managed: serving.kind is not "managed"', "stop it where it was started")
    journal = Journal(_workspace(config))
    with journal.alone():
        fleet = wiring.fleet(config, journal.workspace)
        labels = [record.label for _, record in processes.records(fleet.engine.registry) if processes.is_alive(record)]
        labels += ["haproxy"] if fleet.proxy.alive() else []
        fleet.stop()
    return Stopped(stopped=tuple(labels), removed=())


def control(
    config: Config,
    *,
    console: Console = QUIET,
    allow_cluster: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    clock: Clock | None = None,
) -> ControlView:
    """Run the controller of the workspace until `stopped` returns True. Each event of its journal is a note to the console.

    When it stops, the serving configuration stays as it is. A run in progress is stopped too; the next controller resumes it.
    Raises RefusedError if another one is at work there, ConfigError for traffic that cannot be followed.
    """
    from draftsmith.controller.assembly import hands_of
    from draftsmith.controller.hands import forever
    from draftsmith.controller.tick import tick

    config, _ = absolute(config)
    require_target(config)
    sources = resolve_sources(sources_of(config, None))
    journal = Journal(private_dir(_workspace(config)), clock)
    with journal.alone():
        hands = hands_of(config, sources, journal, allow_cluster=allow_cluster, clock=clock or SystemClock())
        shown = len(journal.events())

        def step() -> Act:
            nonlocal shown
            try:
                act: Act = tick(journal, config.controller, hands)
            except OSError as error:  # of the journal: a full disk. Nothing was done, for intents come first
                why = f"the journal cannot be written ({error.strerror or type(error).__name__})"
                console.note(f"stuck: {why}")
                return Wait(state="stuck", about="journal", why=why)
            events = journal.events()
            for line in story_of(events[shown:]):
                console.note(line)
            shown = len(events)
            return act

        journal.append("started", f"a controller began, in mode {config.controller.mode}", mode=config.controller.mode)
        try:
            forever(step, config.controller.every_s, stopped, hands.clock)
        finally:
            hands.jobs.stop()
            with contextlib.suppress(OSError, DraftsmithError):
                journal.append("stopped", "the controller was told to stop; what serves stays as it is")
    return controller_view(config)


def _workspace(config: Config) -> Path:
    return Path(config.workspace).resolve()


def _journal(config: Config) -> Journal:
    """The journal of a workspace that has one. Raises RefusedError where no controller ever was."""
    journal = Journal(_workspace(config))
    if not journal.events():
        raise RefusedError("no controller was ever at work in this workspace", "start one with `draftsmith controller`")
    return journal
