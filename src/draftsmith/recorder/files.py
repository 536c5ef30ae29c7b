"""Private JSON-lines files that rotate by size and day, with a cap on what they take together.

Several server processes may write into one folder: each has its own file and holds a lock on it, so that none removes what
another still writes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import PRIVATE_FILE, private_dir, write_json
from draftsmith.recorder.settings import CaptureSettings

DAY_S = 86400.0
LOOK_AGAIN_S = 5.0
RESUME = 1.1  # free space above the floor before writing resumes, so that it does not start and stop all the time

Say = Callable[[str], None]


class CaptureFiles:
    """Where records go. `add` never raises: what cannot be written is reported once and counted by the caller."""

    def __init__(self, settings: CaptureSettings, say: Say, clock: Clock | None = None) -> None:
        self.settings, self.say, self.clock = settings, say, clock or SystemClock()
        self._handle: int | None = None
        self._path: Path | None = None
        self._size = self._number = 0
        self._opened = 0.0
        self._trouble: str | None = None
        self._looked = float("-inf")
        try:
            if settings.folder.is_dir() and settings.folder.stat().st_mode & 0o077:
                say("the capture folder can be listed by other users of this machine (its files cannot be read)")
            private_dir(settings.folder)
            if not os.access(settings.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            say(f"the capture folder cannot be written ({error.strerror}): nothing is recorded until it can")

    def add(self, line: bytes) -> bool:
        """Append one line. False if the disk is too full, or would not take it."""
        if not self._room(len(line)):
            return False
        try:
            handle = self._current(len(line) + 1)
            written = os.write(handle, line + b"\n")
            if written != len(line) + 1:
                os.ftruncate(handle, self._size)
                raise OSError(28, "short write")
            self._size += written
        except OSError as error:
            self._pause(f"cannot be written ({error.strerror or type(error).__name__})")
            return False
        return True

    def tend(self) -> None:
        """What time alone asks for: a file of yesterday is closed, files past their days are removed."""
        if self._handle is not None and self.clock.unix() - self._opened >= DAY_S:
            self.close()
        self._prune(0)

    def note(self, counts: dict[str, int]) -> None:
        """Write this process's counts to a hidden file beside the records, which importers pass over."""
        try:
            write_json(self.settings.folder / f".counts-{os.getpid()}.json", counts)
        except OSError:
            return  # the disk is reported where records are written

    def close(self) -> None:
        """Sync and close the current file; the next record opens a new one."""
        if self._handle is None:
            return
        handle, self._handle, self._path = self._handle, None, None
        try:
            os.fsync(handle)
        except OSError as error:
            self._pause(f"cannot be synced ({error.strerror})")
        finally:
            os.close(handle)

    def _room(self, size: int) -> bool:
        now = self.clock.monotonic()
        if now - self._looked < LOOK_AGAIN_S:
            return self._trouble is None
        self._looked = now
        try:
            free = shutil.disk_usage(private_dir(self.settings.folder)).free - size
        except OSError as error:
            self._pause(f"cannot be used ({error.strerror})")
            return False
        floor = self.settings.min_free_bytes
        if free < floor * (RESUME if self._trouble else 1.0):
            self._pause(f"has less than {floor / 2**20:,.0f} MiB free on its disk")
            return False
        if self._trouble:
            self._trouble = None
            self.say("recording goes on")
        return True

    def _pause(self, why: str) -> None:
        if self._trouble is None:
            self._trouble = why
            self.say(f"recording stopped, serving goes on: the capture folder {why}")
        self._looked = self.clock.monotonic()
        self.close()

    def _current(self, size: int) -> int:
        if self._handle is not None and self._size and self._size + size > self.settings.file_bytes:
            self.close()
        if self._handle is None:
            self._prune(size)
            self._handle = self._open()
        return self._handle

    def _open(self) -> int:
        self._opened, self._number, self._size = self.clock.unix(), self._number + 1, 0
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._opened))
        self._path = self.settings.folder / f"access-{stamp}-{os.getpid()}-{self._number:04d}.jsonl"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle

    def _prune(self, coming: int) -> None:
        """Remove the oldest finished files: those past their days, and more until a full new one fits under the cap."""
        files = sorted(
            (status.st_mtime, path, status.st_size)
            for path in self.settings.folder.glob("access-*.jsonl")
            if path != self._path and (status := _status(path)) is not None
        )
        reserve = max(self.settings.file_bytes, coming)
        total = sum(size for _, _, size in files) + reserve
        for modified, path, size in files:
            expired = self.clock.unix() - modified > self.settings.days * DAY_S
            if (expired or total > self.settings.total_bytes) and _remove(path):
                total -= size


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _remove(path: Path) -> bool:
    """Delete a file unless a process writes it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe under such a name would hang
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
