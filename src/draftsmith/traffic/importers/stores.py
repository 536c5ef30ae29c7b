"""Gateways and servers whose records a layout describes. Bodies inside them may be of any API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from draftsmith.traffic.importers.base import Fields, Importer, SkipError, mapping
from draftsmith.traffic.importers.layout import Layout

ELSEWHERE = "text kept in another file (kept for its counts)"


def _has(*keys: str) -> Callable[[Any], bool]:
    """Whether all keys are there."""
    wanted = frozenset(keys)
    return lambda row: wanted <= row.keys()


def _any(row: Any, *keys: str) -> bool:
    return any(row.get(key) not in (None, "") for key in keys)


_BODIES = {
    "prompt": ("request_body", "request", "requestBody"),
    "answer": ("response_body", "response", "responseBody"),
}

_HELICONE = Layout(
    prompt=("request_body", "signed_body.request"),
    answer=("response_body", "signed_body.response"),
    prompt_tokens="prompt_tokens",
    completion_tokens="completion_tokens",
    start="request_created_at",
    end="response_created_at",
    latency_ms="delay_ms",
    ttft_ms="time_to_first_token",
    model=("response_model", "request_model", "model"),
    id="request_id",
    conversation=('request_properties["Helicone-Session-Id"]', 'properties["Helicone-Session-Id"]'),
    route=("request_path", "target_url"),
    status=("response_status", "status"),
    cached="cache_enabled_hit",
)
_PORTKEY = Layout(
    prompt=("request.body", "request"),
    answer=("response.body", "response"),
    prompt_tokens="req_units",
    completion_tokens="res_units",
    start="created_at",
    latency_ms="response_time",
    model="ai_model",
    id="id",
    conversation="trace_id",
    status=("response_status_code", "response.status"),
    succeeded="is_success",
    cached="cache_status",
)
_KONG = Layout(
    prompt=("ai.*.payload.request", "request.body"),
    answer=("ai.*.payload.response", "response.body"),
    usage="ai.*.usage",
    prompt_tokens=("ai.*.usage.prompt_tokens", "ai.*.usage.prompt_token"),
    completion_tokens=("ai.*.usage.completion_tokens", "ai.*.usage.completion_token"),
    start="started_at",
    latency_ms=("ai.*.meta.llm_latency", "latencies.request"),
    ttft_ms="ai.*.usage.time_to_first_token",
    cached="ai.*.cache.cache_status",
    model=("ai.*.meta.response_model", "ai.*.meta.request_model"),
    id="request.id",
    route=("route.name", "service.name"),
    status="response.status",
)
_CLOUDFLARE = Layout(
    prompt=("request", "RequestBody", "request_body", "request_head"),
    answer=("response", "ResponseBody", "response_body", "response_head"),
    prompt_tokens=("tokens_in", "TokensIn"),
    completion_tokens=("tokens_out", "TokensOut"),
    start=("created_at", "Created"),
    latency_ms=("duration", "Duration"),
    model=("model", "Model"),
    id=("id", "ID"),
    route=("path", "Endpoint"),
    status=("status_code", "StatusCode"),
    succeeded=("success",),
    cached=("cached", "Cached"),
)
_OPENROUTER = Layout(
    prompt=("input", "prompt"),
    answer=("output", "completion"),
    prompt_tokens=("native_tokens_prompt", "tokens_prompt"),
    completion_tokens=("native_tokens_completion", "tokens_completion"),
    cached_tokens="native_tokens_cached",
    start="created_at",
    latency_ms="generation_time",
    model="model",
    id="id",
    finish_reason="finish_reason",
    failed="cancelled",
)
_BEDROCK = Layout(
    prompt="input.inputBodyJson",
    answer=("output.outputBodyJson",),
    prompt_tokens=("input.inputTokenCount",),
    completion_tokens=("output.outputTokenCount",),
    cached_tokens="input.cacheReadInputTokenCount",
    start="timestamp",
    latency_ms=(
        "output.outputBodyJson.metrics.latencyMs",
        'output.outputBodyJson[-1]["amazon-bedrock-invocationMetrics"].invocationLatency',
        "output.outputBodyJson[-1].metadata.metrics.latencyMs",
    ),
    ttft_ms='output.outputBodyJson[-1]["amazon-bedrock-invocationMetrics"].firstByteLatency',
    model="modelId",
    id="requestId",
    failed="errorCode",
)
_APIM = Layout(
    prompt="RequestMessages",
    answer="ResponseMessages",
    prompt_tokens="PromptTokens",
    completion_tokens="CompletionTokens",
    start=("TimeGenerated", '["TimeGenerated [UTC]"]'),
    model=("ModelName", "DeploymentName"),
    id="CorrelationId",
    route="DeploymentName",
)
_HIGRESS = Layout(
    prompt=("ai_log.messages", "messages", "ai_log.question", "question"),
    answer=("ai_log.answer", "answer"),
    reasoning=("ai_log.reasoning", "reasoning"),
    tool_calls=("ai_log.tool_calls", "tool_calls"),
    prompt_tokens=("ai_log.input_token", "input_token"),
    completion_tokens=("ai_log.output_token", "output_token"),
    cached_tokens=("ai_log.cached_tokens",),
    end=("timestamp",),
    start=("start_time",),
    latency_ms=("ai_log.llm_service_duration", "llm_service_duration", "duration"),
    ttft_ms=("ai_log.llm_first_token_duration", "llm_first_token_duration"),
    model=("ai_log.model", "model"),
    id=("request_id", "x_request_id", "requestId"),
    conversation=("ai_log.session_id", "session_id"),
    route=("ai_log.api", "route_name"),
    status="response_code",
    cached="ai_log.cache_status",
)
_OLLAMA = Layout(
    prompt="prompt",
    answer=("message", "response"),
    prompt_tokens="prompt_eval_count",
    completion_tokens="eval_count",
    end="created_at",
    latency_ns="total_duration",
    model="model",
    finish_reason="done_reason",
)


def _bedrock(row: Any) -> Iterator[Fields | SkipError]:
    request, response = mapping(row.get("input")), mapping(row.get("output"))
    body = response.get("outputBodyJson")
    if isinstance(body, dict) and {"embedding", "embeddings", "embeddingsByType", "images", "artifacts"} & body.keys():
        raise SkipError("not a generation request")
    for fields in _BEDROCK.records(row):
        if isinstance(fields, dict) and ("inputBodyS3Path" in request or "outputBodyS3Path" in response):
            fields["lost"] = [*fields.get("lost", ()), ELSEWHERE]  # bodies over 100 kB are files of their own
        yield fields


def _higress(row: Any) -> Iterator[Fields | SkipError]:
    if "ai_log" in row and not mapping(row["ai_log"]):
        raise SkipError("not a generation request")
    yield from _HIGRESS.records(row)


def _apim_part(row: Any) -> Iterator[Fields | SkipError]:
    yield from _APIM.records(row)


class Apim:
    """API Management cuts long messages over rows with one correlation id and a running number."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {}
        self._lines: dict[str, int] = {}

    def add(self, number: int, value: Any) -> Iterator[tuple[int, Fields | SkipError]]:
        """One row. A request is complete when another one begins, since rows of one come together, or nearly so."""
        name = str(value.get("CorrelationId") or number)
        self._rows.setdefault(name, []).append(value)
        self._lines[name] = number
        if len(self._rows) > 256:
            yield from self._close(next(iter(self._rows)))

    def _close(self, name: str) -> Iterator[tuple[int, Fields | SkipError]]:
        rows, line = self._rows.pop(name), self._lines.pop(name)
        rows.sort(
            key=lambda row: int(row.get("SequenceNumber") or 0) if str(row.get("SequenceNumber") or 0).isdigit() else 0
        )
        whole: dict[str, Any] = {}
        for row in rows:
            whole |= {
                key: value
                for key, value in row.items()
                if value not in (None, "") and key not in ("RequestMessages", "ResponseMessages")
            }
        for key in ("RequestMessages", "ResponseMessages"):
            pieces = [row[key] for row in rows if row.get(key)]
            if pieces:
                # An export as JSON may hold the list itself.
                whole[key] = "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else pieces[0]
        try:
            yield line, _APIM.record(whole)
        except SkipError as skip:
            yield line, skip

    def end(self) -> Iterator[tuple[int, Fields | SkipError]]:
        """What is still open."""
        for name in list(self._rows):
            yield from self._close(name)


def _is_higress(row: Any) -> bool:
    return isinstance(row.get("ai_log"), str | dict) or (
        "input_token" in row and "output_token" in row and ("model" in row or "answer" in row)
    )


def _is_kong(row: Any) -> bool:
    return isinstance(row.get("ai"), dict) and any(
        isinstance(item, dict) and ({"usage", "meta", "payload"} & item.keys()) for item in row["ai"].values()
    )


STORES = (
    Importer("helicone", lambda row: "request_body" in row and ("request_created_at" in row or "delay_ms" in row or "request_id" in row), _HELICONE.records,
             what="requests of Helicone's API and exports", marks=("request_id", "request_created_at", "request_body", "response_body", "response_status", "delay_ms")),
    Importer("portkey", lambda row: "request" in row and _any(row, "ai_model", "req_units", "response_status_code") and "response" in row, _PORTKEY.records,
             what="log exports of Portkey", marks=("request", "response", "ai_org", "ai_model", "req_units", "res_units", "response_time")),
    Importer("kong", _is_kong, _KONG.records, what="Kong's log plugins with `ai-proxy` (text with `log_payloads`)",
             marks=("ai", "request", "response", "latencies", "started_at")),
    Importer("cloudflare", lambda row: _has("tokens_in", "tokens_out")(row) or _has("TokensIn", "TokensOut")(row), _CLOUDFLARE.records,
             what="logs of Cloudflare's AI gateway; text where bodies are in them",
             marks=("tokens_in", "tokens_out", "provider", "model", "duration", "status_code")),
    Importer("openrouter", _has("native_tokens_prompt", "native_tokens_completion"), _OPENROUTER.records, lacks=("text", "parameters"),
             what="generations of OpenRouter", marks=("native_tokens_prompt", "native_tokens_completion", "tokens_prompt", "generation_time")),
    Importer("bedrock", lambda row: row.get("schemaType") == "ModelInvocationLog" or ("modelId" in row and isinstance(row.get("input"), dict) and "inputBodyJson" in row["input"]),
             _bedrock, what="model invocation logs of Amazon Bedrock, streamed or not",
             marks=("schemaType", "modelId", "requestId", "input", "output", "operation")),
    Importer("apim", lambda row: "CorrelationId" in row and ("RequestMessages" in row or "PromptTokens" in row), _apim_part,
             lacks=("parameters", "latency"), what="`ApiManagementGatewayLlmLog` rows of Azure API Management; messages cut over rows are joined",
             marks=("CorrelationId", "PromptTokens", "CompletionTokens", "RequestMessages", "ResponseMessages", "ModelName"), session=Apim),
    Importer("higress", _is_higress, _higress, lacks=("parameters",), what="access logs of Higress with `ai_log`",
             marks=("ai_log", "input_token", "output_token", "question", "answer")),
    Importer("ollama", lambda row: "done" in row and ("message" in row or "response" in row) and ("eval_count" in row or "model" in row), _OLLAMA.records,
             lacks=("prompts", "parameters"), what="answers of Ollama", marks=("done", "eval_count", "prompt_eval_count", "total_duration")),
)  # fmt: skip
"""In the order in which they are asked."""
