"""A file lock between processes and threads. The kernel gives it back however its holder ends, `kill -9` included."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from draftsmith.kit.files import PRIVATE_FILE, private_dir

ASK_AGAIN_S = 0.02
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class LockHeldError(Exception):
    """Another holder did not give the lock back in time."""


@contextlib.contextmanager
def held(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` (made if missing, never removed) while the block runs.

    Waits up to `wait_s` seconds for another holder, then raises LockHeldError. A holder must not ask again: it would wait
    for itself.
    """
    private_dir(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        deadline = time.monotonic() + wait_s
        while not _taken(handle):
            if time.monotonic() >= deadline:
                raise LockHeldError(str(path))
            time.sleep(ASK_AGAIN_S)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise OSError(error.errno, "its file system has no locks (Lustre: mount with -o flock); move it") from error
        raise
    return True
