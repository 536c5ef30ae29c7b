"""Whether a draft's weights can be replaced in a running engine.

Another K, method or shape needs another engine; so does an engine that was started without this.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from draftsmith.contract.speculation import SpecConfig

FREE_KEYS = frozenset({"speculators_version", "transformers_version", "dtype", "torch_dtype", "_name_or_path"})
LONGEST_HEADER = 64 << 20


def swappable(old: SpecConfig, new: SpecConfig) -> str | None:
    """Why the draft of `new` cannot take the place of that of `old` in a running engine; None if it can.

    Only configs and headers are read here. The engine checks the weights themselves before it touches anything.
    """
    current, other = dict(old or {}), dict(new or {})
    folders = Path(str(current.pop("model", ""))), Path(str(other.pop("model", "")))
    if current != other:
        return "the speculative configurations differ in more than their draft"
    try:
        configs = [json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in folders]
        headers = [_header(folder / "model.safetensors") for folder in folders]
    except (OSError, ValueError, struct.error):
        return "a draft's folder cannot be read"
    plain = [{key: value for key, value in config.items() if key not in FREE_KEYS} for config in configs]
    if plain[0] != plain[1]:
        return "the drafts have different config.json"
    if headers[0] != headers[1]:
        return "the drafts have other tensors, shapes or types"
    return None


def _header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of a safetensors file."""
    with path.open("rb") as source:
        (size,) = struct.unpack("<Q", source.read(8))
        if size > LONGEST_HEADER:
            raise ValueError("no safetensors header")
        header: dict[str, Any] = json.loads(source.read(size))
    return {name: (tensor["dtype"], tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
