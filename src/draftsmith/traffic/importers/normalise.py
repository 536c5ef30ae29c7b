"""The one place that decides whether a record can be used. Nothing is guessed; what is wrong is named."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.base import Fields, SkipError, count, said_of
from draftsmith.traffic.importers.parameters import checked
from draftsmith.traffic.messages import MEDIA_KINDS, media_in

BACKWARDS = "clock ran backwards (kept without that time)"
UNREADABLE = "time that cannot be read (kept without it)"
"""Of times: they cost the time, not the record."""
LATEST = 253_402_300_800.0
"""The end of the year 9999. Later starts, and those before 1970, are no moments of a log. Traces count from zero."""
WITHOUT = "message without content (kept as an empty one)"
NAMES = ("id", "conversation", "model", "route", "finish_reason", "content_class", "adapter")


def normalise(fields: Fields) -> tuple[str, ...]:
    """Check and clean the fields in place, so that the request could be posted to an engine, unless `media` says what else is in it.

    Returns what was lost of a record that is kept, to be counted. Raises SkipError if the record cannot be used.
    """
    notes: list[str] = fields.pop("lost", None) or []
    if fields.get("error"):
        raise SkipError("failed request")
    for key in NAMES:
        if fields.get(key) is not None and not isinstance(fields[key], str):
            fields[key] = _name(fields[key])
    _check_messages(fields, notes)
    _check_ids(fields, "prompt_token_ids")
    _check_ids(fields, "output_token_ids")
    usage = fields.get("usage")
    if usage is not None and not isinstance(usage, dict):
        raise SkipError("usage is not an object")
    counts = {key: count((usage or {}).get(key)) for key in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    fields["usage"] = counts
    params = fields.get("params") or {}
    if not isinstance(params, dict):
        raise SkipError("parameters are not an object")
    fields["params"] = checked(params, notes) if params else {}
    note = _check_timing(fields)
    if note:
        notes.append(note)
    known = fields.get("messages") or fields.get("completion") or fields.get("prompt_token_ids")
    if not known and not fields.get("output_token_ids"):
        if counts["prompt_tokens"] is None and counts["completion_tokens"] is None:
            raise SkipError("no text and no counts")
        if not (counts["prompt_tokens"] or counts["completion_tokens"]):
            raise SkipError("empty request")
    return tuple(notes)


def _check_messages(fields: Fields, notes: list[str]) -> None:
    messages = fields.get("messages")
    if messages is not None:
        if not isinstance(messages, list):
            raise SkipError("messages are not a list")
        media: Counter[str] = Counter()
        for at, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not message["role"]:
                raise SkipError("message without a role")
            if type(message.get("content")) is not str:
                messages[at] = _message(message, notes)
                media += media_in(messages[at]["content"])
        fields["media"] = dict(media) or None
    completion = fields.get("completion")
    if completion is not None and not isinstance(completion, str):
        completion = fields["completion"] = said_of(completion) or None
        if completion is None:
            raise SkipError("answer is not text")


_TEXT_PARTS = ("text", "input_text", "output_text")


def _message(message: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """A message whose content is no plain text, as an engine takes it."""
    content = message.get("content")
    if isinstance(content, list):
        if content and all(map(_settled, content)):
            return message
    elif content is None:
        if not any(
            message.get(key) for key in ("tool_calls", "function_call", "reasoning_content", "reasoning", "refusal")
        ):
            notes.append(WITHOUT)
        return {**message, "content": ""}
    elif not isinstance(content, dict):
        raise SkipError("message content is not text")
    lost = parts.Lost()
    made = parts.read_message(message, lost)
    notes += [name for name, times in lost.items() if times]
    if len(made) != 1:
        raise SkipError("message of several speakers")
    return {**{key: value for key, value in message.items() if key != "content"}, **made[0].wire()}


def _settled(part: Any) -> bool:
    """Whether a part stands as `Message.wire` writes it."""
    if not isinstance(part, dict):
        return False
    return (part.get("type") == "text" and isinstance(part.get("text"), str)) or (
        len(part) == 1 and part.get("type") in MEDIA_KINDS
    )


def _check_ids(fields: Fields, key: str) -> None:
    ids = fields.get(key)
    if ids is None:
        return
    if not isinstance(ids, list):
        raise SkipError("token ids are not a list")
    if ids and (set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) >= 1 << 31):
        raise SkipError("token ids are not whole numbers")
    if not ids:
        fields[key] = None


def _check_timing(fields: Fields) -> str | None:
    raw = fields.get("timing")
    if not isinstance(raw, dict):
        fields["timing"] = None
        return None
    start, latency, first = (_number(raw.get(key)) for key in ("start_unix_s", "latency_s", "ttft_s"))
    if start is None or not 0 <= start < LATEST:
        fields["timing"] = None
        return UNREADABLE if raw.get("start_unix_s") is not None else None
    note = None
    if latency is not None and latency < 0:
        latency, note = None, BACKWARDS
    latest = math.inf if latency is None else latency * 1.001 + 1e-3
    if first is not None and not 0 <= first <= latest:
        first, note = None, BACKWARDS
    fields["timing"] = {"start_unix_s": start, "latency_s": latency, "ttft_s": first}
    return note


def _name(value: Any) -> str | None:
    """Numbers name things in some logs; anything else is no name."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
