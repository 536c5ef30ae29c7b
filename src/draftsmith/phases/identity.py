"""What makes a job the same job, and the common part of every job plan of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.phases.base import PhaseContext
from draftsmith.store.scrub import home


class Common(TypedDict):
    """The fields of contract.jobs.PhasePlan."""

    config: Config
    target: TargetFacts
    registry: str
    layer_ids: tuple[int, ...]
    versions: dict[str, str]
    names: dict[str, str]


def registry(context: PhaseContext) -> str:
    """Folder where the processes of a run are recorded."""
    return str(context.folder / "processes")


def common(context: PhaseContext) -> Common:
    """What every plan of a run holds."""
    return {
        "config": context.config,
        "target": context.target,
        "registry": registry(context),
        "layer_ids": context.layer_ids,
        "versions": context.versions,
        "names": path_names(context),
    }


def path_names(context: PhaseContext) -> dict[str, str]:
    """Name -> path prefix: how paths of this machine are written in the evidence."""
    known = {"{run}": str(context.folder), "{workspace}": str(context.workspace), "{target}": context.target.path}
    known |= home()
    models = [str((context.standing or {}).get("model")), *context.config.compare.drafts]
    outside = {m for m in models if m.startswith("/") and not any(Path(m).is_relative_to(p) for p in known.values())}
    named = known | {f"{{draft{number}}}": path for number, path in enumerate(sorted(outside), start=1)}
    return named | _of_settings(context)


def _of_settings(context: PhaseContext) -> dict[str, str]:
    """Logs and interpreters: job plans and command lines are part of the evidence, and name them."""
    config = context.config
    logs = {*context.sources, config.corpus.hard_log, config.compare.general_log, config.profile}
    local = sorted(path for path in logs if path and path.startswith("/"))
    names = {f"{{log{number}}}": path for number, path in enumerate(local, start=1)}
    given = {"engine_python": config.engine.python, "trainer_python": config.trainer.python}
    given |= {"warm_start": config.trainer.warm_start, "config_file": config.serving.config_file}
    return names | {f"{{{name}}}": path for name, path in given.items() if path and path.startswith("/")}


def identity(context: PhaseContext, *parts: str) -> dict[str, Any]:
    """What makes a job the same job: the target, the versions and the named sections of the configuration.

    Settings that have their default are left out, so that a setting which is added later does not change what is known.
    """
    sections = {part: getattr(context.config, part).model_dump(mode="json", exclude_defaults=True) for part in parts}
    return {"target": context.target.sha256, "versions": context.versions, "config": sections}
