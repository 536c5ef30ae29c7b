"""From blocks of bytes to records: which shape a file has, one value at a time, every failure counted.

Shapes: `lines` (one JSON value a line, or server-sent events), `array` (one JSON list, read element by element), `document` (one
indented JSON value), `csv`, `text`. Formats are found value by value, so a file may mix them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from draftsmith.traffic.importers.base import SHAPE, SHAPE_ERRORS, Fields, Importer, Session, SkipError
from draftsmith.traffic.importers.catalog import find, importer
from draftsmith.traffic.importers.normalise import normalise
from draftsmith.traffic.importers.tables import Table, looks_like_table
from draftsmith.traffic.importers.unknown import field_names
from draftsmith.traffic.importers.wrappers import unwrapped

MAX_DOCUMENT = 256 << 20
MAX_WAITING = 16 << 20
"""Bytes of lines that are kept beside what sessions hold of them."""
_ENTRY = 200
NO_JSON = "neither JSON nor a log line that is known"
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

    `counts` is format -> records. Values that hang together (chunks, lines of one request, turns) are joined by the sessions of their
    formats, which is why a reader is kept for the whole file. With `keep_raw` the bytes of a value go along as the field `raw`.
    `strange` are the names of the fields of the first value that nobody knew.
    """

    shape: str
    wanted: Importer | None = None
    counts: dict[str, int] = field(default_factory=dict)
    keep_raw: bool = False
    strange: tuple[str, ...] = ()
    _table: Table = field(default_factory=Table)
    _sessions: dict[Any, tuple[Importer, Session]] = field(default_factory=dict)
    _waiting: dict[int, tuple[Importer, bytes]] = field(default_factory=dict)
    _waiting_size: int = 0

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
        if isinstance(value, dict):
            yield from self._convert(number, raw, value, "json")
        else:
            yield number, Rejected("JSON value is not an object", raw)

    def end(self) -> Iterator[tuple[int, Fields | Rejected]]:
        """What is still pending at the end of the file."""
        for number, row in self._table.end():
            yield from self._row(number, row)
        for joiner, session in self._sessions.values():
            for number, fields in session.end():
                yield from self._finish(*self._line(number, joiner), fields)
        self._sessions, self._waiting = {}, {}

    def _json(self, number: int, raw: bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        if raw[:1] in b"deir:" and (event := _event(raw)) is not None:
            raw = event
            if not raw:
                return
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
        for number, row in self._table.add(first_line, data):
            yield from self._row(number, row)

    def _row(self, number: int, row: dict[str, Any] | bytes) -> Iterator[tuple[int, Fields | Rejected]]:
        if isinstance(row, bytes):
            yield number, Rejected("row does not fit the header", row)
            return
        raw = orjson.dumps(row, default=str) if self.keep_raw else b""
        known = self._which(row, "csv") is not None
        yield from self._convert(number, raw, row if known else Table.typed(row), "csv" if known else "json")

    def _convert(
        self, number: int, raw: bytes, value: Any, kind: str, depth: int = 0
    ) -> Iterator[tuple[int, Fields | Rejected]]:
        importer = self._which(value, kind)
        inside = unwrapped(value, importer) if kind == "json" and depth < 3 else None
        if inside is not None:
            for row in inside:
                yield from self._convert(number, raw, row, kind, depth + 1)
            return
        if importer is None and kind == "json" and (line := _line_inside(value)) is not None:
            yield from self._convert(number, raw, line, "text", depth)
            return
        if importer is None:
            if kind == "text":
                yield number, Rejected("log line without a request", raw)
                return
            self.strange = self.strange or field_names(value)
            yield number, Rejected("unknown format", raw)
            return
        if importer.session is not None:
            if importer.session not in self._sessions:
                self._sessions[importer.session] = (importer, importer.session())
            self._remember(number, importer, raw)
            yield from self._joined(importer, self._sessions[importer.session][1], number, value)
            return
        rows_read = importer.records(value)
        while True:
            try:
                fields = next(rows_read, None)
            except SkipError as skip:
                fields = skip
            except SHAPE_ERRORS:
                fields = SkipError(SHAPE)
            if fields is None:
                return
            yield from self._finish(number, importer, raw, fields)

    def _joined(
        self, importer: Importer, session: Session, number: int, value: Any
    ) -> Iterator[tuple[int, Fields | Rejected]]:
        joined = session.add(number, value)
        while True:
            try:
                item = next(joined, None)
            except SkipError as skip:
                item = number, skip
            except SHAPE_ERRORS:
                item = number, SkipError(SHAPE)
            if item is None:
                return
            yield from self._finish(*self._line(item[0], importer), item[1])

    def _remember(self, number: int, importer: Importer, raw: bytes) -> None:
        """Keep a line beside what a session holds of it, as long as it is young: its format and bytes go with its request."""
        if number not in self._waiting:
            self._waiting[number] = (importer, raw)
            self._waiting_size += len(raw) + _ENTRY
        while self._waiting_size > MAX_WAITING and len(self._waiting) > 1:
            _, old = self._waiting.pop(next(iter(self._waiting)))
            self._waiting_size -= len(old) + _ENTRY

    def _line(self, number: int, importer: Importer) -> tuple[int, Importer, bytes]:
        known, raw = self._waiting.get(number, (importer, b""))
        return number, known, raw

    def _finish(
        self, number: int, importer: Importer, raw: bytes, fields: Fields | SkipError
    ) -> Iterator[tuple[int, Fields | Rejected]]:
        """One request, checked: a record with notes on what it lost, or a rejection."""
        try:
            if isinstance(fields, SkipError):
                raise fields  # one request among several: the next ones are still read
            notes = normalise(fields)
        except SkipError as skip:
            yield number, Rejected(skip.reason, raw)
            return
        except SHAPE_ERRORS:
            yield number, Rejected(SHAPE, raw)
            return
        self.counts[importer.name] = self.counts.get(importer.name, 0) + 1
        for note in notes:
            yield number, Rejected(note, raw, kept=True)
        if self.keep_raw:
            fields["raw"] = raw
        yield number, fields

    def _which(self, value: Any, kind: str) -> Importer | None:
        if self.wanted is None:
            return find(kind, value)
        return self.wanted if self.wanted.kind == kind or (self.wanted.name == "map" and kind != "text") else None


def _event(raw: bytes) -> bytes | None:
    """The payload of a line of server-sent events (empty if it has none); None if it is no such line."""
    if raw.startswith(b"data:"):
        payload = raw[5:].strip()
        return b"" if payload == b"[DONE]" else payload
    return b"" if raw.startswith((b"event:", b"id:", b"retry:", b":")) else None


def _line_inside(value: dict[str, Any]) -> str | None:
    """The line of an engine's log that a collector (Docker, Loki, CloudWatch, journald) wrapped in an object."""
    for key in ("log", "message", "msg", "line", "textPayload", "MESSAGE"):
        line = value.get(key)
        if isinstance(line, str) and find("text", line.rstrip("\r\n")):
            return line.rstrip("\r\n")
    return None


def _why_broken(raw: bytes) -> str:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    if b"\0" in raw:
        return "not UTF-8"  # UTF-16 and its kin, of which every other byte may be no letter
    return "broken JSON" if raw.lstrip()[:1] in (b"{", b"[", b'"') else NO_JSON


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
    if any(find("text", line) for line in lines):
        return "text"
    return "csv" if lines and looks_like_table(lines[0]) else "lines"


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
        place = _scan(scan, buffer, at) if at < len(buffer) and started else None
        if place is not None and (place < len(buffer) or ended):
            number += 1
            yield number, buffer[at:place].encode("utf-8", "replace")
            at = place
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
