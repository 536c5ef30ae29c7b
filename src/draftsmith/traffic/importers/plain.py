"""Native access logs, and the plain shapes that people write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import finish_of
from draftsmith.traffic.importers.asking import name_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, count, duration, embedded, timing
from draftsmith.traffic.importers.bodies import both
from draftsmith.traffic.importers.conversations import every_answer
from draftsmith.traffic.importers.counts import or_else, usage_of
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.parts import messages_like, read_messages

_NATIVE_FIELDS = frozenset(
    [
        "id",
        "conversation",
        "model",
        "route",
        "messages",
        "completion",
        "answer",
        "params",
        "prompt_token_ids",
        "output_token_ids",
        "usage",
        "timing",
        "finish_reason",
        "adapter",
        "spec",
        "error",
    ]
)
UNKNOWN_TEXT = "text under a name that is not known (kept without it)"
_ANSWERS = (
    "completion",
    "response",
    "output",
    "answer",
    "chosen",
    "target",
    "reference_answer",
    "generated_text",
    "model_output",
)


def _native(row: Any) -> Iterator[Fields]:
    yield {key: row[key] for key in _NATIVE_FIELDS & row.keys()}


def _plain(row: Any) -> Iterator[Fields | SkipError]:
    """A prompt and its answer by name. A list that ends with an answer holds a request for every answer in it."""
    asked_at = row.get("messages") if row.get("messages") is not None else row.get("prompt")
    answer = next((row[key] for key in _ANSWERS if row.get(key) not in (None, "", [], {})), None)
    about = _about(row)
    if answer is None and messages_like(asked_at):
        listed = embedded(asked_at) if isinstance(asked_at, str) else asked_at
        lost = parts.Lost()
        turns = read_messages(listed, lost)
        if turns and turns[-1].role == "assistant":
            yield from every_answer(turns, about, lost)
            return
    body = {"prompt" if row.get("messages") is None else "messages": asked_at}
    system = {key: row[key] for key in ("system", "system_prompt", "instructions") if isinstance(row.get(key), str)}
    unheard = parts.Lost()
    if answer is None and any(_is_prose(value) for key, value in row.items() if key not in (*body, *system)):
        unheard[UNKNOWN_TEXT] += 1
    fields = both({**system, **body}, answer, unheard)
    yield {**fields, **_kept(about, fields)}


def _is_prose(value: Any) -> bool:
    """Whether a value is text that somebody wrote, and no name, number, address or date."""
    return isinstance(value, str) and len(value.split()) > 3


def _about(row: dict[str, Any]) -> Fields:
    """What stands beside the text."""
    written = row.get("params")
    start = row.get("start_unix_s") or row.get("timestamp") or row.get("created") or row.get("created_at")
    latency = duration(row.get("latency_s"))
    if latency is None and duration(row.get("latency_ms")) is not None:
        latency = (duration(row["latency_ms"]) or 0.0) / 1e3
    return {
        "id": name_of(row.get("id") or row.get("request_id")),
        "conversation": name_of(row.get("conversation") or row.get("conversation_id") or row.get("session_id")),
        "route": name_of(row.get("route") or row.get("tenant")),
        "model": name_of(row.get("model")),
        "adapter": name_of(row.get("adapter") or row.get("lora_name")),
        "params": {**asked(row), **(written if isinstance(written, dict) else {})},
        "usage": usage_of(row.get("usage") if isinstance(row.get("usage"), dict) else _counts(row)),
        "finish_reason": finish_of(row.get("finish_reason")),
        "timing": timing(start, latency_s=latency),
        **{key: row[key] for key in ("prompt_token_ids", "output_token_ids") if isinstance(row.get(key), list)},
    }


def _counts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("input", "output", "prompt", "response")}


def _kept(about: Fields, fields: Fields) -> Fields:
    """What stands beside the text, and what stands in the answer where that is missing."""
    made = {key: value if value is not None else fields.get(key) for key, value in about.items()}
    return {
        **made,
        "usage": or_else(about["usage"], fields.get("usage") or {}),
        "params": {**fields.get("params", {}), **about["params"]},
    }


def _alpaca(row: Any) -> Iterator[Fields]:
    asked_ = "\n\n".join(
        part for part in (row["instruction"], row.get("input") or row.get("context")) if isinstance(part, str) and part
    )
    answer = row.get("output", row.get("response"))
    system = row.get("system")
    yield {
        **both({"system": system if isinstance(system, str) else "", "prompt": asked_}, answer, parts.Lost()),
        "id": name_of(row.get("id")),
    }


def _question(row: Any) -> Iterator[Fields]:
    question = row.get("question", row.get("query"))
    yield {**both({"prompt": question}, row.get("answer", row.get("response")), parts.Lost()), **_about(row)}


def _precounted(row: Any) -> Iterator[Fields]:
    yield {
        "id": name_of(row.get("id") or row.get("request_id")),
        "route": name_of(row.get("route") or row.get("tenant")),
        "model": name_of(row.get("model")),
        "adapter": name_of(row.get("adapter")),
        "content_class": name_of(row.get("content_class")),
        "usage": {
            "prompt_tokens": count(row.get("prompt_tokens", row.get("input_tokens"))),
            "completion_tokens": count(row.get("completion_tokens", row.get("output_tokens"))),
            "cached_tokens": count(row.get("cached_tokens")),
        },
        "params": asked({key: value for key, value in row.items() if key not in ("model_parameters", "config")}),
        "timing": timing(row.get("start_unix_s") or row.get("timestamp"), latency_s=row.get("latency_s")),
    }


_TEXTUAL = frozenset({"messages", "content", "text", "prompt", "choices", "output", "input", "response", "request"})


def _is_precounted(row: Any) -> bool:
    """Counts and nothing else: a row that holds text as well is another format's."""
    counts = ("prompt_tokens" in row and "completion_tokens" in row) or (
        "input_tokens" in row and "output_tokens" in row
    )
    return (
        counts
        and not any(isinstance(value, dict | list) and len(str(value)) > 200 for value in row.values())
        and not any(
            messages_like(value) or (isinstance(value, dict) and _TEXTUAL & value.keys()) for value in row.values()
        )
        and not any(
            isinstance(value, str) and (len(value) > 200 or (value[:1] in "{[" and len(value) > 2))
            for value in row.values()
        )
    )


NATIVE = Importer(
    "native",
    lambda row: row.get("schema") == "draftsmith_access_v1",
    _native,
    what="the log that `replay` and the capture middleware write",
    marks=("schema", "messages", "completion", "prompt_token_ids", "output_token_ids", "usage", "timing"),
)


PLAIN = Importer(
    "plain",
    lambda row: isinstance(row.get("messages") or row.get("prompt"), list | str),
    _plain,
    lacks=("arrivals", "latency"),
    what="`{messages, completion}`, `{prompt, response}`, or messages alone: a request for every answer in them",
    marks=("messages", "prompt", "completion", "response"),
)


ALPACA = Importer(
    "alpaca",
    lambda row: isinstance(row.get("instruction"), str) and ("output" in row or "response" in row),
    _alpaca,
    lacks=("arrivals", "latency", "parameters"),
    what="`{instruction, input, output}`",
    marks=("instruction", "input", "output"),
)


QUESTION = Importer(
    "question-answer",
    lambda row: (
        isinstance(row.get("question", row.get("query")), str)
        and isinstance(row.get("answer", row.get("response")), str | list)
    ),
    _question,
    lacks=("arrivals", "latency", "parameters"),
    what="`{question, answer}`",
    marks=("question", "answer"),
)


PRECOUNTED = Importer(
    "precounted",
    _is_precounted,
    _precounted,
    lacks=("text",),
    what="`{prompt_tokens, completion_tokens, content_class}`",
    marks=("prompt_tokens", "completion_tokens", "content_class"),
)
