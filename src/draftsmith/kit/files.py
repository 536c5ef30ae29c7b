"""Files that survive a crash and stay private."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600


def private_dir(path: Path) -> Path:
    """Create `path` and its missing parents, readable by the owner alone. Returns it."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIR)
    return path


def write_atomic(
    path: Path, data: bytes | str, *, keep_mode: bool = False, check: Callable[[], None] | None = None
) -> Path:
    """Write through a temporary file, fsync and rename: readers see the old content or the new, never a part.

    `keep_mode`: a file that is there keeps its mode and, where this user may, its owner. `check` is called when all is on the disk and only the rename is left; what it raises leaves the old content there.
    Raises OSError (for example, disk full) with the old content untouched.
    """
    raw = data.encode() if isinstance(data, str) else data
    private_dir(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(raw)
            out.flush()
            if keep_mode and path.exists():
                _like(out.fileno(), path.stat())
            os.fsync(out.fileno())
        if check is not None:
            check()
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _like(handle: int, old: os.stat_result) -> None:
    os.fchmod(handle, stat.S_IMODE(old.st_mode))
    with contextlib.suppress(PermissionError):  # only root gives files away
        os.fchown(handle, old.st_uid, old.st_gid)


def write_json(path: Path, value: Any) -> Path:
    """`write_atomic` of indented JSON; pydantic models are dumped by alias."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    return write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises FileNotFoundError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def put_in_place(new: Path, final: Path) -> None:
    """Rename the folder `new` to `final`; a folder that is there is exchanged for it in one step and then removed.

    Where the file system cannot exchange two folders, the old one waits as `.<name>.old` for the moment between two
    renames; `put_back` restores it after a crash in that moment.
    """
    if not final.exists():
        os.replace(new, final)
        return
    old = new
    if not _exchanged(new, final):
        old = _aside(final)
        os.replace(final, old)
        os.replace(new, final)
    shutil.rmtree(old, ignore_errors=True)


def put_back(final: Path) -> None:
    """Finish or undo a `put_in_place` that was interrupted."""
    old = _aside(final)
    if old.exists() and not final.exists():
        os.replace(old, final)
    shutil.rmtree(old, ignore_errors=True)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchanged(path: Path, other: Path) -> bool:
    """Linux's renameat2 with RENAME_EXCHANGE. False where the system or the file system has none."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done: int = exchange(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def append_line(path: Path, text: str) -> None:
    """Append one line and fsync; a torn last line is the reader's to skip (see `read_lines`, `cut_torn_line`)."""
    private_dir(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    try:
        _write(handle, text.encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    """All of it: on a disk that fills up the first part is written without an error."""
    while data:
        data = data[os.write(handle, data) :]


def cut_torn_line(path: Path) -> None:
    """Remove an unfinished last line, so that the next one does not grow onto it."""
    if not path.exists():
        return
    with path.open("rb+") as log:
        end = place = log.seek(0, os.SEEK_END)
        while place > 0:
            log.seek(place - 1)
            if log.read(1) == b"\n":
                break
            place -= 1
        if place != end:
            log.truncate(place)


class LineLog:
    """A file that grows by lines, private. A line is in the file when `add` returns, and on the disk a second later.

    Use it where lines come fast; `append_line` syncs each one.
    """

    def __init__(self, path: Path, sync_every_s: float = 1.0) -> None:
        private_dir(path.parent)
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
        self._sync_every_s = sync_every_s
        self._synced = time.monotonic()

    def add(self, text: str) -> None:
        """Append one line."""
        _write(self._handle, text.encode() + b"\n")
        if time.monotonic() - self._synced > self._sync_every_s:
            os.fsync(self._handle)
            self._synced = time.monotonic()

    def __enter__(self) -> LineLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._handle)
        os.close(self._handle)


def read_lines(path: Path) -> Iterator[str]:
    """Complete lines of a file, split on newline bytes only (never on U+2028). A torn last line is left out."""
    if not path.exists():
        return
    with path.open("rb") as source:
        for raw in source:
            if raw.endswith(b"\n") and raw.strip():
                yield raw[:-1].decode("utf-8")


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
