"""Configurations side by side, each with its share of live traffic. Pure, but for hashing weights."""

from __future__ import annotations

from pathlib import Path

from draftsmith.contract.base import Frozen, digest
from draftsmith.contract.speculation import SpecConfig
from draftsmith.kit.files import sha256_file


class Side(Frozen):
    """One engine that is wanted: its speculative config (None = off) and its share of live traffic, in percent."""

    config: SpecConfig = None
    share: int = 100


def identity(config: SpecConfig) -> str:
    """What makes two sides the same server: the config, and its draft by content, for a draft may be copied elsewhere."""
    if config is None:
        return "plain"
    folder = Path(str(config.get("model", "")))
    weights = sorted(folder.glob("*.safetensors")) if config.get("model") else []
    content = {path.name: _sha256(path) for path in weights}
    return digest({**config, "model": content or config.get("model")})[:16]


_known: dict[tuple[str, int, int], str] = {}


def _sha256(path: Path) -> str:
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _known:
        _known[key] = sha256_file(path)
    return _known[key]
