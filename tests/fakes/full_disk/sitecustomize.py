"""A disk without space, for the files whose path contains FULL_DISK: the kernel's answer, given by fsync."""

import errno
import os

_fsync = os.fsync


def fsync(handle: int) -> None:
    path, full = os.readlink(f"/proc/self/fd/{handle}"), os.environ.get("FULL_DISK", "")
    if full and full in path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    _fsync(handle)


os.fsync = fsync
