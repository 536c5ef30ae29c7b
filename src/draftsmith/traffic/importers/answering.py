"""What was answered: response bodies of any API, streamed or not, wherever a log puts them.

`answer_of` takes what a log kept and looks at its structure alone. Errors raise SkipError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers.asking import name_of
from draftsmith.traffic.importers.base import SkipError, embedded
from draftsmith.traffic.importers.counts import NONE, or_else, usage_of
from draftsmith.traffic.importers.folding import events, fold, is_chunk, looks_streamed
from draftsmith.traffic.importers.parts import Lost, messages_like, read_messages
from draftsmith.traffic.messages import Message, Part, merged, role_of

FURTHER_CHOICES = "further choices of one request (kept the first)"
EARLIER_TURNS = "turns before the last answer (kept as they stand in the prompt)"
FAILED = "failed request"

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "complete": "stop",
    "completed": "stop",
    "finish": "stop",
    "endturn": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "maxtokens": "length",
    "tool_use": "tool_calls",
    "tooluse": "tool_calls",
    "tool-calls": "tool_calls",
    "tool_call": "tool_calls",
    "content-filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
"""Names of other APIs for why an answer ended, in lower case."""


@dataclass
class Said:
    """What an answer body holds. `message` is None where it holds no text."""

    message: Message | None = None
    finish: str | None = None
    usage: dict[str, int | None] = field(default_factory=lambda: dict(NONE))
    ids: list[int] | None = None
    prompt_ids: list[int] | None = None
    model: str | None = None
    id: str | None = None
    created: Any = None
    choices: int = 1
    latency_s: float | None = None


def answer_of(value: Any, lost: Lost, depth: int = 0) -> Said:
    """What was answered. Raises SkipError if the answer is an error."""
    if isinstance(value, str):
        return _written(value, lost, depth)
    if isinstance(value, list):
        return _several(value, lost, depth)
    if not isinstance(value, dict):
        return Said()
    return _response(value, lost, depth)


def _written(value: str, lost: Lost, depth: int) -> Said:
    if looks_streamed(value):
        return answer_of(fold(events(value)), lost, depth + 1)
    head = value.lstrip()[:1]
    if head in ("[", "{") and depth < 4:
        inside = embedded(value)
        if isinstance(inside, dict) and _is_body(inside):
            return answer_of(inside, lost, depth + 1)
        if isinstance(inside, list) and (
            messages_like(inside) or _is_choices(inside) or any(map(is_chunk, inside[:1]))
        ):
            return answer_of(inside, lost, depth + 1)
        if inside is None and head == "{" and "\n{" in value and '"done"' in value[:2000]:
            return answer_of(fold(events(value)), lost, depth + 1)  # Ollama streams JSON lines
    return Said(Message("assistant", (Part("text", value),)) if value else None)


def _is_choices(value: list[Any]) -> bool:
    return (
        bool(value)
        and isinstance(value[0], dict)
        and (isinstance(value[0].get("message"), dict) or ("finish_reason" in value[0] and "text" in value[0]))
    )


def _several(value: list[Any], lost: Lost, depth: int) -> Said:
    if not value:
        return Said()
    if any(map(is_chunk, value[:2])) or (
        len(value) > 1 and all(isinstance(item, dict) and "candidates" in item for item in value)
    ):
        return answer_of(fold(value), lost, depth + 1)
    if _is_choices(value):
        return _response({"choices": value}, lost, depth)
    if all(isinstance(item, str) for item in value):
        lost[FURTHER_CHOICES] += len(value) > 1
        return Said(Message("assistant", (Part("text", value[0]),)), choices=len(value))
    if messages_like(value):
        return Said(_last_answer(read_messages(value, lost), lost), finish=_finish(value[-1]))
    if isinstance(value[0], list) or (isinstance(value[0], dict) and is_answer(value[0])):
        lost[FURTHER_CHOICES] += len(value) > 1
        return answer_of(value[0], lost, depth + 1)
    return Said(merged(read_messages({"role": "assistant", "content": value}, lost)))


def _finish(item: Any) -> str | None:
    value = item.get("finish_reason") if isinstance(item, dict) else None
    return finish_of(value)


def _last_answer(messages: list[Message], lost: Lost) -> Message | None:
    """The answer at the end of a list that may repeat the conversation."""
    at = len(messages)
    while at and messages[at - 1].role == "assistant":
        at -= 1
    if at == len(messages) and messages:
        spoke = [place for place, message in enumerate(messages) if message.role == "assistant"]
        if not spoke:
            # An answer under another speaker's name.
            return merged(messages) if len(messages) == 1 else None
        lost[EARLIER_TURNS] += 1
        return messages[spoke[-1]]
    lost[EARLIER_TURNS] += at > 0
    return merged(messages[at:])


def _is_body(value: dict[str, Any]) -> bool:
    """Whether JSON inside a text is an answer body, and not what a model wrote: models write much JSON."""
    first = next(
        (value[key][0] for key in ("choices", "candidates") if isinstance(value.get(key), list) and value[key]), None
    )
    if isinstance(first, dict):
        return bool({"message", "delta", "content", "finish_reason"} & first.keys())
    if value.get("object") in ("chat.completion", "text_completion", "response") or "lc" in value:
        return True
    if role_of(value.get("role")) == "assistant":
        return bool({"content", "parts", "tool_calls", "function_call", "additional_kwargs"} & value.keys())
    listed = next((value[key] for key in ("messages", "output") if messages_like(value.get(key))), None)
    if listed is not None or isinstance(value.get("generations"), list):
        return True
    if isinstance(value.get("error"), dict) and "message" in value["error"]:
        return True
    counted = any(isinstance(value.get(key), dict) for key in ("usage", "meta_info", "usageMetadata", "token_usage"))
    if isinstance(value.get("output"), dict) and isinstance(value["output"].get("message"), dict):
        return True
    return (counted and is_answer({**value, "messages": None})) or (
        counted and any(isinstance(value.get(key), str) for key in _TEXTS)
    )


def is_answer(value: dict[str, Any]) -> bool:
    """Whether an object looks like the body of an answer."""
    if any(isinstance(value.get(key), list) for key in ("choices", "candidates", "generations", "outputs", "results")):
        return True
    if isinstance(value.get("output"), list) and (value.get("object") == "response" or messages_like(value["output"])):
        return True
    if isinstance(value.get("message"), dict) and ("role" in value["message"] or "content" in value["message"]):
        return True
    if isinstance(value.get("output"), dict) and isinstance(value["output"].get("message"), dict):
        return True
    if isinstance(value.get("messages"), list) and messages_like(value["messages"]):
        return True
    if isinstance(value.get("role"), str) and ({"content", "parts", "tool_calls", "function_call"} & value.keys()):
        return True
    if isinstance(value.get("tool_calls"), list) and value["tool_calls"]:
        return True
    if "lc" in value and isinstance(value.get("kwargs"), dict):
        return True
    return any(isinstance(value.get(key), str) for key in ("generated_text", "output_text", "generation", "completion"))


_TEXTS = ("generated_text", "output_text", "generation", "completion", "response", "outputText", "text", "answer", "content", "output",
          "result", "value")  # fmt: skip


def _response(body: dict[str, Any], lost: Lost, depth: int) -> Said:
    if body.get("error"):
        raise SkipError(FAILED)
    if depth < 4:
        for key in ("body", "response_body", "response", "message", "result", "data"):
            inner = (
                embedded(body[key]) if isinstance(body.get(key), str) and str(body[key])[:1] in "{[" else body.get(key)
            )
            wraps = isinstance(inner, dict) and (is_answer(inner) or inner.get("error"))
            if wraps and not {"choices", "candidates", "role"} & body.keys():
                answer = answer_of(inner, lost, depth + 1)
                answer.usage = or_else(answer.usage, _usage(body))
                answer.finish = answer.finish or _stop(body)
                answer.model = answer.model or name_of(body.get("model"))
                answer.latency_s = answer.latency_s if answer.latency_s is not None else _took(body)
                return answer
    answer = Said(
        usage=_usage(body),
        model=name_of(body.get("model") or body.get("modelVersion")),
        id=name_of(body.get("id") or body.get("responseId")),
    )
    answer.created = body.get("created") if body.get("created") is not None else body.get("created_at")
    answer.prompt_ids, answer.ids = (
        _ids(body.get("prompt_token_ids")),
        _ids(body.get("token_ids")) or _ids(body.get("output_ids")),
    )
    answer.finish, answer.latency_s = _stop(body), _took(body)
    choices = next(
        (
            body[key]
            for key in ("choices", "candidates", "generations", "outputs", "results")
            if isinstance(body.get(key), list)
        ),
        None,
    )
    if choices is not None:
        _choices(answer, choices, lost, depth)
    elif isinstance(body.get("output"), list):
        answer.message = (
            _last_answer(read_messages(body["output"], lost), lost) if messages_like(body["output"]) else None
        )
        if answer.message is None and body["output"]:
            answer.message = answer_of(body["output"], lost, depth + 1).message
    elif isinstance(body.get("output"), dict) and depth < 4:
        inner = answer_of(body["output"], lost, depth + 1)
        answer.message, answer.finish = inner.message, answer.finish or inner.finish
        answer.usage = or_else(answer.usage, inner.usage)
    elif isinstance(body.get("messages"), list):
        answer.message = _last_answer(read_messages(body["messages"], lost), lost)
    else:
        answer.message = _one(body, lost)
    return answer


def _one(body: dict[str, Any], lost: Lost) -> Message | None:
    if "role" in body or "tool_calls" in body or "lc" in body or messages_like([body]):
        made = merged(
            read_messages(
                {"role": "assistant", **body}
                if "role" not in body and "lc" not in body and "type" not in body
                else body,
                lost,
            )
        )
        return None if made.empty else made
    for key in _TEXTS:
        value = body.get(key)
        if isinstance(value, str | list) and value:
            reasoning = next(
                (
                    body[name]
                    for name in ("reasoning", "reasoning_content", "thinking")
                    if isinstance(body.get(name), str)
                ),
                "",
            )
            made = merged(read_messages({"role": "assistant", "content": value, "reasoning": reasoning}, lost))
            return None if made.empty else made
    return None


def _choices(answer: Said, choices: list[Any], lost: Lost, depth: int) -> None:
    """The first choice by index: further ones share its prompt, and are named as left out."""
    while len(choices) == 1 and isinstance(choices[0], list):
        choices = choices[0]  # LangChain's generations
    choices_read = [choice for choice in choices if isinstance(choice, dict)]
    if not choices_read:
        return
    first = min(choices_read, key=lambda item: item["index"] if isinstance(item.get("index"), int) else 0)
    answer.choices = len(choices_read)
    lost[FURTHER_CHOICES] += len(choices_read) > 1
    answer.finish = (
        finish_of(
            first.get("finish_reason")
            or first.get("finishReason")
            or first.get("stop_reason")
            or first.get("completionReason")
            or _inside(first, "generation_info", "finish_reason")
            or _inside(first, "message", "kwargs", "response_metadata", "finish_reason")
        )
        or answer.finish
    )
    counted = _inside(first, "message", "kwargs", "usage_metadata")
    answer.usage = or_else(answer.usage, usage_of(counted))
    answer.ids = _ids(first.get("token_ids")) or _ids(first.get("output_ids")) or answer.ids
    answer.prompt_ids = _ids(first.get("prompt_token_ids")) or answer.prompt_ids
    message = first.get("message", first.get("content"))
    if isinstance(message, dict) and depth < 4:
        beside = {key: first[key] for key in ("reasoning_content", "reasoning") if isinstance(first.get(key), str)}
        answer.message = _one({"role": "assistant", **beside, **message}, lost)
    elif isinstance(first.get("delta"), dict):
        answer.message = _one({"role": "assistant", **first["delta"]}, lost)
    elif isinstance(first.get("turns"), list):  # answers of MT-bench
        answer.message = answer_of(first["turns"][0], lost).message if first["turns"] else None
    else:
        answer.message = _one(first, lost)


def _inside(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _usage(body: dict[str, Any]) -> dict[str, int | None]:
    for key in (
        "usage",
        "usageMetadata",
        "usage_metadata",
        "meta_info",
        "token_usage",
        "amazon-bedrock-invocationMetrics",
        "metrics",
        "details",
    ):
        if isinstance(body.get(key), dict):
            usage = usage_of(body[key])
            if any(number is not None for number in usage.values()):
                return usage
    meta = body.get("meta")
    if isinstance(meta, dict) and isinstance(meta.get("tokens"), dict):  # Cohere
        return usage_of(meta["tokens"])
    flat = {key: value for key, value in body.items() if key not in ("input", "output", "prompt", "response")}
    return usage_of(flat)


def _stop(body: dict[str, Any]) -> str | None:
    meta = body.get("meta_info")
    reason = meta.get("finish_reason") if isinstance(meta, dict) else None
    details = body.get("incomplete_details")
    for value in (reason, body.get("finish_reason"), body.get("stop_reason"), body.get("stopReason"), body.get("done_reason"),
                  body.get("finishReason"), details.get("reason") if isinstance(details, dict) else None):  # fmt: skip
        if value:
            return finish_of(value)
    return "stop" if body.get("object") == "response" and body.get("status") == "completed" else None


def _took(body: dict[str, Any]) -> float | None:
    meta = body.get("meta_info")
    value = meta.get("e2e_latency") if isinstance(meta, dict) else None
    if value is None and isinstance(body.get("total_duration"), int):
        value = body["total_duration"] / 1e9
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def finish_of(value: Any) -> str | None:
    """Why an answer ended, under OpenAI's name for it."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("type") or value.get("unified")
    if not isinstance(value, str) or not value:
        return None
    low = value.lower()
    low = low.rsplit(".", 1)[-1] if low.startswith("finishreason") else low
    return FINISHES.get(low, low if low in ("stop", "length") else value)


def _ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and value and all(type(token) is int for token in value) else None
