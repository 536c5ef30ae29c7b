"""From what the user named to blocks of bytes: files, globs, folders, stdin, fsspec URLs; plain, gzip or zstd.

Memory is bounded: a block is a few megabytes, and a line longer than MAX_LINE is passed over, counted and reported.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from draftsmith.contract.errors import InputError, PrerequisiteError

BLOCK = 4 << 20
MAX_LINE = 64 << 20

OnSkip = Callable[[str, str, bytes], None]
"""Called with a reason, `file:line`, and the raw bytes (cut to a few kilobytes where the line is too long)."""


@dataclass(frozen=True)
class SourceFile:
    """One input. `name` has no folders; `size` is None where it is not known (stdin, pipes, remote).

    `piped`: it can be read once only, so nothing of it is looked at before.
    """

    path: str
    name: str
    size: int | None
    compression: str | None
    remote: bool = False
    piped: bool = False


@dataclass(frozen=True)
class Block:
    """Whole lines of one file: the number of the first, and the bytes (or where to read them, for plain files)."""

    first_line: int
    data: bytes
    offset: int | None = None


@dataclass
class Digest:
    """sha256 and size of the bytes as stored, filled while they are read."""

    hash: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self.hash.update(data)
        self.size += len(data)


def expand(sources: Sequence[str]) -> list[SourceFile]:
    """Resolve files, globs, folders (recursive, hidden names left out), '-' and URLs. Raises InputError if one is empty."""
    if not sources:
        raise InputError("no traffic was named", "give a file, folder, glob, URL, or '-' for standard input")
    files: list[SourceFile] = []
    for source in sources:
        result = _resolve(source)
        if not result:
            raise InputError(f"nothing to read at {source!r}", "check the path; folders and globs must hold files")
        files += result
    unique = {file.path: file for file in files}
    return list(unique.values())


def _resolve(source: str) -> list[SourceFile]:
    if source == "-":
        return [SourceFile("-", "stdin", None, None, piped=True)]
    if "://" in source:
        return _remote(source)
    path = Path(source).expanduser()
    if path.is_dir():
        inside = (inner for inner in sorted(path.rglob("*")) if not _hidden(inner.relative_to(path)))
        return [_local(inner) for inner in inside if inner.is_file()]
    if path.exists():
        return [_local(path)]
    return [_local(Path(name)) for name in sorted(glob.glob(str(path), recursive=True)) if Path(name).is_file()]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _local(path: Path) -> SourceFile:
    if not path.is_file():
        # A named pipe, /dev/stdin, or what a shell makes of <(...).
        return SourceFile(str(path), path.name, None, None, piped=True)
    return SourceFile(str(path), path.name, path.stat().st_size, _compression(path))


def _compression(path: Path) -> str | None:
    try:
        with path.open("rb") as source:
            magic = source.read(4)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", "check that the file is readable") from None
    return _compressed(magic)


def _compressed(magic: bytes) -> str | None:
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    return "zstd" if magic == b"\x28\xb5\x2f\xfd" else None


def _remote(url: str) -> list[SourceFile]:
    fsspec = _fsspec()
    try:
        system, path = fsspec.core.url_to_fs(url)
        names = system.glob(path) if any(mark in path for mark in "*?[") else [path]
        if len(names) == 1 and system.isdir(names[0]):
            names = system.find(names[0])
        return [_remote_file(system.unstrip_protocol(name)) for name in sorted(names)]
    except (ImportError, ValueError) as error:
        raise PrerequisiteError(
            f"cannot open {url.split('?')[0]!r}: {error}", "install the fsspec package for it"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot list {url.split('?')[0]!r}: {error}", "check the address and the credentials"
        ) from None


def _remote_file(url: str) -> SourceFile:
    return SourceFile(url, url.split("?")[0].rsplit("/", 1)[-1], None, None, remote=True)


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise PrerequisiteError("reading from a URL needs fsspec", "install draftsmith[objects]") from None
    return fsspec


class _Tee:
    """A raw stream that feeds a Digest with every byte read from it. `magic` are its first bytes, which stay to be read."""

    def __init__(self, raw: IO[bytes], digest: Digest, peek: bool) -> None:
        self.raw, self.digest = raw, digest
        self.magic = self._held = raw.read(4) if peek else b""

    def read(self, size: int = -1) -> bytes:
        if self._held:
            wanted = len(self._held) if size < 0 else size
            data, self._held = self._held[:wanted], self._held[wanted:]
            data += self.raw.read(size - len(data) if size >= 0 else -1)
        else:
            data = self.raw.read(size)
        self.digest.update(data)
        return data


def _open_raw(file: SourceFile) -> AbstractContextManager[IO[bytes]]:
    if file.path == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        if file.remote:
            opened: AbstractContextManager[IO[bytes]] = _fsspec().open(file.path, "rb").open()
            return opened
        return open(file.path, "rb")
    except OSError as error:
        raise InputError(f"cannot read {file.name}: {error}", "check the name, the connection and the rights") from None


def _decompress(compression: str | None, raw: _Tee) -> Any:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=cast("Any", raw))
    if compression == "zstd":
        try:
            import zstandard
        except ImportError:
            raise PrerequisiteError("reading .zst files needs zstandard", "install draftsmith[zstd]") from None
        return zstandard.ZstdDecompressor().stream_reader(cast("Any", raw), read_across_frames=True)
    return raw


def _broken_stream() -> tuple[type[Exception], ...]:
    errors: list[type[Exception]] = [EOFError, OSError, zlib.error]
    if "zstandard" in sys.modules:
        errors.append(sys.modules["zstandard"].ZstdError)
    return tuple(errors)


def chunks(file: SourceFile, digest: Digest, on_skip: OnSkip, size: int = BLOCK) -> Iterator[bytes]:
    """Decompressed bytes of a file. A truncated or corrupt stream ends it, and is reported, not raised."""
    got = 0
    with _open_raw(file) as raw:
        # What comes over a pipe or a URL shows only when it is read whether it is compressed.
        tee = _Tee(raw, digest, peek=file.remote or file.piped)
        compression = file.compression or _compressed(tee.magic)
        stream = _decompress(compression, tee)
        while True:
            try:
                # read1 hands out what is there: a plain read would lose everything before the point where a file is cut.
                data = stream.read1(size) if compression == "gzip" else stream.read(size)
            except _broken_stream() as error:
                if isinstance(error, OSError) and not compression:
                    raise InputError(f"cannot read {file.name}: {error}", "check the disk or the connection") from None
                on_skip("truncated or corrupt compression", f"{file.name}: after {got} bytes", b"")
                return
            if not data:
                return
            got += len(data)
            yield data


def blocks(file: SourceFile, digest: Digest, on_skip: OnSkip, size: int = BLOCK) -> Iterator[Block]:
    """Blocks of whole lines of a file. A stream that is cut is reported at the line that it cuts."""
    lines = Lines(file.name, on_skip)
    plain = file.compression is None and not file.remote and not file.piped
    for data in chunks(file, digest, lambda reason, _, raw: on_skip(reason, lines.place, raw), size):
        yield from lines.add(data, plain)
    yield from lines.end(plain)


class Lines:
    """Cuts pieces of bytes into blocks of whole lines, on newline bytes only. The last line needs no newline.

    A line longer than MAX_LINE is passed over without being held, and reported.
    """

    def __init__(self, name: str, on_skip: OnSkip) -> None:
        self._name, self._on_skip = name, on_skip
        self._rest: list[bytes] = []
        self._held, self._line, self._offset, self._dropping = 0, 1, 0, False

    @property
    def place(self) -> str:
        """`file:line` of the line that is not whole yet."""
        return f"{self._name}:{self._line}"

    def add(self, data: bytes, plain: bool = False) -> Iterator[Block]:
        """The whole lines that these bytes complete. `plain`: the offsets are those of the file itself."""
        if self._dropping:
            end = data.find(b"\n")
            if end < 0:
                self._offset += len(data)
                return
            data, self._dropping = data[end + 1 :], False
            self._offset, self._line = self._offset + end + 1, self._line + 1
        cut = data.rfind(b"\n") + 1
        if cut:
            whole = b"".join((*self._rest, data[:cut]))
            yield Block(self._line, whole, self._offset if plain else None)
            self._line, self._offset = self._line + whole.count(b"\n"), self._offset + len(whole)
            self._rest, self._held = [], 0
        self._rest.append(data[cut:])
        self._held += len(data) - cut
        if self._held > MAX_LINE:
            self._on_skip("line too long", self.place, b"".join(self._rest[:2])[:4096])
            self._offset, self._rest, self._held, self._dropping = self._offset + self._held, [], 0, True

    def end(self, plain: bool = False) -> Iterator[Block]:
        """The last line, if it has no newline."""
        if self._held:
            yield Block(self._line, b"".join(self._rest), self._offset if plain else None)


def read_range(path: str, offset: int, length: int) -> bytes:
    """The bytes of a block, read again by a worker."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.pread(handle, length, offset)
    finally:
        os.close(handle)
