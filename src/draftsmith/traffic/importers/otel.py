"""OpenTelemetry spans: GenAI conventions (three generations of them), OpenInference, and Vercel AI keys.

Containers met: OTLP/JSON (`resourceSpans`), `{spans: [...]}`, and single spans. Attributes come as an object or as
OTLP's list of `{key, value: {stringValue | intValue | ...}}`, where integers are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    count,
    each,
    embedded,
    mapping,
    messages,
    parameters,
    text,
    timing,
    tool_call_text,
)

Attributes = dict[str, Any]


def _spans(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document.get("resourceSpans"), list):
        for resource in document["resourceSpans"]:
            for scope in mapping(resource).get("scopeSpans") or []:
                yield from (span for span in mapping(scope).get("spans") or [] if isinstance(span, dict))
    elif isinstance(document.get("spans"), list):
        yield from (span for span in document["spans"] if isinstance(span, dict))
    else:
        yield document


def _attributes(span: dict[str, Any]) -> Attributes:
    raw = span.get("attributes")
    if isinstance(raw, dict):
        return raw
    if not isinstance(raw, list):
        return {}
    return {str(item["key"]): _otlp(item.get("value")) for item in raw if isinstance(item, dict) and "key" in item}


def _otlp(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return int(inner) if str(inner).lstrip("-").isdigit() else inner
    if kind == "arrayValue":
        return [_otlp(item) for item in mapping(inner).get("values") or []]
    if kind == "kvlistValue":
        return {str(item.get("key")): _otlp(item.get("value")) for item in mapping(inner).get("values") or []}
    return inner


def _records(document: Any) -> Iterator[Fields | SkipError]:
    calls = [span for span in _spans(document) if _is_model_call(_attributes(span))]
    if not calls:
        raise SkipError("no model call among the spans")
    yield from each(calls, _call)


def _call(span: dict[str, Any]) -> Fields:
    if _failed(span):
        raise SkipError("failed request")
    return _span_fields(span, _attributes(span))


_MODEL_CALL = ("chat", "text_completion", "generate_content", "completion")


def _is_model_call(attributes: Attributes) -> bool:
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None:
        return bool(operation in _MODEL_CALL)
    kind = attributes.get("openinference.span.kind")
    if kind is not None:
        return bool(kind == "LLM")
    return any(key.startswith(("gen_ai.", "llm.", "ai.prompt")) for key in attributes)


def _failed(span: dict[str, Any]) -> bool:
    return mapping(span.get("status")).get("code") in (2, "STATUS_CODE_ERROR", "ERROR", "Error")


def _span_fields(span: dict[str, Any], at: Attributes) -> Fields:
    body = mapping(at.get("input.value"))
    prompt = _prompt(at) or messages(body.get("messages") or body.get("prompt"))
    return {
        "id": _string(_pick(at, "gen_ai.response.id", "ai.response.id") or _pick(span, "spanId", "span_id")),
        "conversation": _string(_pick(at, "gen_ai.conversation.id", "session.id") or _trace(span)),
        "model": _string(_pick(at, "gen_ai.response.model", "llm.model_name", "gen_ai.request.model")),
        "route": _string(mapping(span.get("resource_attributes")).get("service.name")),
        "messages": prompt,
        "completion": _completion(at),
        "params": _params(at) | parameters(body),
        "usage": _usage(at),
        "finish_reason": _finish(at),
        "timing": timing(
            _pick(span, "startTimeUnixNano", "start_time", "startTime"),
            end=_pick(span, "endTimeUnixNano", "end_time", "endTime"),
        ),
    }


def _trace(span: dict[str, Any]) -> Any:
    context = mapping(span.get("spanContext") or span.get("context"))
    return _pick(span, "traceId", "trace_id") or _pick(context, "traceId", "trace_id")


def _pick(source: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if source.get(key) is not None:
            return source[key]
    return None


def _prompt(at: Attributes) -> list[dict[str, Any]] | None:
    for key in ("gen_ai.input.messages", "ai.prompt.messages", "gen_ai.prompt", "ai.prompt"):
        if at.get(key) is not None:
            found = messages(at[key])
            if found:
                system = _system(at.get("gen_ai.system_instructions"))
                return system + [_message(item) for item in found]
    flat = _unflatten(at, "llm.input_messages.", "message.") or _unflatten(at, "gen_ai.prompt.", "")
    if flat:
        return flat
    return messages(at.get("llm.prompts.0.prompt.text"))


def _system(value: Any) -> list[dict[str, Any]]:
    said = _parts(embedded(value)) if value is not None else None
    return [{"role": "system", "content": said}] if said else []


def _message(item: dict[str, Any]) -> dict[str, Any]:
    if isinstance(item.get("content"), str):
        return item
    said = _parts(item.get("parts") if item.get("parts") is not None else item.get("content"))
    return {"role": item["role"], "content": said or tool_call_text(item.get("tool_calls")) or ""}


def _parts(value: Any) -> str | None:
    """Text of GenAI parts: text, tool calls, and tool results under `response` or `result`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    shown = []
    for part in value:
        if isinstance(part, dict) and part.get("type") in ("tool_call", "tool-call"):
            shown.append(tool_call_text([part]))
        elif isinstance(part, dict) and str(part.get("type", "")).startswith(("tool_call_response", "tool-result")):
            result = part.get("response", part.get("result", part.get("output")))
            shown.append(result if isinstance(result, str) else orjson.dumps(result, default=str).decode())
        else:
            shown.append(text([part]))
    kept = [part for part in shown if part]
    return "\n".join(kept) if kept else None


def _completion(at: Attributes) -> str | None:
    for key in ("gen_ai.output.messages", "gen_ai.completion"):
        found = messages(at.get(key)) if at.get(key) is not None else None
        if found:
            return _message(found[-1])["content"] or None
    for key in ("gen_ai.output.text", "ai.response.text", "llm.choices.0.completion.text"):
        said = text(at.get(key))
        if said:
            return said
    flat = _unflatten(at, "llm.output_messages.", "message.") or _unflatten(at, "gen_ai.completion.", "")
    if flat and flat[-1]["content"]:
        return str(flat[-1]["content"])
    calls = embedded(at.get("ai.response.toolCalls"))
    return tool_call_text(calls) if isinstance(calls, list) else None


_INDEX = re.compile(r"(\d{1,6})\.(.+)")


def _unflatten(at: Attributes, prefix: str, inner: str) -> list[dict[str, Any]]:
    """Messages from keys such as `llm.input_messages.0.message.content`."""
    rows: dict[int, dict[str, Any]] = {}
    for key, value in at.items():
        match = _INDEX.match(key, len(prefix)) if key.startswith(prefix) else None
        if match:
            rows.setdefault(int(match[1]), {})[match[2].removeprefix(inner)] = value
    found = []
    for _, row in sorted(rows.items()):
        parts = [str(v) for k, v in sorted(row.items()) if k.startswith("contents.") and k.endswith("text")]
        calls = tool_call_text(_flat_calls(row))
        said = row["content"] if isinstance(row.get("content"), str) else "\n".join(parts + ([calls] if calls else []))
        found.append({"role": str(row.get("role", "user")), "content": said})
    return found


def _flat_calls(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Tool calls from keys such as `tool_calls.0.tool_call.function.name`."""
    calls: dict[str, dict[str, Any]] = {}
    for key, value in sorted(row.items()):
        if "tool_call" in key and key.endswith((".name", ".arguments")):
            stem, _, leaf = key.rpartition(".")
            calls.setdefault(stem, {})[leaf] = value
    return list(calls.values())


def _params(at: Attributes) -> dict[str, Any]:
    asked = {
        key.removeprefix("gen_ai.request."): value for key, value in at.items() if key.startswith("gen_ai.request.")
    }
    settings = {"temperature": at.get("ai.settings.temperature"), "max_tokens": at.get("ai.settings.maxOutputTokens")}
    tools = {"tools": True} if "gen_ai.tool.definitions" in at or "llm.tools.0.tool.json_schema" in at else {}
    return parameters(settings) | parameters(mapping(at.get("llm.invocation_parameters"))) | parameters(asked) | tools


def _usage(at: Attributes) -> dict[str, int | None]:
    return {
        "prompt_tokens": count(
            _pick(
                at,
                "gen_ai.usage.input_tokens",
                "gen_ai.usage.prompt_tokens",
                "llm.token_count.prompt",
                "ai.usage.inputTokens",
            )
        ),
        "completion_tokens": count(
            _pick(
                at,
                "gen_ai.usage.output_tokens",
                "gen_ai.usage.completion_tokens",
                "llm.token_count.completion",
                "ai.usage.outputTokens",
            )
        ),
        "cached_tokens": count(
            _pick(at, "gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read")
        ),
    }


def _finish(at: Attributes) -> str | None:
    value = _pick(at, "gen_ai.response.finish_reasons", "gen_ai.response.finish_reason", "ai.response.finishReason")
    value = value[0] if isinstance(value, list) and value else value
    return _string(value)


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _has(document: Any, marks: tuple[str, ...]) -> bool:
    try:
        keys = [key for span in _spans(document) for key in _attributes(span)]
    except (AttributeError, TypeError):
        return False
    return any(key.startswith(marks) for key in keys)


def _is_container(document: Any) -> bool:
    return (
        isinstance(document.get("resourceSpans"), list)
        or isinstance(document.get("spans"), list)
        or (isinstance(document.get("attributes"), list | dict) and "name" in document)
    )


OPENINFERENCE = Importer(
    "openinference", lambda row: _is_container(row) and _has(row, ("openinference.", "llm.")), _records
)
OTEL_GENAI = Importer("otel-genai", _is_container, _records)
