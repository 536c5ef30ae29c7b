"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from draftsmith.contract.errors import RefusedError


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raise RefusedError if another process is at work in `folder`. The kernel gives the lock back however its holder ends."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                f"another process is carrying out {folder.name}", "wait for its end, or stop it first"
            ) from None
        yield
