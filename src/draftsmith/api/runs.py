"""Opening a run: the same request finds its run again, a new one gets a folder of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draftsmith
from draftsmith import wiring
from draftsmith.api.drafts import require_clean_drafts
from draftsmith.api.places import backend_here, run_backend
from draftsmith.api.settings import absolute, require_target, resolve_sources, source_id
from draftsmith.api.shapes import prompts_of_shapes
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError
from draftsmith.contract.job import JobResult
from draftsmith.kit.files import private_dir
from draftsmith.loop.base import Console, Loop
from draftsmith.loop.driver import results
from draftsmith.loop.lock import alone
from draftsmith.loop.reuse import outputs_exist
from draftsmith.phases.base import PhaseContext, RunOptions
from draftsmith.phases.pipeline import PIPELINE
from draftsmith.store.runs import Run, RunRecord, Store, new_run_id

MODES = ("oneshot", "controller")


@dataclass(frozen=True)
class RunRequest:
    """What a run is to do.

    `start_phase`: run again from there on. `stop_after`: end after that phase. `new`: a run of its own even where the same
    request has one. `ask`: ask the console before each phase. `backend`, `scheduler`: where jobs run, None = as configured.
    `allow_cluster`: act on a cluster; without it a cluster is only read.
    """

    config: Config
    sources: tuple[str, ...]
    start_phase: str | None = None
    stop_after: str | None = None
    new: bool = False
    ask: bool = False
    mode: str = "oneshot"
    backend: str | None = None
    scheduler: str | None = None
    allow_cluster: bool = False


def open_loop(request: RunRequest, console: Console, words_of_backend: dict[str, Any] | None = None) -> Loop:
    """A loop over the run of this request, finished or not, or over a new run.

    `words_of_backend`: the back end as requested, if another one was chosen.
    """
    config, mode, start_phase = request.config, request.mode, request.start_phase
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not available", f"modes: {', '.join(MODES)}")
    if start_phase and start_phase not in PIPELINE:
        raise InputError(f"no phase {start_phase!r}", f"phases: {', '.join(PIPELINE)}")
    target = require_target(config)
    paths = resolve_sources(list(request.sources))
    config, further = absolute(config)
    require_clean_drafts(config, target)
    workspace = private_dir(Path(config.workspace).resolve())
    paths = prompts_of_shapes(paths, config, target, workspace, console)
    sources_sha = digest({path: source_id(path) for path in paths} | further | {"options": {}})
    words = config.model_dump(mode="json", exclude_defaults=True, exclude={"controller", "lake"})  # no part of a run
    words |= {"backend": words_of_backend} if words_of_backend else {}
    key = digest({"target": target.sha256, "sources": sources_sha, "config": words})
    store = Store(workspace)
    for name in store.unreadable():
        console.note(f"skipped {name}: its run.json is torn, or of another version")
    serving = wiring.serving(config, workspace, allow_cluster=request.allow_cluster)
    run = None if request.new else store.find(key)
    if run is None:
        record = RunRecord(
            run_id=new_run_id(Path(target.path), time.time()),
            key=key,
            target=target.path,
            profile=tuple(paths),
            config=config.model_dump(mode="json"),
            mode=mode,
            created_unix_s=time.time(),
            draftsmith_version=draftsmith.__version__,
        )
        run = store.create(record)
    if not run.events():
        run.append("started", standing=serving.current(), new=request.new)
    if start_phase:
        with alone(run.folder):  # what another process carries out is not discarded under its hands
            discards = discarded(run, start_phase)
            run.append("started", restart=start_phase, discards=discards, standing=serving.current())
    options = RunOptions(sources_sha, request.allow_cluster, has_suffix(config))
    return Loop(
        run=run,
        context=context_of(run, options=options),
        backend=run_backend(run, allow_cluster=request.allow_cluster),
        serving=serving,
        console=console,
        ask=request.ask,
        stop_after=request.stop_after,
        here=backend_here(run),
    )


def has_suffix(config: Config) -> bool | None:
    """Whether the engine can decode by suffixes; None where it is not looked at from here."""
    if wiring.environment_of_jobs(config):
        return None
    try:
        return wiring.engine(config).installation(config.engine.python, elsewhere=config.backend.kind != "local").suffix
    except PrerequisiteError:
        return None


def discarded(run: Run, start_phase: str) -> list[str]:
    """Phases that are run again: from `start_phase` on, and the one before it if what it made was deleted since.

    Training deletes the hidden states it was trained on, so training again captures them again.
    """
    done = results(run)
    first = PIPELINE.index(start_phase)
    if first and (before := done.get(PIPELINE[first - 1])) and not outputs_exist(before):
        first -= 1
    return list(PIPELINE[first:])


def context_of(
    run: Run, results: dict[str, JobResult] | None = None, options: RunOptions | None = None
) -> PhaseContext:
    """What the phases of a run may look at. The standing configuration is the one it was started against."""
    from draftsmith.trainers.layers import default_layers

    record = run.record
    config = parse_config(record.config, "run.json")
    target = wiring.target(config, Path(record.target))
    return PhaseContext(
        run_id=record.run_id,
        folder=run.folder,
        workspace=run.folder.parent.parent,
        config=config,
        target=target,
        sources=record.profile,
        standing=[event.data.get("standing") for event in run.events() if event.kind == "started"][-1],
        layer_ids=config.trainer.layers or default_layers(target.num_layers),
        versions=wiring.versions(config),
        results=results or {},
        options=options or RunOptions(),
    )


def get_run(config: Config, run_id: str | None) -> Run:
    """A run of the workspace, the newest without an id."""
    return Store(Path(config.workspace).resolve()).get(run_id)
