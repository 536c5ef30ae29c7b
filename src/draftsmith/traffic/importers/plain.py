"""Native access logs and the plain shapes that people write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    answer,
    count,
    messages,
    parameters,
    text,
    timing,
    usage,
)

_NATIVE_FIELDS = frozenset(
    [
        "id",
        "conversation",
        "model",
        "route",
        "messages",
        "completion",
        "params",
        "prompt_token_ids",
        "output_token_ids",
        "usage",
        "timing",
        "finish_reason",
        "spec",
        "error",
    ]
)


def _native(row: Any) -> Iterator[Fields]:
    yield {key: row[key] for key in _NATIVE_FIELDS & row.keys()}


def _plain(row: Any) -> Iterator[Fields]:
    said = _answer(row)
    fields: Fields = {
        "id": _string(row.get("id") or row.get("request_id")),
        "conversation": _string(row.get("conversation") or row.get("conversation_id") or row.get("session_id")),
        "route": _string(row.get("route") or row.get("tenant")),
        "model": _string(row.get("model")),
        "messages": messages(row.get("messages") if row.get("messages") is not None else row.get("prompt")),
        "completion": said,
        "params": {**parameters(row), **(row["params"] if isinstance(row.get("params"), dict) else {})},
        "usage": usage(row.get("usage") or row),
        "finish_reason": _string(row.get("finish_reason")),
    }
    if said is None and fields["messages"] and fields["messages"][-1].get("role") == "assistant":
        # Fine-tuning files keep the answer as the last message.
        fields["completion"] = answer(fields["messages"][-1])
        fields["messages"] = fields["messages"][:-1] or None
    start = row.get("start_unix_s") or row.get("timestamp") or row.get("created") or row.get("created_at")
    fields["timing"] = timing(start, latency_s=row.get("latency_s"))
    yield fields


def _answer(row: Any) -> str | None:
    for key in ("completion", "response", "output", "answer"):
        value = row.get(key)
        said = text(value) or answer(value)
        if said:
            return said
    return None


_SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant"}
_SPEAKERS |= {"bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool", "function": "tool"}


def _sharegpt(row: Any) -> Iterator[Fields]:
    """One request for every assistant turn, as the server saw them: earlier turns are its prompt."""
    turns: list[dict[str, Any]] = []
    name, made = _string(row.get("id")), 0
    for turn in row["conversations"]:
        if not isinstance(turn, dict):
            raise SkipError("conversation turn is not an object")
        role = _SPEAKERS.get(str(turn.get("from") or turn.get("role") or "").lower())
        said = text(turn.get("value") if turn.get("value") is not None else turn.get("content"))
        if role is None or said is None:
            raise SkipError("conversation turn without speaker or text")
        if role == "assistant" and turns:
            identity = f"{name}/{made}" if name else None
            yield {"id": identity, "conversation": name, "messages": list(turns), "completion": said}
            made += 1
        turns.append({"role": role, "content": said})
    if not made:
        raise SkipError("conversation without an answer")


def _precounted(row: Any) -> Iterator[Fields]:
    yield {
        "id": _string(row.get("id") or row.get("request_id")),
        "route": _string(row.get("route") or row.get("tenant")),
        "model": _string(row.get("model")),
        "content_class": _string(row.get("content_class")),
        "usage": {
            "prompt_tokens": count(row.get("prompt_tokens")),
            "completion_tokens": count(row.get("completion_tokens")),
            "cached_tokens": count(row.get("cached_tokens")),
        },
        "params": parameters(row),
        "timing": timing(row.get("start_unix_s") or row.get("timestamp"), latency_s=row.get("latency_s")),
    }


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


NATIVE = Importer("native", lambda row: row.get("schema") == "draftsmith_access_v1", _native)
PLAIN = Importer(
    "plain",
    lambda row: isinstance(row.get("messages") or row.get("prompt"), list | str),
    _plain,
    lacks=("arrivals", "latency"),
)
SHAREGPT = Importer(
    "sharegpt",
    lambda row: isinstance(row.get("conversations"), list),
    _sharegpt,
    lacks=("arrivals", "latency", "parameters"),
)
PRECOUNTED = Importer(
    "precounted", lambda row: "prompt_tokens" in row and "completion_tokens" in row, _precounted, lacks=("text",)
)
