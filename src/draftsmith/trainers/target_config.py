"""A target's config.json: the part that describes the language model, and its rotary embedding in one flat form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.trainers.weights import read_object


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a folder. Raises InputError if it is missing or no JSON object."""
    if not (path / "config.json").is_file():
        raise InputError(f"{path} has no config.json", "point to a complete Hugging Face style folder")
    return read_object(path / "config.json")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part that describes the language model: of a multimodal configuration its text_config, else the whole."""
    for key in ("text_config", "llm_config", "thinker_config"):
        nested = config.get(key)
        if isinstance(nested, dict):
            return text_config(nested)
    return dict(config)


def read_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary embedding in one flat form: rope_theta, rope_type and what scaling adds. Older and newer spellings."""
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and isinstance(parameters.get("full_attention"), dict):
        parameters = parameters["full_attention"]  # one set for each kind of layer
    parameters = dict(parameters) if isinstance(parameters, dict) else {}
    scaling = config.get("rope_scaling")
    rope = {**(scaling if isinstance(scaling, dict) else {}), **parameters}
    kind = rope.pop("type", None)
    rope.setdefault("rope_type", kind or "default")
    if "rope_theta" not in rope and config.get("rope_theta") is not None:
        rope["rope_theta"] = config["rope_theta"]
    return {key: value for key, value in sorted(rope.items()) if value is not None}


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything nested in a JSON value, itself first."""
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)
