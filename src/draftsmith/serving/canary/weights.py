"""Where a copy of a served container finds its model: in a folder, in a cache that outlives pods, or on the Hub. Pure."""

from __future__ import annotations

import posixpath

from draftsmith.serving.kubernetes.standing import Standing

OFFLINE = "HF_HUB_OFFLINE"
CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "TRANSFORMERS_CACHE")
USUAL = ".cache/huggingface"  # below the home folder of the user that the image runs as


def hub_settings(standing: Standing) -> dict[str, str]:
    """Environment variables of a copy that decide whether it contacts the Hub.

    It does not for a model in a folder or in a cache on a volume; it does for a model that the served pod loads at every start.
    """
    model = standing.command.model or ""
    if model.startswith(("/", ".", "s3://", "gs://")) or not model:
        return {OFFLINE: "1"}
    kept = [path for path, holds in standing.mounts().items() if holds]
    named = {item["name"]: str(item.get("value", "")) for item in standing.container.get("env") or []}
    folders = [named[key] for key in CACHES if named.get(key)]
    folders += [str(value) for value in standing.command.values("--download-dir") if value]
    if any(_below(folder, mount) for folder in folders for mount in kept):
        return {OFFLINE: "1"}
    usual = [mount for mount in kept if mount.endswith(USUAL)]
    if usual and not folders:
        return {OFFLINE: "1", "HF_HOME": usual[0]}  # the copy has a home of its own, and would not look there
    return {}


def _below(folder: str, mount: str) -> bool:
    return posixpath.isabs(folder) and posixpath.commonpath([folder, mount or "/"]) == (mount or "/")
