"""How captured states are called. Nothing else is imported: a trainer's interpreter reads this too."""

from __future__ import annotations

import hashlib
from pathlib import Path


def key(record_id: str) -> str:
    """File stem of a row's states: a hash, since ids may hold anything."""
    return hashlib.sha256(record_id.encode()).hexdigest()[:32]


def states_path(folder: Path, record_id: str) -> Path:
    """Where the states of a row lie."""
    return folder / f"{key(record_id)}.safetensors"
