"""Gateways and observability stores: LiteLLM, Envoy AI gateway, Langfuse, TensorZero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    answer,
    count,
    each,
    embedded,
    mapping,
    messages,
    parameters,
    text,
    timing,
    usage,
)
from draftsmith.traffic.importers.openai import request_fields, response_fields


def _litellm(row: Any) -> Iterator[Fields]:
    """Both LiteLLM payloads. Spend logs keep `{}` for messages and response unless the proxy stores prompts."""
    if str(row.get("status") or "success").lower() != "success":
        raise SkipError("failed request")
    if str(row.get("cache_hit")).lower() == "true":
        raise SkipError("answered from the gateway's cache")
    if str(row.get("call_type") or "") in ("embedding", "aembedding", "rerank", "arerank", "image_generation"):
        raise SkipError("not a generation request")
    request = {**mapping(row.get("proxy_server_request")), **mapping(row.get("model_parameters"))}
    body = mapping(row.get("response"))
    fields = response_fields(body) if body else {}
    counted = usage(row)
    fields["usage"] = counted if any(v is not None for v in counted.values()) else fields.get("usage", counted)
    yield {
        **fields,
        "id": _string(row.get("request_id") or row.get("id")),
        "conversation": _string(row.get("session_id") or row.get("trace_id")),
        "model": _string(row.get("model")),
        "route": _string(row.get("model_group") or row.get("team_id") or row.get("end_user")),
        "messages": messages(row.get("messages")) or messages(request.get("messages")),
        "params": parameters(request),
        "timing": timing(row.get("startTime"), end=row.get("endTime"), first=_first_token(row)),
    }


def _first_token(row: Any) -> Any:
    """LiteLLM repeats the end as completionStartTime where it did not stream: that is no first token."""
    first = row.get("completionStartTime")
    return None if first == row.get("endTime") else first


def _envoy(row: Any) -> Iterator[Fields]:
    code = count(row.get("response_code"))
    if code is not None and not 200 <= code < 300:
        raise SkipError("failed request")
    latency = row.get("duration")
    yield {
        "id": _string(row.get("x-request-id")),
        "model": _string(row.get("gen_ai.request.model_override") or row.get("gen_ai.request.model")),
        "route": _string(row.get("route_name")),
        "usage": {
            "prompt_tokens": count(row.get("gen_ai.usage.input_tokens")),
            "completion_tokens": count(row.get("gen_ai.usage.output_tokens")),
            "cached_tokens": count(row.get("gen_ai.usage.cached_input_tokens")),
        },
        "timing": timing(row.get("start_time"), latency_s=float(latency) / 1e3 if _number(latency) else None),
    }


def _langfuse(document: Any) -> Iterator[Fields | SkipError]:
    trace = mapping(document.get("trace"))
    rows = document.get("observations") if "observations" in document else [document]
    generations = [row for row in rows if isinstance(row, dict) and row.get("type") == "GENERATION"]
    if not generations:
        raise SkipError("trace without a generation")
    yield from each(generations, lambda row: _langfuse_generation(row, trace))


def _langfuse_generation(row: dict[str, Any], trace: dict[str, Any]) -> Fields:
    if row.get("level") == "ERROR":
        raise SkipError("failed request")
    output = embedded(row.get("output")) if str(row.get("output") or "")[:1] in "[{" else row.get("output")
    choice = output.get("message", output) if isinstance(output, dict) else output
    counted = usage(row.get("usageDetails") or row.get("usage") or {})
    if counted["prompt_tokens"] is None and row.get("inputUsage") is not None:
        counted = {**counted, "prompt_tokens": count(row["inputUsage"]), "completion_tokens": count(row["outputUsage"])}
    return {
        "id": _string(row.get("id")),
        "conversation": _string(trace.get("sessionId") or row.get("sessionId") or row.get("traceId")),
        "model": _string(row.get("model")),
        "route": _string(trace.get("name") or row.get("name")),
        "messages": messages(row.get("input")),
        "completion": answer(choice) or text(choice),
        "params": parameters(mapping(row.get("modelParameters"))),
        "usage": counted,
        "timing": timing(row.get("startTime"), end=row.get("endTime"), first=row.get("completionStartTime")),
    }


def _tensorzero(row: Any) -> Iterator[Fields]:
    """ModelInference rows: the raw request and response are the provider's own JSON inside strings."""
    if row.get("is_deleted"):
        raise SkipError("deleted record")
    fields = request_fields(mapping(row.get("raw_request")))
    fields.update(response_fields(mapping(row.get("raw_response"))))
    fields.pop("timing", None)
    if not fields.get("messages"):
        fields["messages"] = messages(row.get("input_messages") or row.get("input"))
    if not fields.get("completion"):
        fields["completion"] = text(embedded(row.get("output")))
    yield {
        **fields,
        "id": _string(row.get("id") or row.get("inference_id") or row.get("long_cache_key")),
        "route": _string(row.get("function_name") or row.get("variant_name")),
        "usage": usage(row) | {"cached_tokens": fields["usage"]["cached_tokens"]},
        "finish_reason": _string(row.get("finish_reason")),
        "timing": timing(row.get("timestamp"), latency_s=_milliseconds(row.get("response_time_ms"))),
    }


def _milliseconds(value: Any) -> float | None:
    return float(value) / 1e3 if _number(value) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


LITELLM = Importer("litellm", lambda row: "startTime" in row and "call_type" in row, _litellm)
ENVOY = Importer(
    "envoy-ai-gateway",
    lambda row: "gen_ai.usage.input_tokens" in row and "response_code" in row,
    _envoy,
    lacks=("text", "parameters"),
)
LANGFUSE = Importer(
    "langfuse",
    lambda row: isinstance(row.get("observations"), list) or (row.get("type") == "GENERATION" and "startTime" in row),
    _langfuse,
)
TENSORZERO = Importer(
    "tensorzero",
    lambda row: "raw_request" in row and "raw_response" in row,
    _tensorzero,
)
