"""The one place that decides whether a record can be used. Nothing is guessed; what is wrong is named."""

from __future__ import annotations

import math
from typing import Any

from draftsmith.traffic.importers.base import Fields, SkipError, count, text

BACKWARDS = "clock ran backwards (kept without that time)"
UNREADABLE = "time that cannot be read (kept without it)"
"""The two reasons that do not drop a record."""
NAMES = ("id", "conversation", "model", "route", "finish_reason", "content_class")


def normalise(fields: Fields) -> str | None:
    """Check and clean the fields in place. Returns a note to count, or None. Raises SkipError if the record cannot be used."""
    if fields.get("error"):
        raise SkipError("failed request")
    for key in NAMES:
        if fields.get(key) is not None and not isinstance(fields[key], str):
            fields[key] = _name(fields[key])
    _check_messages(fields)
    _check_ids(fields, "prompt_token_ids")
    _check_ids(fields, "output_token_ids")
    usage = fields.get("usage")
    if usage is not None and not isinstance(usage, dict):
        raise SkipError("usage is not an object")
    counts = {key: count((usage or {}).get(key)) for key in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    fields["usage"] = counts
    if not isinstance(fields.get("params") or {}, dict):
        raise SkipError("parameters are not an object")
    fields["params"] = fields.get("params") or {}
    note = _check_timing(fields)
    known = fields.get("messages") or fields.get("completion") or fields.get("prompt_token_ids")
    if not known and not fields.get("output_token_ids"):
        if counts["prompt_tokens"] is None and counts["completion_tokens"] is None:
            raise SkipError("no text and no counts")
        if not (counts["prompt_tokens"] or counts["completion_tokens"]):
            raise SkipError("empty request")
    return note


def _check_messages(fields: Fields) -> None:
    messages = fields.get("messages")
    if messages is not None:
        if not isinstance(messages, list):
            raise SkipError("messages are not a list")
        for message in messages:
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise SkipError("message without a role")
            if not isinstance(message.get("content"), str | list | dict | None):
                raise SkipError("message content is not text")
    said = fields.get("completion")
    if said is not None and not isinstance(said, str):
        said = fields["completion"] = text(said)
        if said is None:
            raise SkipError("answer is not text")


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
    if start is None:
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
