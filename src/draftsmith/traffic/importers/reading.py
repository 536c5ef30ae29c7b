"""From blocks of bytes to records: which shape a file has, one value at a time, every failure counted.

Shapes: `lines` (one JSON value a line), `array` (one JSON list, read element by element), `document` (one indented JSON
value), `csv`, `text`. Formats are found value by value, so a file may mix them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from draftsmith.traffic.importers.base import SHAPE, SHAPE_ERRORS, Fields, Importer, SkipError
from draftsmith.traffic.importers.catalog import find, importer
from draftsmith.traffic.importers.normalise import normalise

MAX_DOCUMENT = 256 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Rejected:
    """A value that gave no record (or, with `kept`, a record with a flaw)."""

    reason: str
    raw: bytes
    kept: bool = False


@dataclass
class FileReader:
    """Reads the blocks of one file in order. `wanted` fixes the format; otherwise each value is recognised.

    `counts` is format -> records. Streamed chunks that belong together are joined across values, which is why a reader is
    kept for the whole file when `stateful`. With `keep_raw` the bytes of a value go along as the field `raw`.
    """

    shape: str
    wanted: Importer | None = None
    counts: dict[str, int] = field(default_factory=dict)
    header: list[str] | None = None
    keep_raw: bool = False
    _pending: list[Any] = field(default_factory=list)
    _pending_at: int = 0

    def block(self, first_line: int, data: bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        """Records and rejections of a block, with their line numbers."""
        if first_line == 1 and data.startswith(_BOM):
            data = data[len(_BOM) :]
        if self.shape == "csv":
            yield from self._csv(first_line, data)
            return
        for number, raw in enumerate(data.split(b"\n"), first_line):
            if not raw or raw.isspace():
                continue
            if self.shape == "text":
                yield from self._text(number, raw)
            else:
                yield from self._json(number, raw)

    def value(self, number: int, raw: bytes, value: Any) -> Iterator[tuple[int, Fields | Rejected]]:
        """Records of one parsed JSON value."""
        if not isinstance(value, dict):
            yield number, Rejected("JSON value is not an object", raw)
        elif str(value.get("object") or "").endswith(".chunk") and self._joins_chunks():
            yield from self._chunk(number, value)
        else:
            yield from self._flush()
            yield from self._convert(number, raw, value, "json")

    def end(self) -> Iterator[tuple[int, Fields | Rejected]]:
        """What is still pending at the end of the file."""
        yield from self._flush()

    def _json(self, number: int, raw: bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            yield number, Rejected(_why_broken(raw), raw)
            return
        yield from self.value(number, raw, value)

    def _text(self, number: int, raw: bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            yield number, Rejected("not UTF-8", raw)
            return
        yield from self._convert(number, raw, line, "text")

    def _csv(self, first_line: int, data: bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        for number, raw in enumerate(data.split(b"\n"), first_line):
            line = raw.decode("utf-8", "replace").strip("\r")
            if not line.strip():
                continue
            cells = _cells(line)
            if self.header is None:
                self.header = [cell.strip() for cell in cells]
            elif len(cells) != len(self.header):
                yield number, Rejected("row does not fit the header", raw)
            else:
                yield from self._convert(number, raw, dict(zip(self.header, cells, strict=True)), "csv")

    def _joins_chunks(self) -> bool:
        return self.wanted is None or self.wanted.name == "tgi-stream"

    def _chunk(self, number: int, value: Any) -> Iterator[tuple[int, Fields | Rejected]]:
        if self._pending and _stream_key(self._pending[-1]) != _stream_key(value):
            yield from self._flush()
        self._pending.append(value)
        self._pending_at = number
        if len(self._pending) > 100_000:
            self._pending.clear()
            yield number, Rejected("stream without an end", b"")

    def _flush(self) -> Iterator[tuple[int, Fields | Rejected]]:
        if self._pending:
            joined, self._pending = {"chunks": self._pending}, []
            yield from self._convert(self._pending_at, b"", joined, "json")

    def _convert(self, number: int, raw: bytes, value: Any, kind: str) -> Iterator[tuple[int, Fields | Rejected]]:
        one = self._which(value, kind)
        if one is None:
            yield number, Rejected("log line without a request" if kind == "text" else "unknown format", raw)
            return
        found = one.records(value)
        while True:
            try:
                fields = next(found, None)
                if isinstance(fields, SkipError):
                    raise fields  # one request among several: the next ones are still read
                if fields is None:
                    return
                note = normalise(fields)
            except SkipError as skip:
                yield number, Rejected(skip.reason, raw)
                continue  # after its own error a generator is at its end
            except SHAPE_ERRORS:
                yield number, Rejected(SHAPE, raw)
                continue
            self.counts[one.name] = self.counts.get(one.name, 0) + 1
            if note:
                yield number, Rejected(note, raw, kept=True)
            if self.keep_raw:
                fields["raw"] = raw
            yield number, fields

    def _which(self, value: Any, kind: str) -> Importer | None:
        if self.wanted is not None:
            return self.wanted if self.wanted.kind == kind else None
        try:
            found = find(kind, value)
        except (AttributeError, TypeError):
            return None
        return found


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _stream_key(chunk: Any) -> tuple[Any, ...]:
    return (chunk.get("id"), chunk.get("model"), chunk.get("created"))


def _why_broken(raw: bytes) -> str:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    return "broken JSON"


def shape_of(head: bytes, wanted: Importer | None = None) -> str:
    """The shape of a file from its first bytes (some tens of kilobytes)."""
    head = head.removeprefix(_BOM)
    body = head.lstrip()
    if wanted is not None and wanted.kind != "json":
        return wanted.kind
    if body[:1] == b"[" and body[1:].lstrip()[:1] in (b"{", b"]", b""):
        return "array"
    if body[:1] == b"{":
        first, _, rest = body.partition(b"\n")
        opened = first.strip() == b"{" and rest.lstrip()[:1] in (b'"', b"}")
        indented = rest[:1] in (b" ", b"\t") and not first.rstrip().endswith(b"}")
        return "document" if opened or indented else "lines"
    return _textual(body)


def _textual(body: bytes) -> str:
    lines = [line for line in body.decode("utf-8", "replace").split("\n")[:50] if line.strip()]
    if lines and find("csv", dict.fromkeys(cell.strip() for cell in lines[0].split(","))):
        return "csv"
    return "text" if any(find("text", line) for line in lines) else "lines"


def elements(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The elements of a JSON list (or of several, one after another), as bytes, without holding the list.

    A None ends a list that is cut or broken, and stands for whatever follows it.
    """
    import codecs

    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    scan = json.JSONDecoder(strict=False).raw_decode
    buffer, at, number, started, ended = "", 0, 0, False, False
    while True:
        while at < len(buffer) and (
            buffer[at].isspace() or (buffer[at] == "," and started) or (buffer[at] in "[\ufeff" and not started)
        ):
            started = started or buffer[at] == "["
            at += 1
        if at < len(buffer) and buffer[at] == "]" and started:
            at, started = at + 1, False
            continue
        found = _scan(scan, buffer, at) if at < len(buffer) and started else None
        if found is not None and (found < len(buffer) or ended):
            number += 1
            yield number, buffer[at:found].encode("utf-8", "replace")
            at = found
            continue
        if at < len(buffer) and not started:
            yield number + 1, None  # something other than a list follows a list
            return
        more = "" if ended else _read_more(pieces, decode, len(buffer) - at)
        if not more:
            if ended or len(buffer) - at > MAX_DOCUMENT:
                if started or at < len(buffer):
                    yield number + 1, None
                return
            ended = True
            continue
        buffer, at = buffer[at:] + more, 0


def _scan(scan: Any, buffer: str, at: int) -> int | None:
    try:
        return int(scan(buffer, at)[1])
    except (ValueError, RecursionError):
        return None


def _read_more(pieces: Iterator[bytes], decode: Any, held: int) -> str:
    """At least as much again as is held, so that one huge element costs a few scans, not thousands."""
    if held > MAX_DOCUMENT:
        return ""
    got: list[str] = []
    size = 0
    for piece in pieces:
        got.append(decode(piece))
        size += len(got[-1])
        if size >= held:
            break
    return "".join(got)


def named(format_name: str | None) -> Importer | None:
    """The importer of a format the user named; None for automatic."""
    return importer(format_name) if format_name else None
