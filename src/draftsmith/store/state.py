"""service-state.json of a workspace. Unknown keys of another version are kept.

Law: the file is changed by `change` alone, which reads it, changes it and replaces it under one lock, so no writer can
overwrite what another one wrote in between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.contract.state import HistoryEntry, ServiceState
from draftsmith.kit.files import read_json, write_json
from draftsmith.kit.lock import LockHeldError, held

FILE = "service-state.json"
LOCK = "service-state.lock"
SCHEMA = "specdec_service_v1"
WAIT_S = 60.0


def read_state(workspace: Path) -> ServiceState | None:
    """The state, or None before the first run. Raises InputError if the file is damaged or of a newer version."""
    path = workspace / FILE
    if not path.exists():
        return None
    try:
        content = read_json(path)
        return ServiceState.model_validate(content)
    except (OSError, ValueError, RecursionError) as error:
        schema = content.get("schema") if isinstance(error, ValidationError) and isinstance(content, dict) else SCHEMA
        if isinstance(schema, str) and schema != SCHEMA:
            raise InputError(
                f"{FILE} is of the schema {schema[:60]!r}; this version reads {SCHEMA}",
                "use the version of draftsmith that wrote it, or a later one",
            ) from None
        raise InputError(
            f"{FILE} cannot be read ({type(error).__name__})", "restore it from a backup, or move it away to start anew"
        ) from None


def change(
    workspace: Path, change: Callable[[ServiceState | None], ServiceState], wait_s: float = WAIT_S
) -> ServiceState:
    """Replace the state by what `change` makes of the present one (None = there is none yet). Returns it.

    `change` is called under the lock: it is short, and what it raises leaves the file as it is. Raises RefusedError if
    another process holds the lock longer than `wait_s` seconds, InputError as `read_state`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(workspace / LOCK, wait_s))
        except LockHeldError:
            raise RefusedError(
                f"another process has been changing {FILE} for {wait_s:.0f} s", "run the same command again"
            ) from None
        before = read_state(workspace)
        after = change(before)
        if before is None or _plain(before) != _plain(after):
            write_json(workspace / FILE, after)
        return after


def remember(state: ServiceState, event: str, **fields: Any) -> ServiceState:
    """`state` with one more history entry; `fields` are those of HistoryEntry."""
    entry = HistoryEntry(at_unix_s=time.time(), event=event, **fields)
    return state.model_copy(update={"history": (*state.history, entry)})


def _plain(state: ServiceState) -> str:
    return canonical(state.model_dump(mode="json", by_alias=True))
