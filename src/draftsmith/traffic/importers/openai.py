"""API shapes: batch input and output (OpenAI and Anthropic), stored answers, and request/response pairs of any API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import FAILED, answer_of, is_answer
from draftsmith.traffic.importers.asking import is_request, prompt_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, duration, embedded, mapping, timing
from draftsmith.traffic.importers.bodies import answer_fields, both, name_of, request_fields
from draftsmith.traffic.importers.plain import PLAIN

NOT_GENERATION = "not a generation request"


def _batch_input(row: Any) -> Iterator[Fields]:
    body = row["body"] if "body" in row else row.get("params")
    if not isinstance(body, dict):
        raise SkipError("batch line without a body")
    url = str(row.get("url") or "")
    if any(
        word in url
        for word in ("embeddings", "score", "rerank", "moderations", "images", "audio", "classify", "pooling")
    ):
        raise SkipError(NOT_GENERATION)
    lost = parts.Lost()
    fields = request_fields(prompt_of(body, lost))
    parts.noted(fields, lost)
    yield {"id": name_of(row.get("custom_id")), **fields, "pair_key": row.get("custom_id")}


def _batch_output(row: Any) -> Iterator[Fields]:
    response = row.get("response") if "response" in row else row.get("result")
    if (
        row.get("error")
        or not isinstance(response, dict)
        or str(response.get("type")) in ("errored", "canceled", "expired")
    ):
        raise SkipError(FAILED)
    status = response.get("status_code")
    if isinstance(status, int) and status >= 400:
        raise SkipError(FAILED)
    body = next((response[key] for key in ("body", "message") if isinstance(response.get(key), dict)), response)
    lost = parts.Lost()
    # A batch answers when it likes: `created` is no arrival.
    fields = {**answer_fields(answer_of(body, lost)), "timing": None}
    parts.noted(fields, lost)
    yield {**fields, "id": name_of(row.get("custom_id")), "pair_key": row.get("custom_id")}


def _stored(row: Any) -> Iterator[Fields]:
    """An answer with its request beside it or inside it (`store: true`)."""
    request = row["request"] if isinstance(row.get("request"), dict) else row
    request_fields = {
        key: request[key] for key in request if key not in ("output", "text", "choices") or request is not row
    }
    if request is row and "role" in row:  # Anthropic: the answer is the message itself
        request_fields = {key: value for key, value in request_fields.items() if key not in ("role", "content", "type")}
    if request is row and isinstance(row.get("text"), dict):
        request_fields["text"] = row["text"]
    answer = {key: value for key, value in row.items() if key not in ("request", "messages", "input_messages", "input")}
    fields = both(request_fields, answer, parts.Lost())
    metadata = row.get("metadata")
    route = metadata.get("route") or metadata.get("tenant") if isinstance(metadata, dict) else None
    yield {**fields, "id": name_of(row.get("id")), "route": name_of(route)}


_PAIRS = (
    ("request", "response"),
    ("request_body", "response_body"),
    ("requestBody", "responseBody"),
    ("request_payload", "response_payload"),
    ("requestPayload", "responsePayload"),
    ("req", "res"),
    ("req", "resp"),
    ("inputs", "outputs"),
    ("inputs", "output"),
    ("input", "output"),
    ("input", "preferred_output"),
    ("kwargs", "response"),
    ("prompt", "response"),
    ("body", "response"),
    ("http_request", "http_response"),
)


def pair_in(row: dict[str, Any]) -> tuple[Any, Any] | None:
    """The request and the answer among the keys of an object, under any of their names; None if there are none."""
    answered = [
        (request_key, answer_key) for request_key, answer_key in _PAIRS if request_key in row and answer_key in row
    ]
    for request_key, answer_key in answered or _PAIRS:
        if request_key not in row:
            continue
        request = (
            embedded(row[request_key])
            if isinstance(row[request_key], str) and row[request_key].lstrip()[:1] == "{"
            else row[request_key]
        )
        if not isinstance(request, dict):
            continue
        inner = request.get("body", request.get("json"))
        inner = embedded(inner) if isinstance(inner, str) else inner
        if is_request(request) or is_request(inner):
            return request, row.get(answer_key)
    return None


def _pair(row: Any) -> Iterator[Fields]:
    pair = pair_in(row)
    if pair is None:
        raise SkipError("pair without a request")
    request, response = pair
    opened = embedded(response) if isinstance(response, str) and response.lstrip()[:1] == "{" else None
    response = response if opened is None else opened  # Ollama streams JSON lines, which are no JSON as a whole
    _check_pair(row, response)
    fields = both(request, response, parts.Lost())
    if not fields.get("completion") and not fields.get("output_token_ids") and "response" in row:
        raise SkipError("answer without text")
    fields["id"] = name_of(row.get("id") or row.get("request_id") or row.get("requestId")) or fields.get("id")
    fields["conversation"] = name_of(row.get("conversation_id") or row.get("session_id") or row.get("trace_id"))
    fields["adapter"] = name_of(row.get("adapter") or row.get("lora_name")) or fields.get("adapter")
    fields["route"] = name_of(row.get("route") or row.get("tenant") or row.get("path"))
    yield {**fields, **_times(row, fields)}


def _check_pair(row: dict[str, Any], response: Any) -> None:
    for holder in (row, response if isinstance(response, dict) else {}):
        for key in ("status", "status_code", "statusCode", "response_status"):
            status = holder.get(key)
            if isinstance(status, int) and not isinstance(status, bool) and status >= 400:
                raise SkipError(FAILED)
        if holder.get("error") or holder.get("exception"):
            raise SkipError(FAILED)


_STARTS = ("start_unix_s", "start_time", "startTime", "started_at", "request_time", "requestTime", "created_at", "createdAt", "timestamp",
           "time", "ts", "@timestamp", "start_timestamp", "date")  # fmt: skip
_ENDS = ("end_time", "endTime", "ended_at", "completed_at", "finished_at", "end_timestamp", "response_time_at")
_SECONDS = ("latency_s", "duration_s", "latency_seconds", "duration_seconds", "elapsed_s")
_MILLISECONDS = ("latency_ms", "duration_ms", "response_time_ms", "elapsed_ms", "delay_ms", "response_time")
_FIRST = ("ttft_s", "time_to_first_token")


def _times(row: dict[str, Any], fields: Fields) -> Fields:
    """Times that a wrapper keeps beside the pair."""
    start = next((row[key] for key in _STARTS if row.get(key) not in (None, "")), None)
    end = next((row[key] for key in _ENDS if row.get(key) not in (None, "")), None)
    latency = next((duration(row[key]) for key in _SECONDS if row.get(key) is not None), None)
    if latency is None:
        duration_s = next((duration(row[key]) for key in _MILLISECONDS if row.get(key) is not None), None)
        latency = duration_s / 1e3 if duration_s is not None else None
    made = timing(start, end=end, latency_s=latency)
    if made is None:
        return {"timing": fields.get("timing")}
    first = next((duration(row[key]) for key in _FIRST if row.get(key) is not None), None)
    return {
        "timing": {**made, "ttft_s": first if first is not None else made["ttft_s"]} if "latency_s" in made else made
    }


def _is_pair(row: Any) -> bool:
    if pair_in(row) is None:
        return False
    return "request" in row or "request_body" in row or any(answer_key in row for _, answer_key in _PAIRS)


def _is_stored(row: Any) -> bool:
    kind = row.get("object")
    if kind in ("chat.completion", "text_completion", "response"):
        return "choices" in row or isinstance(row.get("output"), list)
    if row.get("type") == "message" and row.get("role") == "assistant" and isinstance(row.get("content"), list):
        return True  # Anthropic
    if isinstance(row.get("candidates"), list) or (isinstance(row.get("choices"), list) and "usage" in row):
        return True
    return isinstance(row.get("meta_info"), dict) and ("output_ids" in row or "text" in row)


def _is_batch_output(row: Any) -> bool:
    return "custom_id" in row and ("response" in row or isinstance(row.get("result"), dict) or "error" in row)


def _is_wrapped(row: Any) -> bool:
    return _inside(row) is not None


def _inside(row: dict[str, Any]) -> dict[str, Any] | None:
    """An object with a request (and an answer) somewhere below, in a store that is not known."""
    for value in row.values():
        value = embedded(value) if isinstance(value, str) and value.lstrip()[:1] == "{" else value
        if not isinstance(value, dict):
            continue
        if pair_in(value) is not None or (is_request(value) and is_answer(value)):
            return value
        if is_request(value) and (
            answer := next(
                (mapping(item) for item in row.values() if item is not value and is_answer(mapping(item))), None
            )
        ):
            return {"request": value, "response": answer}
        for inner in value.values():
            inner = embedded(inner) if isinstance(inner, str) and inner.lstrip()[:1] == "{" else inner
            if isinstance(inner, dict) and pair_in(inner) is not None:
                return inner
    return None


def _wrapped(row: Any) -> Iterator[Fields | SkipError]:
    """A pair inside another record: times and names may stand on either level."""
    inner = _inside(row) or {}
    outer = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    if pair_in(inner) is None:
        yield from PLAIN.records({**outer, **inner})
    else:
        yield from _pair({**outer, **inner})


BATCH_INPUT = Importer(
    "openai-batch-input",
    lambda row: "custom_id" in row and ("body" in row or isinstance(row.get("params"), dict)) and "response" not in row,
    _batch_input,
    lacks=("answers", "arrivals", "latency"),
    what="requests of a batch (OpenAI, vLLM, Anthropic); joined with the answers by `custom_id` where both are named",
    marks=("custom_id", "body", "method", "url"),
)
BATCH_OUTPUT = Importer(
    "openai-batch-output",
    _is_batch_output,
    _batch_output,
    lacks=("prompts", "parameters", "arrivals", "latency"),
    what="answers of a batch, under `response`, `response.body` or `result.message`",
    marks=("custom_id", "response", "error", "result"),
)
STORED = Importer(
    "openai-stored",
    _is_stored,
    _stored,
    lacks=("latency",),
    what="stored answers of chat, completions, Responses, Anthropic, Gemini or SGLang's `/generate`, with the request where it is there",
    marks=("id", "object", "choices", "usage", "created", "messages"),
)
PAIR = Importer(
    "openai-pair",
    _is_pair,
    _pair,
    what="a request and its answer in one object, of any API, streamed or not",
    marks=("request", "response", "input", "output"),
)
WRAPPED = Importer(
    "wrapped-pair",
    _is_wrapped,
    _wrapped,
    what="the same one or two levels down in another record",
    marks=("request", "response"),
)
