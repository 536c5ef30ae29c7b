"""Gateways and observability stores: LiteLLM, Envoy AI gateway, Langfuse, TensorZero."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import FAILED, answer_of
from draftsmith.traffic.importers.asking import prompt_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, count, embedded, mapping, timing
from draftsmith.traffic.importers.bodies import both, name_of
from draftsmith.traffic.importers.counts import or_else, usage_of
from draftsmith.traffic.importers.nesting import Nest, Row, made
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.spans import tools_in

_GENERATIONS = ("completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses", "anthropic_messages",
                "generate_content", "agenerate_content", "generate_content_stream", "agenerate_content_stream", "pass_through_endpoint",
                "allm_passthrough_route", "llm_passthrough_route", "anthropic", "chat_completion", "achat_completion", "")  # fmt: skip


def _litellm(row: Any) -> Iterator[Fields]:
    """Both LiteLLM payloads. Spend logs keep `{}` for messages and response unless the proxy stores prompts."""
    if str(row.get("status") or "success").lower() != "success":
        raise SkipError(FAILED)
    if str(row.get("cache_hit")).lower() == "true":
        raise SkipError("answered from the gateway's cache")
    if str(row.get("call_type") or "").lower() not in _GENERATIONS:
        raise SkipError("not a generation request")
    request = {**mapping(row.get("proxy_server_request")), **mapping(row.get("model_parameters"))}
    request = {**mapping(request.get("body")), **request}
    kept = next(
        (
            value
            for value in map(embedded, (row.get("messages"), request.get("messages"), request.get("input")))
            if value
        ),
        None,
    )
    if kept is None and isinstance(row.get("messages"), str) and row["messages"] not in ("", "{}", "[]"):
        kept = row["messages"]  # a prompt
    system = {key: request[key] for key in ("system", "instructions") if request.get(key)}
    prompt = {**system, "messages": kept} if kept else None
    body = row.get("response")
    fields = both(prompt, body if mapping(body) or _streamed(body) else None, parts.Lost())
    fields["params"] = {**asked(request), **fields["params"]}
    flat = {key: row[key] for key in ("prompt_tokens", "completion_tokens") if row.get(key) not in (None, "")}
    yield {
        **fields,
        "usage": or_else(usage_of(flat), fields.get("usage") or {}),
        "id": name_of(row.get("request_id") or row.get("id")),
        "conversation": name_of(row.get("session_id") or row.get("trace_id")),
        "model": name_of(row.get("model")),
        # Not `end_user`: it names a person.
        "route": name_of(row.get("model_group") or row.get("team_id")),
        "timing": timing(row.get("startTime"), end=row.get("endTime"), first=_first_token(row)),
    }


def _streamed(body: Any) -> bool:
    return (isinstance(body, str) and len(body) > 2) or (isinstance(body, list) and bool(body))


def _first_token(row: Any) -> Any:
    """LiteLLM repeats the end as completionStartTime where it did not stream: that is no first token."""
    first = row.get("completionStartTime")
    return None if first == row.get("endTime") else first


def _envoy(row: Any) -> Iterator[Fields]:
    code = count(row.get("response_code"))
    if code is not None and not 200 <= code < 300:
        raise SkipError(FAILED)
    latency = row.get("duration")
    yield {
        "id": name_of(row.get("x-request-id")),
        "model": name_of(row.get("gen_ai.request.model_override") or row.get("gen_ai.request.model")),
        "route": name_of(row.get("route_name")),
        "usage": {
            "prompt_tokens": count(row.get("gen_ai.usage.input_tokens")),
            "completion_tokens": count(row.get("gen_ai.usage.output_tokens")),
            "cached_tokens": count(row.get("gen_ai.usage.cached_input_tokens")),
        },
        "timing": timing(row.get("start_time"), latency_s=float(latency) / 1e3 if _number(latency) else None),
    }


def _langfuse(document: Any) -> Iterator[Row]:
    trace = mapping(document.get("trace")) or (document if "observations" in document else {})
    rows = document["observations"] if isinstance(document.get("observations"), list) else [document]
    for row in rows:
        if isinstance(row, dict):
            request = made(partial(_langfuse_generation, row, trace)) if is_generation(row) else None
            yield Row(
                _one(row, "traceId", "trace_id") or trace.get("id"),
                row.get("id"),
                _one(row, "parentObservationId", "parent_observation_id"),
                _one(row, "startTime", "start_time"),
                _one(row, "endTime", "end_time"),
                request,
            )


def _traces() -> Nest:
    return Nest(_langfuse, "trace without a generation")


def is_generation(row: dict[str, Any]) -> bool:
    """Whether an observation is a call of a model."""
    return str(row.get("type") or "").upper() == "GENERATION"


def _one(row: dict[str, Any], *keys: str) -> Any:
    """The first of several spellings that is there."""
    for key in keys:
        if row.get(key) not in (None, "", {}, []):
            return row[key]
    return None


def _langfuse_generation(row: dict[str, Any], trace: dict[str, Any]) -> Fields:
    if str(row.get("level") or "").upper() == "ERROR":
        raise SkipError(FAILED)
    fields = both(row.get("input"), row.get("output"), parts.Lost())
    counted = usage_of(mapping(_one(row, "usageDetails", "usage_details", "usage")))
    beside = {"prompt_tokens": _one(row, "inputUsage", "input_usage", "promptTokens", "prompt_tokens"),
              "completion_tokens": _one(row, "outputUsage", "output_usage", "completionTokens", "completion_tokens")}  # fmt: skip
    usage = or_else(counted, {key: count(value) for key, value in beside.items()})
    parameters = mapping(_one(row, "modelParameters", "model_parameters"))
    start, end = _one(row, "startTime", "start_time"), _one(row, "endTime", "end_time")
    about = mapping(row.get("metadata"))
    tools = tools_in(mapping(about.get("attributes"))) or about.get("tools")
    offered = {"tools": tools} if isinstance(tools, list) and tools else {}
    return {
        **fields,
        "id": name_of(row.get("id")),
        "conversation": name_of(
            _one(trace, "sessionId", "session_id")
            or _one(row, "sessionId", "session_id")
            or _one(row, "traceId", "trace_id")
        ),
        "model": name_of(_one(row, "model", "providedModelName", "provided_model_name", "internalModelId")),
        "route": name_of(_one(trace, "name") or _one(row, "traceName", "trace_name", "name")),
        "params": {**offered, **asked(parameters), **fields["params"]},
        "usage": or_else(usage, fields.get("usage") or {}),
        "timing": timing(start, end=end, first=_one(row, "completionStartTime", "completion_start_time")),
    }


def _tensorzero(row: Any) -> Iterator[Fields]:
    """ModelInference rows: the raw request and response are the provider's own JSON inside strings."""
    if row.get("is_deleted"):
        raise SkipError("deleted record")
    lost = parts.Lost()
    raw = row.get("raw_response")
    fields = both(mapping(row.get("raw_request")), raw if mapping(raw) or _streamed(raw) else None, lost)
    fields.pop("timing", None)
    if not fields.get("messages"):
        stored = prompt_of(
            mapping(_one(row, "input_messages", "input")) or embedded(_one(row, "input_messages", "input")), lost
        )
        fields["messages"] = [message.wire() for message in stored.messages] or None
    if not fields.get("completion"):
        text = answer_of(_one(row, "output"), lost).message
        fields["completion"] = text.joined() if text else None
    counted = usage_of({key: row[key] for key in ("input_tokens", "output_tokens") if row.get(key) not in (None, "")})
    yield {
        **fields,
        "id": name_of(row.get("id") or row.get("inference_id") or row.get("long_cache_key")),
        "route": name_of(row.get("function_name") or row.get("variant_name")),
        "usage": or_else(counted, fields.get("usage") or {}),
        "finish_reason": name_of(row.get("finish_reason")) or fields.get("finish_reason"),
        "timing": timing(row.get("timestamp"), latency_s=_milliseconds(row.get("response_time_ms"))),
    }


def _milliseconds(value: Any) -> float | None:
    return float(value) / 1e3 if _number(value) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_observation(row: Any) -> bool:
    """Whether an object is a Langfuse observation by itself."""
    kinds = (
        "GENERATION",
        "SPAN",
        "EVENT",
        "AGENT",
        "TOOL",
        "CHAIN",
        "RETRIEVER",
        "EMBEDDING",
        "EVALUATOR",
        "GUARDRAIL",
    )
    return str(row.get("type") or "") in kinds and ("startTime" in row or "start_time" in row)


LITELLM = Importer(
    "litellm",
    lambda row: "startTime" in row and "call_type" in row,
    _litellm,
    what="StandardLoggingPayload, SpendLogs (also the UI's and CSV exports); failures, cache hits and other kinds of calls are left out",
    marks=(
        "request_id",
        "call_type",
        "startTime",
        "endTime",
        "model_group",
        "cache_hit",
        "messages",
        "response",
        "spend",
    ),
)
ENVOY = Importer(
    "envoy-ai-gateway",
    lambda row: "gen_ai.usage.input_tokens" in row and "response_code" in row,
    _envoy,
    lacks=("text", "parameters"),
    what="access log lines",
    marks=("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "response_code", "start_time"),
)
LANGFUSE = Importer(
    "langfuse",
    lambda row: isinstance(row.get("observations"), list) or is_observation(row),
    session=_traces,
    what="a trace with its observations, single observations, the API's lists and exports; a call logged twice counts once",
    marks=(
        "observations",
        "trace",
        "type",
        "startTime",
        "endTime",
        "usageDetails",
        "modelParameters",
        "input",
        "output",
    ),
)
TENSORZERO = Importer(
    "tensorzero",
    lambda row: "raw_request" in row and "raw_response" in row,
    _tensorzero,
    what="ModelInference rows (`raw_request`, `raw_response`)",
    marks=("raw_request", "raw_response", "inference_id", "response_time_ms"),
)
