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
from typing import Any, Literal

import orjson

from draftsmith.contract.wire import SAMPLING_PARAMETERS

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


@dataclass(frozen=True)
class Importer:
    """One log format. `matches` and `records` get a parsed JSON object, a CSV row as a dict, or a line of text."""

    name: str
    matches: Callable[[Any], bool]
    records: Callable[[Any], Iterator[Fields | SkipError]]
    kind: Kind = "json"
    lacks: tuple[str, ...] = ()


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
"""Stands for a start that was written but cannot be read, so that it is counted and not taken for absent."""


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
    try:
        moment = datetime.fromisoformat(_six_digits(text))
    except (ValueError, OverflowError):
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
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


def messages(value: Any) -> list[dict[str, Any]] | None:
    """A list of chat messages, from a list (also inside a string) or one prompt string; None if there are none."""
    if isinstance(value, str):
        # A prompt may begin like JSON (`[INST] ...`) or be JSON that is no list of messages.
        inside = embedded(value) if value.lstrip().startswith(("[", "{")) else value
        listed = _listed(inside) if isinstance(inside, dict | list) else None
        return listed or ([{"role": "user", "content": value}] if value and inside not in ({}, []) else None)
    return _listed(value)


def _listed(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(value, dict):
        value = value.get("messages") or value.get("prompt") or ([value] if "role" in value else None)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(item, dict) and isinstance(item.get("role"), str) for item in value):
        return None
    return value


def parameters(body: dict[str, Any]) -> dict[str, Any]:
    """The sampling parameters among the keys of a request body; nulls left out."""
    return {key: body[key] for key in SAMPLING_PARAMETERS if body.get(key) is not None}


def usage(value: Any) -> dict[str, int | None]:
    """Usage fields from an OpenAI usage object (or any with the common spellings)."""
    value = value if isinstance(value, dict) else {}
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else value.get("cached_tokens")
    return {
        "prompt_tokens": count(_first(value, "prompt_tokens", "input_tokens", "input")),
        "completion_tokens": count(_first(value, "completion_tokens", "output_tokens", "output")),
        "cached_tokens": count(cached),
    }


def _first(value: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if value.get(key) is not None:
            return value[key]
    return None


def tool_call_text(calls: Any) -> str | None:
    """Tool calls of an answer as JSON text: they are generated tokens too."""
    if not isinstance(calls, list) or not calls:
        return None
    shown = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        function = function if isinstance(function, dict) else (call if isinstance(call, dict) else {})
        arguments = function.get("arguments", function.get("args"))
        parsed = embedded(arguments)
        shown.append({"name": function.get("name"), "arguments": arguments if parsed is None else parsed})
    return orjson.dumps(shown if len(shown) > 1 else shown[0], default=str).decode()


def answer(message: Any) -> str | None:
    """What an assistant message generated: its reasoning, content and tool calls joined; None if nothing."""
    if not isinstance(message, dict):
        return None
    parts = [
        text(message.get("reasoning_content") or message.get("reasoning")),
        text(message.get("content")) or text(message.get("parts")),
        tool_call_text(message.get("tool_calls")),
    ]
    kept = [part for part in parts if part]
    return "\n".join(kept) if kept else None
