"""OpenAI shapes: batch input, batch output (both nestings), stored completions, and request/response pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    answer,
    messages,
    parameters,
    text,
    timing,
    usage,
)


def request_fields(body: dict[str, Any]) -> Fields:
    """Messages and parameters of a request body (chat, completions or responses)."""
    prompt = body.get("messages")
    if prompt is None:
        prompt = body.get("prompt", body.get("input"))
    if isinstance(prompt, list) and prompt and all(isinstance(item, str | list) for item in prompt):
        if len(prompt) > 1:
            raise SkipError("several prompts in one request")
        prompt = prompt[0]
    fields: Fields = {"params": parameters(body), "model": _name(body.get("model"))}
    if isinstance(prompt, list) and prompt and all(type(item) is int for item in prompt):
        fields["prompt_token_ids"] = prompt
    else:
        fields["messages"] = messages(prompt)
    return fields


def response_fields(body: dict[str, Any]) -> Fields:
    """Answer, usage and identity of a response body. Only the first choice: the others share its prompt."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    said = answer(choice.get("message")) or text(choice.get("text")) or _responses_text(body.get("output"))
    fields: Fields = {"completion": said, "usage": usage(body.get("usage"))}
    if body.get("model"):
        fields["model"] = _name(body["model"])
    if isinstance(choice.get("finish_reason"), str):
        fields["finish_reason"] = choice["finish_reason"]
    for key, name in (("prompt_token_ids", "prompt_token_ids"), ("token_ids", "output_token_ids")):
        ids = choice.get(key) or body.get(key)
        if isinstance(ids, list):
            fields[name] = ids
    if body.get("created") is not None:
        fields["timing"] = timing(body["created"])
    return fields


def _responses_text(output: Any) -> str | None:
    if not isinstance(output, list):
        return None
    parts = [text(item.get("content")) for item in output if isinstance(item, dict)]
    kept = [part for part in parts if part]
    return "\n".join(kept) if kept else None


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _batch_input(row: Any) -> Iterator[Fields]:
    body = row.get("body")
    if not isinstance(body, dict):
        raise SkipError("batch line without a body")
    url = str(row.get("url") or "")
    if "embeddings" in url or "score" in url or "rerank" in url:
        raise SkipError("not a generation request")
    yield {"id": _name(row.get("custom_id")), **request_fields(body), "pair_key": row.get("custom_id")}


def _batch_output(row: Any) -> Iterator[Fields]:
    response = row.get("response")
    if row.get("error") or not isinstance(response, dict):
        raise SkipError("failed request")
    status = response.get("status_code")
    if isinstance(status, int) and status >= 400:
        raise SkipError("failed request")
    body = response["body"] if isinstance(response.get("body"), dict) else response
    fields = {**response_fields(body), "timing": None}  # a batch answers when it likes: `created` is no arrival
    yield {"id": _name(row.get("custom_id")), **fields, "pair_key": row.get("custom_id")}


def _stored(row: Any) -> Iterator[Fields]:
    request = row.get("request") if isinstance(row.get("request"), dict) else row
    fields = request_fields({**request, "messages": request.get("messages") or request.get("input_messages")})
    fields.update(response_fields(row))
    metadata = row.get("metadata")
    route = metadata.get("route") or metadata.get("tenant") if isinstance(metadata, dict) else None
    yield {"id": _name(row.get("id")), "route": _name(route), **fields}


def _pair(row: Any) -> Iterator[Fields]:
    fields = request_fields(row["request"])
    response = row["response"]
    body = response.get("body") if isinstance(response.get("body"), dict) else response
    if isinstance(body.get("error"), dict):
        raise SkipError("failed request")
    fields.update(response_fields(body))
    yield {"id": _name(row.get("id") or row.get("request_id") or body.get("id")), **fields}


def _is_pair(row: Any) -> bool:
    request, response = row.get("request"), row.get("response")
    return isinstance(request, dict) and isinstance(response, dict) and ("messages" in request or "prompt" in request)


BATCH_INPUT = Importer(
    "openai-batch-input",
    lambda row: "custom_id" in row and "body" in row,
    _batch_input,
    lacks=("answers", "arrivals"),
)
BATCH_OUTPUT = Importer(
    "openai-batch-output",
    lambda row: "custom_id" in row and "response" in row,
    _batch_output,
    lacks=("prompts", "parameters", "arrivals", "latency"),
)
STORED = Importer(
    "openai-stored",
    lambda row: row.get("object") in ("chat.completion", "text_completion", "response") and "choices" in row,
    _stored,
    lacks=("latency",),
)
PAIR = Importer("openai-pair", _is_pair, _pair, lacks=("latency",))
