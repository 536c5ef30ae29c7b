"""Paths of drafts: what a folder of this machine is called in containers, and whether a container sees it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.speculation import SpecConfig


def in_containers(config: SpecConfig, paths: dict[str, str]) -> SpecConfig:
    """A speculative config with a local draft folder replaced by the path that containers see."""
    model = (config or {}).get("model")
    if config is None or not isinstance(model, str):
        return config
    return {**config, "model": _mapped(model, paths)}


def from_containers(config: SpecConfig, paths: dict[str, str]) -> SpecConfig:
    """The reverse of `in_containers`."""
    model = (config or {}).get("model")
    if config is None or not isinstance(model, str):
        return config
    return {**config, "model": _mapped(model, {inside: outside for outside, inside in paths.items()})}


def _mapped(path: str, paths: dict[str, str]) -> str:
    for source, goal in sorted(paths.items(), key=lambda item: -len(item[0])):
        if path == source.rstrip("/") or path.startswith(source.rstrip("/") + "/"):
            return goal.rstrip("/") + path[len(source.rstrip("/")) :]
    return path


def require_visible(config: SpecConfig, mounts: Mapping[str, bool], text: str) -> None:
    """Raise PrerequisiteError if the draft is a folder that no volume of the container holds. `mounts`: see `mounted`."""
    model = (config or {}).get("model")
    if not isinstance(model, str) or not model.startswith("/"):
        return
    around = [mount for mount in mounts if posixpath.commonpath([model, mount or "/"]) == (mount or "/")]
    if not around or not mounts[max(around, key=len)]:
        raise PrerequisiteError(
            f"{text} cannot see the draft at {model}: no volume that could hold it is mounted there",
            "put drafts on a volume that it mounts, and map the folder in serving.options.paths",
        )
