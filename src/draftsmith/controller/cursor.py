"""Reading what was added to the files of a folder since the last look: a place in each, kept by inode.

A renamed file is read from the same position. One that shrank, or whose beginning is another (a copy that was truncated, an
inode that was given away), is read from its start. Compressed files are passed over: what a rotation compresses was read
before. Only whole lines count; a line that is being written is left for the next look.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import ConfigError

BLOCK = 4 << 20
LOOK_BYTES = 64 << 20
"""Read at one look, at most: a backlog is worked off over several."""
HEAD = 64
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class Place(Frozen):
    """How far a file was read. `head`: digest of its first `head_bytes` bytes, by which it is known again."""

    path: str
    offset: int = 0
    head: str = ""
    head_bytes: int = 0


class Line(Frozen):
    """Where a line lies: bytes [start, start + length) of a file, without its newline."""

    path: str
    start: int
    length: int


def require_local(sources: list[str]) -> None:
    """Raise ConfigError for traffic that cannot be read bit by bit."""
    for source in sources:
        if "://" in source or source == "-":
            raise ConfigError(
                f"the controller cannot follow {source.split('://')[0]!r} sources",
                "name a folder, a file or a glob of this machine: the recorder's folder, or a mounted bucket",
            )
    if not sources:
        raise ConfigError("no traffic is named", "set profile to the folder that the recorder writes to")


def files(sources: list[str]) -> list[Path]:
    """The files of folders (recursive), globs and names, oldest first; hidden and compressed ones are passed over.

    Raises FileNotFoundError if a folder or file is not there: a glob may match nothing yet.
    """
    paths: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            paths |= {
                item
                for item in path.rglob("*")
                if not any(part.startswith(".") for part in item.relative_to(path).parts)
            }
        elif any(mark in source for mark in "*?["):
            paths |= {Path(item) for item in glob(source, recursive=True)}
        else:
            path.stat()
            paths.add(path)
    plain = [path for path in paths if path.suffix not in COMPRESSED and path.is_file()]
    return sorted(plain, key=lambda path: (path.stat().st_mtime_ns, str(path)))


def key(status: os.stat_result) -> str:
    """What a file is known by, whatever its name."""
    return f"{status.st_dev}:{status.st_ino}"


def settle(path: Path, known: Place | None) -> tuple[Place, str | None]:
    """Where to go on in `path`, and what was strange about it."""
    name = str(path)
    if known is None:
        return Place(path=name), None
    size = path.stat().st_size
    if size < known.offset:
        return Place(path=name), f"{path.name} shrank: it is read from its start"
    if known.head_bytes and _head(path, known.head_bytes) != known.head:
        return Place(path=name), f"{path.name} is another file than before: it is read from its start"
    return known.model_copy(update={"path": name}), None


def added(place: Place, budget: int = LOOK_BYTES) -> Iterator[Line]:
    """The whole lines after a place, at most about `budget` bytes of them. Empty lines are left out."""
    with Path(place.path).open("rb") as source:
        source.seek(place.offset)
        start, rest = place.offset, b""
        while budget > 0 and (data := source.read(BLOCK)):
            budget -= len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                if line.strip():
                    yield Line(path=place.path, start=start, length=len(line))
                start += len(line) + 1


def moved_to(place: Place, offset: int) -> Place:
    """The place after reading up to `offset`."""
    head_bytes = min(HEAD, offset)
    path = Path(place.path)
    return place.model_copy(update={"offset": offset, "head_bytes": head_bytes, "head": _head(path, head_bytes)})


def read_line(line: Line) -> bytes:
    """The bytes of a line. Raises OSError if its file is gone."""
    with Path(line.path).open("rb") as source:
        source.seek(line.start)
        return source.read(line.length)


def _head(path: Path, length: int) -> str:
    with path.open("rb") as source:
        return hashlib.sha256(source.read(length)).hexdigest()
