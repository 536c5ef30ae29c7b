"""One pass over all sources, in order, in this process. The profile's parallel path shares its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import orjson

from draftsmith.traffic.importers.base import Fields, Importer
from draftsmith.traffic.importers.pairing import Pairing
from draftsmith.traffic.importers.reading import MAX_DOCUMENT, FileReader, Rejected, elements, named, shape_of
from draftsmith.traffic.importers.sources import BLOCK, Digest, Lines, OnSkip, SourceFile, blocks, chunks, expand

HEAD = 1 << 16


@dataclass(frozen=True)
class Located:
    """The fields of one record and where they came from."""

    fields: Fields
    where: str
    file: int = 0
    line: int = 0


@dataclass
class OpenFile:
    """A source with its reader and what is known of it so far."""

    file: SourceFile
    reader: FileReader
    digest: Digest = field(default_factory=Digest)


def open_files(sources: Sequence[str], format_name: str | None) -> list[OpenFile]:
    """Expand the sources and look at the head of each. Raises InputError for unknown formats or missing files."""
    wanted = named(format_name)
    return [OpenFile(source, FileReader(_shape(source, wanted), wanted)) for source in expand(sources)]


def _shape(file: SourceFile, wanted: Importer | None) -> str:
    if file.piped:
        return "unknown"  # a pipe can be read once only: its head is looked at when it is read
    quiet: OnSkip = lambda *_: None  # noqa: E731
    return shape_of(next(iter(chunks(file, Digest(), quiet, HEAD)), b""), wanted)


def stream(sources: Sequence[str], format_name: str | None, on_skip: OnSkip) -> Iterator[Located]:
    """Every record of every source with its place. Batch prompts and answers are joined where both are given."""
    yield from read_files(open_files(sources, format_name), on_skip)


def read_files(files: Sequence[OpenFile], on_skip: OnSkip) -> Iterator[Located]:
    """Records of opened files. Files of batch prompts come first, so that answers find them."""
    formats = {position: first_format(file) for position, file in enumerate(files)}
    both = {"openai-batch-input", "openai-batch-output"} <= set(formats.values())
    pairing = Pairing() if both else None
    order = sorted(range(len(files)), key=lambda at: both and formats[at] != "openai-batch-input")
    try:
        for position in order:
            for item in read_file(files[position], position, on_skip):
                joined = _pair(item, pairing, on_skip)
                if joined is not None:
                    yield joined
        if pairing is not None:
            for fields in pairing.rest():
                yield Located(fields, str(fields.get("where")), 0, 0)
    finally:
        if pairing is not None:
            pairing.close()


def _pair(item: Located, pairing: Pairing | None, on_skip: OnSkip) -> Located | None:
    fields = item.fields
    if pairing is None or fields.get("pair_key") is None:
        return item
    raw = fields.pop("raw", b"")  # the database holds JSON
    if fields.get("completion") is None and fields.get("messages"):
        if not pairing.add({**fields, "where": item.where}):
            on_skip("duplicate request id", item.where, raw)
        return None
    return Located({**pairing.join(fields), "raw": raw}, item.where, item.file, item.line)


def first_format(file: OpenFile) -> str | None:
    """Format of the first value of a line file, to decide on pairing; None where it does not matter."""
    if file.reader.shape != "lines" or file.file.piped:
        return None
    quiet: OnSkip = lambda *_: None  # noqa: E731
    head = next(iter(blocks(file.file, Digest(), quiet, HEAD)), None)
    if head is None:
        return None
    probe = FileReader("lines", file.reader.wanted)
    for _, _found in probe.block(1, head.data.partition(b"\n")[0]):
        break
    return next(iter(probe.counts), None)


def read_file(file: OpenFile, position: int, on_skip: OnSkip) -> Iterator[Located]:
    """Records of one file. Rejections go to `on_skip` with file:line."""
    name = file.file.name
    pieces: Iterator[tuple[int, Fields | Rejected]] = (
        _document(file, on_skip) if file.reader.shape in ("array", "document", "unknown") else _lines(file, on_skip)
    )
    last, nth = 0, 0
    for number, fields in pieces:
        where = f"{name}:{number}"
        if isinstance(fields, Rejected):
            on_skip(fields.reason, where, fields.raw)
            continue
        nth = nth + 1 if number == last else 0
        last = number
        yield Located(fields, f"{where}.{nth}" if nth else where, position, number)


def _lines(file: OpenFile, on_skip: OnSkip) -> Iterator[tuple[int, Fields | Rejected]]:
    for block in blocks(file.file, file.digest, on_skip):
        yield from file.reader.block(block.first_line, block.data)
    yield from file.reader.end()


def _document(file: OpenFile, on_skip: OnSkip) -> Iterator[tuple[int, Fields | Rejected]]:
    pieces = chunks(file.file, file.digest, on_skip, BLOCK if file.reader.shape != "unknown" else HEAD)
    if file.reader.shape == "unknown":
        head = next(pieces, b"")
        file.reader.shape = shape_of(head, file.reader.wanted)
        pieces = chain([head], pieces)
    if file.reader.shape == "array":
        yield from _array(file, pieces)
    elif file.reader.shape == "document":
        yield from _whole(file, pieces)
    else:
        yield from _piped_lines(file, pieces, on_skip)


def _array(file: OpenFile, pieces: Iterator[bytes]) -> Iterator[tuple[int, Fields | Rejected]]:
    for number, raw in elements(pieces):
        if raw is None:
            yield number, Rejected("broken or cut JSON", b"")
            break
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            yield number, Rejected("broken JSON", raw)
            continue
        yield from file.reader.value(number, raw, value)
    for _ in pieces:
        pass  # the hash is over the whole file
    yield from file.reader.end()


def _whole(file: OpenFile, pieces: Iterator[bytes]) -> Iterator[tuple[int, Fields | Rejected]]:
    """One indented value; or, where that fails, several of them one after another."""
    held = bytearray()
    for piece in pieces:
        if len(held) <= MAX_DOCUMENT:
            held += piece
    if len(held) > MAX_DOCUMENT:
        yield 1, Rejected("document too large", b"")
        return
    try:
        value = orjson.loads(held.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        yield from _array(file, iter([b"[", bytes(held), b"]"]))
        return
    yield from file.reader.value(1, bytes(held[:65536]), value)
    yield from file.reader.end()


def _piped_lines(file: OpenFile, pieces: Iterator[bytes], on_skip: OnSkip) -> Iterator[tuple[int, Fields | Rejected]]:
    lines = Lines(file.file.name, on_skip)
    for piece in pieces:
        for block in lines.add(piece):
            yield from file.reader.block(block.first_line, block.data)
    for block in lines.end():
        yield from file.reader.block(block.first_line, block.data)
    yield from file.reader.end()
