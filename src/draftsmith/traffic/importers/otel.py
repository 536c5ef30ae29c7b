"""Calls of models among spans: GenAI conventions (all generations of them), OpenInference, OpenLLMetry, Vercel AI, MLflow, Logfire."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import FAILED, Said, answer_of, finish_of
from draftsmith.traffic.importers.asking import Asked, name_of, prompt_of
from draftsmith.traffic.importers.base import (
    SHAPE_ERRORS,
    Fields,
    Importer,
    SkipError,
    count,
    duration,
    embedded,
    mapping,
    timing,
)
from draftsmith.traffic.importers.bodies import MEDIA_SAID, answer_fields, request_fields
from draftsmith.traffic.importers.counts import or_else, usage_of
from draftsmith.traffic.importers.nesting import Nest, Row, made
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.spans import (
    Attributes,
    attributes_of,
    failed,
    nested,
    parent_id,
    span_id,
    spans_of,
    times,
    tools_in,
    trace_id,
)
from draftsmith.traffic.messages import Message, merged

UNREADABLE = "text that cannot be read (kept for its counts)"
_CALLS = ("chat", "text_completion", "generate_content", "completion", "chat_completion", "messages", "responses")
_KINDS = ("LLM", "CHAIN", "TOOL", "AGENT", "RETRIEVER", "EMBEDDING", "RERANKER", "GUARDRAIL", "EVALUATOR")
_VERCEL_WORK = ("ai.toolCall", "ai.embed", "ai.embedMany", "ai.embed.doEmbed", "ai.embedMany.doEmbed")


def _rows(document: Any) -> Iterator[Row]:
    for span in spans_of(document):
        at = attributes_of(span)
        request = made(partial(_call, span, at)) if _is_model_call(span, at) else None
        start, end, _ = times(span)
        yield Row(trace_id(span), span_id(span), parent_id(span), start, end, request)


def _call(span: dict[str, Any], at: Attributes) -> Fields:
    if failed(span, at):
        raise SkipError(FAILED)
    return _fields(span, at)


def _traces() -> Nest:
    return Nest(_rows, "no model call among the spans")


def _is_model_call(span: dict[str, Any], at: Attributes) -> bool:
    operation = at.get("gen_ai.operation.name")
    if operation is not None:
        return str(operation).lower() in _CALLS
    for key in ("openinference.span.kind", "mlflow.spanType", "langfuse.observation.type"):
        if at.get(key) is not None:
            return str(at[key]).strip('"').upper() in ("LLM", "CHAT_MODEL", "GENERATION")
    kind = str(span.get("span_kind") or "").upper()
    if kind in _KINDS:
        return kind == "LLM"
    if at.get("traceloop.span.kind") is not None or at.get("operation.name") in _VERCEL_WORK:
        return False
    if at.get("llm.request.type") is not None:
        return str(at["llm.request.type"]) in ("chat", "completion")
    if isinstance(at.get("request_data"), dict):
        return "messages" in at["request_data"] or "prompt" in at["request_data"] or "input" in at["request_data"]
    return any(key.startswith(("gen_ai.", "llm.", "ai.prompt", "ai.response")) for key in at)


def _fields(span: dict[str, Any], at: Attributes) -> Fields:
    lost = parts.Lost()
    request = _readable(lambda: _prompt(span, at, lost), Asked(), lost)
    fields = request_fields(request)
    answer = _readable(lambda: _answer(span, at, lost), Said(), lost)
    if answer.message is not None and answer.message.media:
        lost[MEDIA_SAID] += 1
    fields |= answer_fields(answer)
    start, end, took = times(span)
    moments = timing(start, end=end, latency_s=took)
    first = duration(
        _pick(
            at,
            "gen_ai.server.time_to_first_token",
            "gen_ai.latency.time_to_first_token",
            "gen_ai.response.time_to_first_chunk",
        )
    )
    if (
        first is None
        and (milliseconds := duration(_pick(at, "ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"))) is not None
    ):
        first = milliseconds / 1e3
    if moments and first is not None:
        moments["ttft_s"] = first
    parts.noted(fields, lost)
    return {
        **fields,
        "id": name_of(_pick(at, "gen_ai.response.id", "ai.response.id") or span_id(span)),
        "conversation": name_of(
            _pick(at, "gen_ai.conversation.id", "session.id", "langfuse.session.id") or trace_id(span)
        ),
        "model": name_of(
            _pick(
                at,
                "gen_ai.response.model",
                "llm.model_name",
                "gen_ai.request.model",
                "ai.model.id",
                "langfuse.observation.model.name",
            )
        )
        or fields.get("model"),
        "route": name_of(mapping(span.get("resource_attributes")).get("service.name") or span.get("service_name")),
        "params": _params(at) | fields["params"],
        "usage": or_else(_usage(at), answer.usage),
        "finish_reason": _finish(at) or answer.finish,
        "timing": moments,
    }


def _readable(read: Any, default: Any, lost: parts.Lost) -> Any:
    """What `read` gives. Text of a shape that nobody knows costs the text, not the counts beside it."""
    try:
        return read()
    except SkipError as skip:
        if skip.reason == FAILED:
            raise
    except SHAPE_ERRORS:
        pass
    lost[UNREADABLE] += 1
    return default


def _pick(source: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if source.get(key) is not None and source[key] != "":
            return source[key]
    return None


_BODIES = (
    "request_data",
    "mlflow.spanInputs",
    "input.value",
    "langfuse.observation.input",
    "lmnr.span.input",
    "gcp.vertex.agent.llm_request",
)
_ANSWERS = (
    "response_data",
    "mlflow.spanOutputs",
    "output.value",
    "langfuse.observation.output",
    "lmnr.span.output",
    "gcp.vertex.agent.llm_response",
)


def _prompt(span: dict[str, Any], at: Attributes, lost: parts.Lost) -> Asked:
    prompt = _messages_asked(span, at, lost)
    body = next((parsed for key in _BODIES if (parsed := embedded(at.get(key))) is not None), None)
    # The flat keys win: a body beside them repeats them. Its parameters count all the same.
    beside = prompt_of(body, parts.Lost() if prompt.messages else lost) if isinstance(body, dict | list) else Asked()
    if not prompt.messages:
        prompt.messages, prompt.ids = beside.messages, beside.ids
        text = at.get("input.value")
        if not prompt.messages and isinstance(text, str) and body is None:
            prompt.messages = prompt_of(text, lost).messages
    prompt.params = {**beside.params, **prompt.params}
    prompt.model = prompt.model or beside.model
    return prompt


def _messages_asked(span: dict[str, Any], at: Attributes, lost: parts.Lost) -> Asked:
    for key in ("gen_ai.input.messages", "ai.prompt.messages", "gen_ai.prompt", "ai.prompt"):
        if at.get(key) is not None:
            prompt = prompt_of(_opened(at[key]), lost)
            if prompt.messages:
                instructions = at.get("gen_ai.system_instructions")
                if instructions is not None:
                    instructions = _opened(instructions)
                    prompt.messages = [
                        *parts.read_messages({"role": "system", "content": instructions}, lost),
                        *prompt.messages,
                    ]
                return prompt
    for prefix, inner in (("llm.input_messages.", "message"), ("gen_ai.prompt.", "")):
        rows = [_flat(row.get(inner, row) if inner else row, "user") for row in nested(at, prefix)]
        if rows:
            return Asked(parts.read_messages(rows, lost))
    for row in nested(at, "llm.prompts."):
        return prompt_of(mapping(row.get("prompt")).get("text", row.get("content")), lost)
    return Asked(_heard(span, lost, choice=False))


def _opened(value: Any) -> Any:
    """JSON that an attribute holds as text; other text as it is."""
    parsed = embedded(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else None
    return value if parsed is None else parsed


def _flat(row: dict[str, Any], role: str) -> dict[str, Any]:
    """A message from unflattened keys, as chat APIs write it."""
    made = {"role": row.get("role", role), **row}
    contents = row.get("contents")
    if isinstance(contents, list) and not isinstance(row.get("content"), str):
        made["content"] = [mapping(content).get("message_content", content) for content in contents]
    made.pop("contents", None)
    if isinstance(made.get("content"), str) and made["content"].startswith('[{"'):
        inside = embedded(made["content"])  # OpenLLMetry writes parts as JSON text
        if isinstance(inside, list) and all(isinstance(item, dict) and "type" in item for item in inside):
            made["content"] = inside
    calls = row.get("tool_calls")
    if isinstance(calls, dict):
        calls = list(calls.values())
    if calls:
        made["tool_calls"] = [call.get("tool_call", call) if isinstance(call, dict) else call for call in calls]
    if made.get("content") is None and not calls and "parts" not in made:
        made["content"] = ""
    return made


def _heard(span: dict[str, Any], lost: parts.Lost, *, choice: bool) -> list[Message]:
    """Messages that are events of the span; with `choice`, the answers among them."""
    made: list[Message] = []
    for event in span.get("events") or ():
        name = str(event.get("name") or "") if isinstance(event, dict) else ""
        if (
            not name.startswith("gen_ai.")
            or not (name.endswith(".message") or name == "gen_ai.choice")
            or (name == "gen_ai.choice") != choice
        ):
            continue
        body = attributes_of({"attributes": event.get("attributes")})
        body = {
            key.removeprefix("gen_ai.event."): _opened(value)
            if key in ("message", "tool_calls", "content") and str(value)[:1] in "[{"
            else value
            for key, value in body.items()
        }
        inner = mapping(body.get("message")) or body
        role = "assistant" if choice else name.removeprefix("gen_ai.").removesuffix(".message")
        made += parts.read_messages(
            [{"role": role, **{key: value for key, value in inner.items() if value is not None}}], lost
        )
    return made


def _answer(span: dict[str, Any], at: Attributes, lost: parts.Lost) -> Said:
    for key in ("gen_ai.output.messages", "gen_ai.completion"):
        if at.get(key) is not None:
            opened = _opened(at[key])
            answer = answer_of(
                opened[:1] if isinstance(opened, list) and len(opened) > 1 and _choices(opened) else opened, lost
            )
            if isinstance(opened, list) and len(opened) > 1 and _choices(opened):
                answer.choices = len(opened)
                lost["further choices of one request (kept the first)"] += 1
            if answer.message is not None:
                return answer
    text = _pick(at, "gen_ai.output.text", "ai.response.text", "ai.response.object", "llm.choices.0.completion.text")
    calls, thought = embedded(at.get("ai.response.toolCalls")), at.get("ai.response.reasoning")
    if text or isinstance(calls, list) or thought:
        body = {"role": "assistant", "content": text or "", "tool_calls": calls, "reasoning": thought}
        return Said(merged(parts.read_messages([body], lost)))
    for prefix, inner in (("llm.output_messages.", "message"), ("gen_ai.completion.", "")):
        rows = [_flat(row.get(inner, row) if inner else row, "assistant") for row in nested(at, prefix)]
        found_messages = parts.read_messages(rows, lost) if rows else []
        if found_messages:
            return Said(merged(found_messages), finish=finish_of(rows[-1].get("finish_reason")))
    reply = _heard(span, lost, choice=True)
    if reply:
        return Said(reply[0], choices=len(reply))
    for key in _ANSWERS:
        if at.get(key) is not None:
            written = at[key]
            # MLflow writes everything as JSON, also plain text.
            quoted = embedded(written) if key.startswith("mlflow.") and isinstance(written, str) else None
            answer = answer_of(quoted if quoted is not None else _opened(written), lost)
            if answer.message is not None:
                return answer
    return Said()


def _choices(value: list[Any]) -> bool:
    """Whether a list of output messages is a list of choices: each of them ends an answer."""
    return all(
        isinstance(item, dict) and item.get("role") == "assistant" and item.get("finish_reason") for item in value
    )


def _params(at: Attributes) -> dict[str, Any]:
    params = {
        key.removeprefix("gen_ai.request."): value for key, value in at.items() if key.startswith("gen_ai.request.")
    }
    written = (
        mapping(at.get("llm.invocation_parameters"))
        | mapping(at.get("langfuse.observation.model.parameters"))
        | mapping(at.get("model_request_parameters"))
    )
    settings = {key.removeprefix("ai.settings."): value for key, value in at.items() if key.startswith("ai.settings.")}
    made = asked({**settings, **written, **params})
    tools = tools_in(at)
    return {"tools": tools, **made} if tools else made


def _usage(at: Attributes) -> dict[str, int | None]:
    flat = {
        "prompt_tokens": count(_pick(at, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "llm.usage.prompt_tokens", "ai.usage.inputTokens", "ai.usage.promptTokens")),
        "completion_tokens": count(_pick(at, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion", "llm.usage.completion_tokens", "ai.usage.outputTokens", "ai.usage.completionTokens")),
        "cached_tokens": count(_pick(at, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens", "llm.token_count.prompt_details.cache_read", "ai.usage.cachedInputTokens", "gen_ai.usage.cached_tokens")),
    }  # fmt: skip
    for key in ("mlflow.chat.tokenUsage", "langfuse.observation.usage_details"):
        flat = or_else(flat, usage_of(mapping(at.get(key))))
    return flat


def _finish(at: Attributes) -> str | None:
    return finish_of(
        _opened(
            _pick(
                at,
                "gen_ai.response.finish_reasons",
                "gen_ai.response.finish_reason",
                "ai.response.finishReason",
                "llm.finish_reason",
            )
        )
    )


def _has(document: Any, marks: tuple[str, ...]) -> bool:
    try:
        return any(key.startswith(marks) for span in spans_of(document) for key in attributes_of(span))
    except (AttributeError, TypeError):
        return False


def is_span(row: Any) -> bool:
    """Whether an object is one span."""
    named = bool({"name", "span_name", "operationName", "spanId", "span_id", "context"} & row.keys())
    if isinstance(row.get("attributes", row.get("tags")), list | dict) and named:
        return True
    return any(
        isinstance(key, str) and key.startswith(("attributes.llm.", "attributes.gen_ai.", "attributes.input.value"))
        for key in row
    )


def is_container(document: Any) -> bool:
    """Whether an object holds spans, or is one."""
    keys = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs", "spans")
    if any(isinstance(document.get(key), list) for key in keys):
        return True
    data = document.get("data")
    return is_span(document) or (isinstance(data, dict) and isinstance(data.get("spans"), list))


OPENINFERENCE = Importer(
    "openinference",
    lambda row: (
        is_container(row)
        and _has(
            row,
            (
                "openinference.",
                "llm.input_messages",
                "llm.output_messages",
                "llm.token_count",
                "llm.model_name",
                "llm.prompts",
            ),
        )
    ),
    session=_traces,
    what="spans with flattened `llm.*` keys, from Phoenix (also its API and tables) or any exporter; failed calls are left out",
    marks=("attributes", "openinference.span.kind", "llm.input_messages", "span_kind", "context"),
)
OTEL_GENAI = Importer(
    "otel-genai",
    is_container,
    session=_traces,
    what="spans and log events with `gen_ai.*` keys, OpenLLMetry, Vercel's `ai.*`, MLflow, Logfire: OTLP/JSON, Jaeger, `{spans: [...]}`, single spans; of a call inside a call the inner one counts",
    marks=("resourceSpans", "spans", "attributes", "gen_ai.input.messages", "traceId", "spanId"),
)
