"""The request of a command or a notebook: one configuration, with absolute paths, and what identifies its traffic."""

from __future__ import annotations

import glob
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.base import digest
from draftsmith.contract.config import TRAINLESS, Config, load_config, parse_config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.kit.files import sha256_file

LOGS = (("corpus", "hard_log"), ("compare", "general_log"))
INTERPRETERS = (("engine", "python"), ("trainer", "python"))


def configure(
    file: Path | str | None = None,
    *,
    target: Path | str | None = None,
    profile: str | None = None,
    workspace: Path | str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
) -> Config:
    """One configuration: the file (None = the defaults), then the arguments, then `settings`.

    `settings` override single keys, as `{"trainer.epochs": 4}` or as text, `["trainer.epochs=4"]` with TOML values.
    Raises ConfigError naming every wrong key.
    """
    config = load_config(Path(file) if file is not None else None)
    given = {"target": target, "profile": profile, "workspace": workspace}
    config = config.model_copy(update={name: str(value) for name, value in given.items() if value})
    return override(config, settings) if settings else config


def named(config: Config, *, method: str | None = None, served: str | None = None) -> Config:
    """With the method and the served deployment that somebody named. Raises ConfigError for a method that is none.

    A trained method is the trainer's too. What serves is looked for in Kubernetes where a kubeconfig or a pod's own
    account is here, unless the file says where it is.
    """
    if method is not None:
        trained = {"trainer.method": method} if method not in TRAINLESS else {}
        config = override(config, {"method": method, **trained})
    if served is not None:
        in_cluster = config.serving.kind == "local" and config.serving.deploy is None and reaches_cluster()
        config = override(config, {"serving.deploy": served} | ({"serving.kind": "kubernetes"} if in_cluster else {}))
    return config


def reaches_cluster() -> bool:
    """Whether there is a kubeconfig or a service account here. No request is sent."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return any(Path(file).is_file() for file in files.split(os.pathsep) if file) or bool(
        os.environ.get("KUBERNETES_SERVICE_HOST")
    )


def override(config: Config, settings: Mapping[str, Any] | Sequence[str]) -> Config:
    """Replace single settings. Raises ConfigError as for the file."""
    data: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for path, value in settings.items() if isinstance(settings, Mapping) else map(_parsed, settings):
        *parents, last = path.strip().split(".")
        place = data
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {path}: {name!r} is not a section", "see docs/configuration.md")
        place[last] = value
    return parse_config(data, "--set")


def _parsed(item: str) -> tuple[str, Any]:
    """`section.key=value` with a TOML value; a value that is not TOML is taken as a string."""
    path, _, text = item.partition("=")
    try:
        return path, tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return path, text


def sources_of(config: Config, given: Sequence[str] | str | None) -> list[str]:
    """Traffic sources: those given, or the configured one."""
    if isinstance(given, str):
        return [given]
    return list(given or ([config.profile] if config.profile else []))


def require_target(config: Config, *, capture: bool = True) -> TargetFacts:
    """Facts of the configured target. Raises InputError without one, or if it cannot be trained for.

    `capture` False: hidden states come from another engine than the configured one.
    """
    if not config.target:
        raise InputError("no target is given", "give --target FOLDER, or set target in draftsmith.toml")
    return wiring.target(config, Path(config.target).resolve(), capture=capture)


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
            identity[f"{name.removesuffix('_log')} {path}"] = source_id(path)
    if config.trainer.warm_start:
        changed.setdefault("trainer", {})["warm_start"] = _draft_folder("trainer.warm_start", config.trainer.warm_start)
    if config.compare.drafts:
        drafts = tuple(_draft_folder("compare.drafts", given) for given in config.compare.drafts)
        changed.setdefault("compare", {})["drafts"] = drafts
    for section, name in INTERPRETERS:
        given = getattr(getattr(config, section), name)
        if given and "/" in given:
            changed.setdefault(section, {})[name] = os.path.abspath(given)
    if (policy := config.serving.promotion_policy) is not None:
        if not Path(policy).is_file():
            raise InputError(
                f"serving.promotion_policy: {policy} does not exist", "write it, or promote without one: leave it out"
            )
        changed.setdefault("serving", {})["promotion_policy"] = os.path.abspath(policy)
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changed.items()}
    return config.model_copy(update=sections), identity


def _draft_folder(setting: str, given: str) -> str:
    if not Path(given, "config.json").is_file():
        raise InputError(f"{setting}: {given} is no folder of a draft", "name the folder that holds its config.json")
    return os.path.abspath(given)


def source_id(path: str) -> str:
    """A file by its bytes, a folder or glob by those of every file in it: new traffic is a new request. A URL by its name."""
    if Path(path).is_file():
        return sha256_file(Path(path))
    if "://" in path or path == "-":
        return path
    from draftsmith.traffic.importers.sources import expand

    return digest({file.path: sha256_file(Path(file.path)) for file in expand([path])})
