"""Calls inside calls: an SDK and the library under it both log the same request. The inner one counts.

A call below another one is no proof of that. Traces also hang a turn of a conversation under the turn before it, and then both were
asked for. The one above wraps the one below only if it was still open when the other began, and if the other's prompt does not hold
its answer already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers.base import SHAPE, SHAPE_ERRORS, Fields, SkipError, seconds

WRAPPER = "wrapper of another call (counted once)"
OPEN_TRACES = 4096
OPEN_TEXT = 64 << 20
"""Characters of prompts that wait for the rest of their traces; beyond them the oldest trace is given as it is."""
_STEPS = 64

Found = Iterator[tuple[int, Fields | SkipError]]


@dataclass(frozen=True, slots=True)
class Row:
    """A span, an observation or a run: its place in its trace, and the request that it is. `made` is None for other work."""

    trace: Any
    id: Any
    parent: Any
    begin: Any = None
    end: Any = None
    made: Fields | SkipError | None = None


Rows = Callable[[Any], Iterable[Row]]


def made(read: Callable[[], Fields]) -> Fields | SkipError:
    """What `read` gives, or why it gives nothing."""
    try:
        return read()
    except SkipError as skip:
        return skip
    except SHAPE_ERRORS:
        return SkipError(SHAPE)


def wrappers(rows: Iterable[Row]) -> set[Any]:
    """Ids of the calls of one trace that are logged by another row of it: those that wrap a usable call, or, where the one inside
    lost its answer, that one."""
    known = {_key(row.id): row for row in rows if _key(row.id) is not None}
    inner: dict[Any, list[Row]] = {}
    for row in known.values():
        if not isinstance(row.made, dict):
            continue
        above, steps = known.get(_key(row.parent)), 0
        while above is not None and above is not row and steps < _STEPS:
            if isinstance(above.made, dict) and not _follows(row, above):
                inner.setdefault(above.id, []).append(row)
            above, steps = known.get(_key(above.parent)), steps + 1
    ids = set(inner)
    for name, inside in inner.items():
        if len(inside) == 1 and _says(known[_key(name)]) > _says(inside[0]):
            ids = ids - {name} | {inside[0].id}
    return ids


def _says(row: Row) -> tuple[int, bool]:
    """How much of an answer a row holds: its calls, and whether there is text. Some loggers write `None` for no text."""
    fields = _fields(row)
    calls = (fields.get("answer") or {}).get("calls") or ()
    return len(calls), _text(fields.get("completion")) not in ("", "None")


def _key(name: Any) -> str | int | None:
    """The name of a row, if it is one: anything may stand where it should."""
    return name if isinstance(name, str | int) else None


def _follows(row: Row, above: Row) -> bool:
    """Whether a call came after the one above it, and is no part of it."""
    begin, began, ended = seconds(row.begin), seconds(above.begin), seconds(above.end)
    if begin is not None and began is not None and ended is not None:
        return begin >= ended and begin > began
    completion = _text(_fields(above).get("completion"))
    answers = (message for message in _fields(row).get("messages") or () if message.get("role") == "assistant")
    return bool(completion) and any(_text(message.get("content")) == completion for message in answers)


def _fields(row: Row) -> Fields:
    return row.made if isinstance(row.made, dict) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


@dataclass
class Nest:
    """Joins the rows of a file by their traces, whichever of them come first. `none` is said of a value without a call."""

    rows: Rows
    none: str
    _open: dict[str | int | None, list[tuple[int, int, Row]]] = field(default_factory=dict)
    _held: int = 0
    _seen: int = 0

    def add(self, number: int, value: Any) -> Found:
        """The rows of one value; gives the calls of traces that were closed to make room."""
        rows = list(self.rows(value))
        if not any(row.made is not None for row in rows):
            yield number, SkipError(self.none)
        for row in rows:
            self._seen += 1
            self._held += _weight(row)
            trace = _key(row.trace)
            self._open.setdefault(trace, []).append((number, self._seen, row))
        while self._open and (self._held > OPEN_TEXT or len(self._open) > OPEN_TRACES):
            yield from _told(self._take(next(iter(self._open))))

    def _take(self, trace: str | int | None) -> list[tuple[int, int, Row]]:
        taken = self._open.pop(trace)
        self._held -= sum(_weight(row) for _, _, row in taken)
        outer = wrappers(row for _, _, row in taken)
        return [
            (number, seen, _wrapped(row) if _key(row.id) in outer and isinstance(row.made, dict) else row)
            for number, seen, row in taken
        ]

    def end(self) -> Found:
        """All that is still open, in the order of the file."""
        left = [located for trace in list(self._open) for located in self._take(trace)]
        yield from _told(sorted(left, key=lambda located: located[1]))


def _wrapped(row: Row) -> Row:
    return Row(row.trace, row.id, row.parent, made=SkipError(WRAPPER))


def _told(rows: Iterable[tuple[int, int, Row]]) -> Found:
    for number, _, row in rows:
        if row.made is not None:
            yield number, row.made


def _weight(row: Row) -> int:
    """Characters that a row holds, and something for the row itself."""
    fields = _fields(row)
    characters = sum(
        len(str(message.get("content") or "")) for message in fields.get("messages") or () if isinstance(message, dict)
    )
    return 200 + characters + len(str(fields.get("completion") or ""))
