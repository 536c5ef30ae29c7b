"""Where the jobs of a run go: settled once, when the run begins, and kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.backends.base import Backend
from draftsmith.backends.detect import Choice, choose, look
from draftsmith.contract.config import BackendConfig, Config, parse_config
from draftsmith.kit.files import private_dir
from draftsmith.phases.compare import on_canaries
from draftsmith.store.runs import Run


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


def backend_words(configured: BackendConfig, choice: Choice) -> dict[str, Any] | None:
    """The back end as it was requested; None if the request names exactly the one that was chosen.

    A detected back end is not part of the request: detection may give another result tomorrow, and a run stays where its
    jobs are.
    """
    if choice.requested == (choice.kind, choice.scheduler):
        return None
    kind, scheduler = choice.requested
    return configured.model_dump(mode="json", exclude_defaults=True) | {"kind": kind, "scheduler": scheduler}


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
