"""service-state.json of a workspace. Unknown keys of another version are kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from draftsmith.contract.errors import InputError
from draftsmith.contract.state import HistoryEntry, ServiceState
from draftsmith.kit.files import read_json, write_json

FILE = "service-state.json"


def read_state(workspace: Path) -> ServiceState | None:
    """The state, or None before the first run. Raises InputError if the file is damaged."""
    path = workspace / FILE
    if not path.exists():
        return None
    try:
        return ServiceState.model_validate(read_json(path))
    except (ValueError, ValidationError) as error:
        raise InputError(
            f"{FILE} cannot be read ({type(error).__name__})", "restore it from a backup, or move it away to start anew"
        ) from None


def write_state(workspace: Path, state: ServiceState) -> None:
    """Replace the state atomically."""
    write_json(workspace / FILE, state)


def remember(state: ServiceState, event: str, **fields: Any) -> ServiceState:
    """`state` with one more history entry; `fields` are those of HistoryEntry."""
    entry = HistoryEntry(at_unix_s=time.time(), event=event, **fields)
    return state.model_copy(update={"history": (*state.history, entry)})
