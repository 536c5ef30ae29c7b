"""A target's config.json: the part that describes the language model, and its rotary embedding in one flat form.

What a published config.json leaves out, its configuration class says: model_defaults.json holds that, as
`python -m draftsmith.work.inside.model_defaults` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from draftsmith.contract.errors import InputError
from draftsmith.trainers.weights import read_object

PARTS = ("text_config", "llm_config", "thinker_config")
# A config.json that describes one model alone names these itself, or it is damaged.
OWN = frozenset({"hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size"})
OUTSIDE = OWN | {"tie_word_embeddings"}  # may stand beside the part that describes the language model
LAYER_LISTS = ("layers_block_type", "layer_types", "block_configs")


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a folder. Raises InputError if it is missing or no JSON object."""
    if not (path / "config.json").is_file():
        raise InputError(f"{path} has no config.json", "point to a complete Hugging Face style folder")
    return read_object(path / "config.json")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part that describes the language model: of a multimodal configuration its text_config, else the whole.

    With what its configuration class says of keys that are left out, and by their usual names.
    """
    return _text(config, nested=False)


def _text(config: Mapping[str, Any], nested: bool) -> dict[str, Any]:
    for key in PARTS:
        inner = config.get(key)
        if isinstance(inner, dict):
            outer = str(config.get("model_type"))
            kind = inner if "model_type" in inner or outer not in _defaults() else {**inner, "model_type": outer}
            nested_text = _text(kind, nested=True)
            outside = {key: config[key] for key in OUTSIDE if key not in inner and config.get(key) is not None}
            return nested_text | outside
    text = dict(config)
    known = _defaults().get(str(config.get("model_type")), {})
    for name, usual in known.get("named", {}).items():
        if name in text:
            text.setdefault(usual, text[name])
    for key, value in known.get("says", {}).items():
        if nested or key not in OWN:
            text.setdefault(key, value)
    if "full_every" in known and "layer_types" not in text:
        text.setdefault("sliding_window_pattern", known["full_every"])
    lists = (text[key] for key in LAYER_LISTS if isinstance(text.get(key), list) and text[key])
    if text.get("num_hidden_layers") is None and (layers := next(lists, None)) is not None:
        text["num_hidden_layers"] = len(layers)
    return text


@lru_cache(maxsize=1)
def _defaults() -> dict[str, dict[str, Any]]:
    """By model_type, of transformers' configuration classes."""
    table: dict[str, dict[str, Any]] = orjson.loads(Path(__file__).with_name("model_defaults.json").read_bytes())[
        "kinds"
    ]
    return table


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
