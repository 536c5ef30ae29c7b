"""What every importer shares: the seam, the skip, and careful readers for values that logs get wrong.

An importer is three things: a name, `matches` (is this parsed value mine?) and `records` (its requests, as plain
dictionaries with the field names of AccessRecord). It performs no I/O and keeps no state, so that a line can be read in any
order, in any process. It raises `SkipError` with a reason when the value is its own but cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import orjson

Fields = dict[str, Any]
"""AccessRecord fields as plain values, and three more: `prefix_blocks` (prefix hashes where only those are logged), `pair_key`
(joins batch prompts and answers) and, where rejected values are written aside, `raw` (the bytes of the value)."""

Kind = Literal["json", "csv", "text"]
SHAPE = "unexpected shape"
# The importers trust the shape they matched; a value that breaks that trust is the file's fault.
SHAPE_ERRORS = (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError)


class SkipError(Exception):
    """A value that cannot be used. `reason` is short, closed in vocabulary and holds no text of the value.

    Raised, it stands for the whole value. An importer whose values hold many requests yields it for one of them instead.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Session(Protocol):
    """Joins the values of a file that hang together: chunks of a stream, lines of a request, turns of a conversation."""

    def add(self, number: int, value: Any) -> Iterator[tuple[int, Fields | SkipError]]:
        """Take in the value of line `number`; gives the requests that are complete, with their lines."""
        ...

    def end(self) -> Iterator[tuple[int, Fields | SkipError]]:
        """What is not complete at the end of the file."""
        ...


def _no_records(value: Any) -> Iterator[Fields | SkipError]:
    raise SkipError("one value alone is no request here")
    yield  # pragma: no cover


@dataclass(frozen=True)
class Importer:
    """One log format. `matches` and `records` get a parsed JSON object, a CSV row as a dict, or a line of text.

    A format whose values hang together has a `session` instead of `records`: one for each file. `what` and `lacks` are for the
    table of formats; `marks` are names of fields by which an unknown record is found to be near this format.
    """

    name: str
    matches: Callable[[Any], bool]
    records: Callable[[Any], Iterator[Fields | SkipError]] = _no_records
    kind: Kind = "json"
    lacks: tuple[str, ...] = ()
    what: str = ""
    marks: tuple[str, ...] = ()
    session: Callable[[], Session] | None = None


def each(rows: Iterable[Any], read: Callable[[Any], Fields]) -> Iterator[Fields | SkipError]:
    """`read` of every row of one value. A row that cannot be used gives its reason, and does not cost the others."""
    for row in rows:
        try:
            yield read(row)
        except SkipError as skip:
            yield skip
        except SHAPE_ERRORS:
            yield SkipError(SHAPE)


def count(value: Any) -> int | None:
    """A token count. None stays None; numbers in strings are read; negative or fractional ones raise SkipError."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    if isinstance(value, int):
        number = value
    else:
        try:
            as_float = float(value)
        except (TypeError, ValueError):
            raise SkipError("token count is not a number") from None
        if not math.isfinite(as_float) or as_float != int(as_float):
            raise SkipError("token count is not a whole number")
        number = int(as_float)
    if number < 0:
        raise SkipError("negative token count")
    if number > 1 << 31:
        raise SkipError("token count out of range")
    return number


NO_MOMENT = "no moment"
"""Stands for a start that was written but cannot be read, so that it is counted and not treated as absent."""


def seconds(value: Any) -> float | None:
    """A moment as seconds since the epoch, from ISO text, [s, ns] pairs, or numbers in s, ms, us or ns; else None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(part, int | float) for part in value):
            return _finite(value[0] + value[1] * 1e-9)
        return None
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, int | float):
        return _scaled(float(value))
    return None


def _from_text(text: str) -> float | None:
    text = text.strip()
    if not text:
        return None
    try:
        return _scaled(float(text))
    except ValueError:
        pass
    moment = _moment(text)
    if moment is None:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


_WRITTEN = (
    "%a %b %d %Y %H:%M:%S GMT%z",  # JavaScript
    "%a, %d %b %Y %H:%M:%S %Z",  # HTTP
    "%d/%b/%Y:%H:%M:%S %z",  # web servers
    "%m/%d/%Y, %I:%M:%S.%f %p",  # Azure's portal, in UTC
    "%m/%d/%Y, %I:%M:%S %p",
    "%Y/%m/%d %H:%M:%S",
)


def _moment(text: str) -> datetime | None:
    """A moment in ISO 8601, or as one of the usual programs writes it."""
    try:
        plain = text.removesuffix(" UTC").replace(" +", "+")  # ClickHouse, BigQuery, Go
        return datetime.fromisoformat(_six_digits(plain))
    except (ValueError, OverflowError):
        pass
    for form in _WRITTEN:
        try:
            return datetime.strptime(text.partition(" (")[0], form)
        except (ValueError, OverflowError):
            continue
    return None


def _six_digits(text: str) -> str:
    """Cut fractions of a second to microseconds: traces carry 100 ns ticks, which datetime refuses."""
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = 0
    while digits < len(tail) and tail[digits].isdigit():
        digits += 1
    return f"{head}.{tail[: min(digits, 6)]}{tail[digits:]}"


def _scaled(number: float) -> float | None:
    """Epoch numbers by magnitude: 1e9 is seconds in 2001, so 1e11 and more cannot be seconds of this century."""
    for limit, divisor in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if abs(number) >= limit:
            return _finite(number / divisor)
    return _finite(number)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def timing(start: Any, *, end: Any = None, first: Any = None, latency_s: Any = None) -> dict[str, Any] | None:
    """Timing fields from moments; None without a start. `normalise` judges clocks that run backwards or say nothing."""
    begin = seconds(start)
    if begin is None:
        return None if start is None or start == "" else {"start_unix_s": NO_MOMENT}
    stop, token = seconds(end), seconds(first)
    latency = duration(latency_s) if latency_s is not None else (stop - begin if stop is not None else None)
    return {"start_unix_s": begin, "latency_s": latency, "ttft_s": token - begin if token is not None else None}


def duration(value: Any) -> float | None:
    """Seconds as a finite float, else None."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return _finite(float(value))
    except (TypeError, ValueError):
        return None


def text(value: Any) -> str | None:
    """The text of a message content: a string, or the text parts of a list; None if there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part for part in map(_part_text, value) if part is not None]
        return "\n".join(parts) if parts else None
    if isinstance(value, dict):
        return _part_text(value)
    return None


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    for key in ("text", "content", "value"):
        if isinstance(part.get(key), str):
            return str(part[key])
    return None


def said_of(value: Any) -> str:
    """All text inside a value of parts, a line each; empty if there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(said_of, value)))
    if isinstance(value, dict):
        for key in ("text", "content", "value", "thinking", "reasoning", "reasoningText", "summary", "code", "output"):
            if isinstance(value.get(key), str | list | dict):
                return said_of(value[key])
    return ""


def embedded(value: Any) -> Any:
    """Parse JSON that a log carries inside a string; other values come back as they are, unparsable text as None."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object (also inside a string), else an empty one."""
    value = embedded(value)
    return value if isinstance(value, dict) else {}
