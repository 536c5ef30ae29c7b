"""One process at a time: in the folder of a run, and at what serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from draftsmith.contract.errors import RefusedError
from draftsmith.kit.lock import LockHeldError, held

SWITCH_LOCK = "switch.lock"
SWITCH_WAIT_S = 60.0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raise RefusedError if another process is at work in `folder`."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder / "lock"))
        except LockHeldError:
            raise RefusedError(
                f"another process is carrying out {folder.name}", "wait for its end, or stop it first"
            ) from None
        yield


@contextlib.contextmanager
def switching(workspace: Path, wait_s: float = SWITCH_WAIT_S) -> Iterator[None]:
    """Hold the right to switch what a workspace serves, from the first look to the last line on record.

    Raises RefusedError if another command still holds it after `wait_s` seconds: a rollout may take minutes.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(workspace / SWITCH_LOCK, wait_s))
        except LockHeldError:
            raise RefusedError(
                f"another command is switching what {workspace.name} serves; nothing was changed",
                "wait for its end and run the same command again",
            ) from None
        yield
