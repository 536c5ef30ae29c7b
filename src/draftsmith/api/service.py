"""Runs and the standing configuration: the acts of the loop as functions of values."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from draftsmith import wiring
from draftsmith.api.checks import LEFT_TO_JOBS, require_ready
from draftsmith.api.cluster import AFTER_COMPARE, FLAG, DryRun, check_serving, dry_run, place_text, stop_cluster_jobs
from draftsmith.api.fitting import sized
from draftsmith.api.frontiers import learn_from_run, quietly
from draftsmith.api.places import backend_words, place_jobs, place_of
from draftsmith.api.runs import RunRequest, get_run, open_loop
from draftsmith.api.settings import require_target, sources_of
from draftsmith.api.shipping import ship_waiting
from draftsmith.backends.detect import Choice
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.state import ServiceState
from draftsmith.contract.view import RunView, ServiceView
from draftsmith.kit import logs
from draftsmith.loop.base import QUIET, Console, Loop
from draftsmith.loop.view import run_view
from draftsmith.store.runs import Store
from draftsmith.store.state import read_state


class Stopped(Frozen):
    """What `teardown` ended (labels of processes and names of jobs) and deleted (paths within the run)."""

    stopped: tuple[str, ...]
    removed: tuple[str, ...]


def run(
    config: Config,
    sources: Sequence[str] | str | None = None,
    *,
    console: Console = QUIET,
    start_phase: str | None = None,
    stop_after: str | None = None,
    new: bool = False,
    ask: bool = False,
    mode: str = "oneshot",
    backend: str | None = None,
    scheduler: str | None = None,
    allow_cluster: bool = False,
) -> RunView | DryRun:
    """Run the loop, or resume the unfinished run of the same request; see RunRequest for the arguments.

    Prerequisites are checked before anything starts. Returns the run as it ended, also where a gate stopped it. Where jobs
    would go to a cluster and that is not allowed, nothing is submitted and the jobs come back as text (DryRun).
    Raises DraftsmithError: what was finished stays, and the same call goes on from there.
    """
    request = RunRequest(
        config=config,
        sources=tuple(sources_of(config, sources)),
        start_phase=start_phase,
        stop_after=stop_after,
        new=new,
        ask=ask,
        mode=mode,
        backend=backend,
        scheduler=scheduler,
        allow_cluster=allow_cluster,
    )
    return carry_out(request, console)


def carry_out(request: RunRequest, console: Console) -> RunView | DryRun:
    """See run."""
    config, choice = place_jobs(request.config, request.backend, request.scheduler)
    if choice.kind != "local" or request.backend or request.scheduler:
        console.note(place_text(choice))
    for check in require_ready(config):
        if check.name == LEFT_TO_JOBS:
            console.note(f"checks   {check.sentence}")
        if check.name == "fit":
            console.note(f"fit      {check.sentence}")
    config = _sized(config)
    loop = open_loop(replace(request, config=config), console, backend_words(request.config.backend, choice))
    with logs.of_run(loop.run.record.run_id):
        return _carried_out(loop, request, choice, config, console)


def _carried_out(loop: Loop, request: RunRequest, choice: Choice, config: Config, console: Console) -> RunView | DryRun:
    from draftsmith.loop.driver import drive
    from draftsmith.phases.compare import on_canaries

    console.note(f"run      {loop.run.record.run_id} in {loop.run.folder}")
    place = place_of(loop.run, choice)
    if place is not choice:
        console.note(place_text(place))
    if place.kind != "local" and not request.allow_cluster:
        return dry_run(loop, place)
    check_serving(loop)
    if on_canaries(config) and not request.allow_cluster and request.stop_after in AFTER_COMPARE:
        console.note(f"compare and promote use the cluster: without {FLAG} the run stops before them")
    drive(loop)
    if quietly(lambda: learn_from_run(loop.run)) is None:
        console.note("frontier not brought up to date: frontier.json cannot be read or written")
    ship_waiting(config, console=console)
    return run_view(loop.run)


def _sized(config: Config) -> Config:
    """With the GPUs a server settled. Raises PrerequisiteError where the target does not fit."""
    target = require_target(config)
    return sized(config, Path(target.path), target.weight_bytes)


def open_run(request: RunRequest) -> RunView:
    """Find the run of this request, or make its folder; nothing is started. `run` with the same request resumes it."""
    config, choice = place_jobs(request.config, request.backend, request.scheduler)
    config = _sized(config)
    loop = open_loop(replace(request, config=config), QUIET, backend_words(request.config.backend, choice))
    return run_view(loop.run)


def list_runs(config: Config) -> tuple[RunView, ...]:
    """The runs of the workspace, oldest first; empty if there are none. One that cannot be read is left out."""
    views = []
    for run in Store(Path(config.workspace).resolve()).runs():
        with contextlib.suppress(InputError):  # of its journal
            views.append(run_view(run))
    return tuple(views)


def find_run(config: Config, run_id: str | None = None) -> RunView:
    """A run by id, or the newest. Raises InputError that lists the ids."""
    return run_view(get_run(config, run_id))


def status(config: Config, run_id: str | None = None) -> ServiceView:
    """What serves, and how far a run came (the newest without an id). Raises InputError if there is no run."""
    workspace = Path(config.workspace).resolve()
    view = find_run(config, run_id)
    skipped = tuple(Store(workspace).unreadable())
    return ServiceView(workspace=str(workspace), state=read_state(workspace), run=view, unreadable=skipped)


def promote(
    config: Config,
    sources: Sequence[str] | str | None = None,
    *,
    console: Console = QUIET,
    allow_cluster: bool = False,
) -> RunView | DryRun:
    """Run what is missing up to the promotion: the winner of a WIN at tier `verdict` serves then, or nothing changed.

    `RunView.phase("promote").headline` says which, and why.
    """
    return run(config, sources, console=console, stop_after="promote", allow_cluster=allow_cluster)


def rollback(config: Config, *, allow_cluster: bool = False) -> ServiceState:
    """Restore the standing configuration and champion from before the last promotion.

    Raises RefusedError if there is no promotion to undo. A local server reads the configuration when it starts.
    """
    from draftsmith.loop import promotion

    workspace = Path(config.workspace).resolve()
    return promotion.rollback(workspace, wiring.serving(config, workspace, allow_cluster=allow_cluster))


def teardown(config: Config, run_id: str | None = None, *, purge: bool = False, allow_cluster: bool = False) -> Stopped:
    """Stop everything that a run started and that still lives; `purge` also deletes prompts, rows and hidden states.

    Evidence and drafts stay. Raises RefusedError, naming the jobs, if jobs of a cluster would be cancelled and that is not
    allowed.
    """
    from draftsmith.kit import processes
    from draftsmith.store.retention import purge as purge_run

    result = get_run(config, run_id)
    ended = stop_cluster_jobs(result, allow_cluster)
    ended += [record.label for record in processes.sweep(result.processes)]
    ended += [record.label for record in processes.sweep(result.folder / "backend" / "processes")]
    removed = purge_run(result.folder).removed if purge else ()
    return Stopped(stopped=tuple(ended), removed=tuple(removed))
