"""Opening a run: the same request finds its run again, a new one gets a folder of its own."""

from __future__ import annotations

import glob
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import draftsmith
from draftsmith import wiring
from draftsmith.backends.base import Backend
from draftsmith.backends.detect import Choice, choose, look
from draftsmith.contract.base import digest
from draftsmith.contract.config import BackendConfig, Config, parse_config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.contract.job import JobResult
from draftsmith.kit.files import private_dir, sha256_file
from draftsmith.loop.base import Console, Loop
from draftsmith.loop.driver import results
from draftsmith.loop.lock import alone
from draftsmith.loop.reuse import outputs_exist
from draftsmith.phases.base import PhaseContext
from draftsmith.phases.pipeline import PIPELINE
from draftsmith.phases.steps import on_canaries
from draftsmith.store.runs import Run, RunRecord, Store, new_run_id

LOGS = (("corpus", "hard_log"), ("compare", "general_log"))
INTERPRETERS = (("engine", "python"), ("trainer", "python"))


def override(config: Config, settings: list[str]) -> Config:
    """Apply `--set section.key=value`; values are TOML. Raises ConfigError as for the file."""
    import tomllib

    data: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for item in settings:
        path, _, text = item.partition("=")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        *parents, last = path.strip().split(".")
        place = data
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {path}: {name!r} is not a section", "see docs/configuration.md")
        place[last] = value
    return parse_config(data, "--set")


def require_target(config: Config) -> TargetFacts:
    """Facts of the configured target. Raises InputError without one, or if it cannot be trained for."""
    if not config.target:
        raise InputError("no target is given", "give --target FOLDER, or set target in draftsmith.toml")
    return wiring.target(config, Path(config.target).resolve())


def open_loop(
    config: Config,
    sources: list[str],
    console: Console,
    *,
    mode: str = "oneshot",
    ask: bool = True,
    start_phase: str | None = None,
    stop_after: str | None = None,
    new: bool = False,
    profile_options: dict[str, Any] | None = None,
    allow_cluster: bool = False,
    backend_words: dict[str, Any] | None = None,
) -> Loop:
    """A loop over the run of this request, finished or not, or over a new run.

    `backend_words`: the back end as the request says it, where what was settled is not what was said.
    """
    if mode != "oneshot":
        raise ConfigError(f"mode {mode!r} is not available", "use --mode oneshot; schedule it to run repeatedly")
    if start_phase and start_phase not in PIPELINE:
        raise InputError(f"no phase {start_phase!r}", f"phases: {', '.join(PIPELINE)}")
    target = require_target(config)
    paths = resolve_sources(sources)
    config, further = absolute(config)
    sources_sha = digest({path: _source_id(path) for path in paths} | further | {"options": profile_options or {}})
    workspace = private_dir(Path(config.workspace).resolve())
    words = config.model_dump(mode="json", exclude_defaults=True)
    words |= {"backend": backend_words} if backend_words else {}
    key = digest({"target": target.sha256, "sources": sources_sha, "config": words})
    store = Store(workspace)
    serving = wiring.serving(config, workspace, allow_cluster=allow_cluster)
    run = None if new else store.find(key)
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
        run.append("started", standing=serving.current(), new=new)
    if start_phase:
        with alone(run.folder):  # what another process carries out is not discarded under its hands
            discards = discarded(run, start_phase)
            run.append("started", restart=start_phase, discards=discards, standing=serving.current())
    options = {"sources_sha256": sources_sha, "profile": profile_options or {}, "allow_cluster": allow_cluster}
    return Loop(
        run=run,
        context=context_of(run, options=options),
        backend=run_backend(run, allow_cluster=allow_cluster),
        serving=serving,
        console=console,
        ask=ask,
        stop_after=stop_after,
        here=backend_here(run),
    )


def place_jobs(config: Config, backend: str | None, scheduler: str | None) -> tuple[Config, Choice]:
    """The configuration with its back end and scheduler settled, and why they are the ones. Raises ConfigError."""
    options = config.backend.options if config.backend.kind != "slurm" else {}  # a kubeconfig of its own
    choice = choose(backend, scheduler, (config.backend.kind, config.backend.scheduler), partial(look, options=options))
    settled: dict[str, Any] = {"kind": choice.kind, "scheduler": choice.scheduler}
    if choice.kind != config.backend.kind:
        settled["options"] = {} if config.backend.kind != "local" else config.backend.options
    config = config.model_copy(update={"backend": config.backend.model_copy(update=settled)})
    wiring.check_backend_options(config)
    return config, choice


def backend_words(said: BackendConfig, choice: Choice) -> dict[str, Any] | None:
    """The back end as a part of the request; None if it is the one that was settled.

    A place that was looked for is no part of the request: what is found may change from one day to the next, and a run
    goes on where its jobs are.
    """
    if choice.asked == (choice.kind, choice.scheduler):
        return None
    kind, scheduler = choice.asked
    return said.model_dump(mode="json", exclude_defaults=True) | {"kind": kind, "scheduler": scheduler}


def place_of(run: Run, choice: Choice) -> Choice:
    """Where the jobs of a run go: `choice`, or where they went when it began, and why."""
    begun = parse_config(run.record.config, "run.json").backend
    if (begun.kind, begun.scheduler) == (choice.kind, choice.scheduler):
        return choice
    return replace(choice, kind=begun.kind, scheduler=begun.scheduler, why="as when this run began")


def run_backend(run: Run, *, allow_cluster: bool = False) -> Backend:
    """Where the jobs of a run are, as its record says."""
    record = run.record
    local = [Path(path) for path in record.profile if "://" not in path and path != "-"]
    folders = [run.folder.parent.parent, Path(record.target), *(path.parent for path in local)]
    config = parse_config(record.config, "run.json")
    return wiring.backend(config, private_dir(run.folder / "backend"), allow_cluster=allow_cluster, folders=folders)


def backend_here(run: Run) -> Backend | None:
    """Where jobs run that have to run beside this process; None if all of a run do."""
    config = parse_config(run.record.config, "run.json")
    if config.backend.kind == "local" or not on_canaries(config):
        return None
    local = config.model_copy(update={"backend": Config().backend})
    return wiring.backend(local, private_dir(run.folder / "backend-here"))


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
    run: Run, results: dict[str, JobResult] | None = None, options: dict[str, Any] | None = None
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
        options=options or {"sources_sha256": "", "profile": {}},
    )


def resolve_sources(sources: list[str]) -> list[str]:
    """Absolute paths for local files, so that a run can be continued from any folder."""
    if not sources:
        raise InputError("no traffic is given", "give --profile ACCESS_LOG (a file, folder or glob)")
    return [s if "://" in s or s == "-" else os.path.abspath(s) for s in sources]


def absolute(config: Config) -> tuple[Config, dict[str, str]]:
    """The configuration with absolute paths, since jobs run in folders of their own, and what identifies its logs.

    Raises InputError for a setting whose file or folder is not there: said now, not after the training.
    """
    changed: dict[str, dict[str, Any]] = {}
    identity: dict[str, str] = {}
    for section, name in LOGS:
        if (given := getattr(getattr(config, section), name)) is not None:
            [path] = resolve_sources([given])
            if "://" not in path and not Path(path).exists() and not glob.glob(path):
                raise InputError(f"{section}.{name}: {given} does not exist", "correct its path, or leave it out")
            changed.setdefault(section, {})[name] = path
            identity[f"{name.removesuffix('_log')} {path}"] = _source_id(path)
    if config.trainer.warm_start:
        changed.setdefault("trainer", {})["warm_start"] = _draft_folder("trainer.warm_start", config.trainer.warm_start)
    if config.compare.drafts:
        drafts = tuple(_draft_folder("compare.drafts", given) for given in config.compare.drafts)
        changed.setdefault("compare", {})["drafts"] = drafts
    for section, name in INTERPRETERS:
        given = getattr(getattr(config, section), name)
        if given and "/" in given:
            changed.setdefault(section, {})[name] = os.path.abspath(given)
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changed.items()}
    return config.model_copy(update=sections), identity


def _draft_folder(setting: str, given: str) -> str:
    if not Path(given, "config.json").is_file():
        raise InputError(f"{setting}: {given} is no folder of a draft", "name the folder that holds its config.json")
    return os.path.abspath(given)


def _source_id(path: str) -> str:
    """A file by its bytes, a folder or glob by those of every file in it: new traffic is a new request. A URL by its name."""
    if Path(path).is_file():
        return sha256_file(Path(path))
    if "://" in path or path == "-":
        return path
    from draftsmith.traffic.importers.sources import expand

    return digest({file.path: sha256_file(Path(file.path)) for file in expand([path])})


def get_run(config: Config, run_id: str | None) -> Run:
    """A run of the workspace, the newest without an id."""
    return Store(Path(config.workspace).resolve()).get(run_id)
