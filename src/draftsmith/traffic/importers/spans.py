"""Spans and events out of every container that carries them, with their attributes as one flat object.

Containers met: OTLP/JSON (`resourceSpans`, `resourceLogs`), Jaeger's exports, MLflow's traces, `{spans: [...]}`, Phoenix's lists and
tables, and single spans. Attributes come as an object, as nested objects, or as OTLP's list of `{key, value: {stringValue | ...}}`,
where integers are strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import embedded, mapping
from draftsmith.traffic.importers.pyrepr import evaluated

Attributes = dict[str, Any]
_ROOTS = ("llm", "gen_ai", "openinference", "input", "output", "ai", "session", "metadata", "mlflow", "langfuse")


def spans_of(document: Any) -> Iterator[dict[str, Any]]:
    """The spans (or log records) of a document; the document itself if it is one."""
    if isinstance(document.get("resourceSpans", document.get("resource_spans")), list):
        yield from _otlp_rows(
            document.get("resourceSpans", document.get("resource_spans")), ("scopeSpans", "scope_spans"), ("spans",)
        )
    elif isinstance(document.get("resourceLogs", document.get("resource_logs")), list):
        rows = _otlp_rows(
            document.get("resourceLogs", document.get("resource_logs")),
            ("scopeLogs", "scope_logs"),
            ("logRecords", "log_records"),
        )
        yield from _joined(list(rows))
    elif isinstance(document.get("spans"), list):
        yield from (span for span in document["spans"] if isinstance(span, dict))
    elif isinstance(mapping(document.get("data")).get("spans"), list):
        yield from (span for span in mapping(document["data"])["spans"] if isinstance(span, dict))
    else:
        yield document


def _otlp_rows(resources: Any, scopes: tuple[str, ...], leaves: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        resource = mapping(resource)
        about = _listed(mapping(resource.get("resource")).get("attributes"))
        for scope in next((resource[key] for key in scopes if isinstance(resource.get(key), list)), ()):
            scope = mapping(scope)
            for row in next((scope[key] for key in leaves if isinstance(scope.get(key), list)), ()):
                if isinstance(row, dict):
                    yield {"resource_attributes": about, **row} if about else row


_SAID = (
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
)


def _joined(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Log records, those of one call (a message each) as the events of one span."""
    calls: dict[Any, dict[str, Any]] = {}
    for row in rows:
        name = row.get("eventName", row.get("event_name")) or attributes_of(row).get("event.name")
        key = (row.get("traceId"), row.get("spanId"))
        if name in _SAID and key != (None, None):
            body = _value(row.get("body"))
            call = calls.setdefault(
                key, {"name": "chat", "traceId": key[0], "spanId": key[1], "attributes": {}, "events": []}
            )
            call["attributes"] |= {at: value for at, value in attributes_of(row).items() if at.startswith("gen_ai.")}
            call["attributes"].setdefault("gen_ai.operation.name", "chat")
            call["events"].append({"name": name, "attributes": body if isinstance(body, dict) else {"content": body}})
        else:
            yield row
    yield from calls.values()


def attributes_of(span: dict[str, Any]) -> Attributes:
    """The attributes under dotted names, with those of events that belong to the call."""
    raw = span.get("attributes", span.get("tags"))
    attributes = dict(raw) if isinstance(raw, dict) else _listed(raw)
    if not isinstance(raw, dict | list):
        # A table of spans has a column for every attribute.
        attributes = {
            key.removeprefix("attributes."): value
            for key, value in span.items()
            if key.startswith(("attributes.", "gen_ai.", "llm."))
        }
    for key in _ROOTS:
        if isinstance(attributes.get(key), dict):
            _flatten(attributes, key, attributes.pop(key))
    for key in ("llm.input_messages", "llm.output_messages", "llm.tools"):
        if isinstance(attributes.get(key), str):
            attributes[key] = _table_cell(attributes[key])
    for key in [
        key
        for key, value in attributes.items()
        if isinstance(value, list) and key in ("llm.input_messages", "llm.output_messages", "llm.tools")
    ]:
        _flatten(attributes, key, attributes[key])
    for event in span.get("events") or ():
        name = event.get("name") if isinstance(event, dict) else None
        if isinstance(name, str) and name.startswith(("gen_ai.content", "gen_ai.client")):
            attributes |= {
                key: value
                for key, value in attributes_of({"attributes": event.get("attributes")}).items()
                if value is not None
            }
    return attributes


def _table_cell(written: str) -> Any:
    """A list in a cell of a table: as JSON, or as Python prints it."""
    opened = embedded(written)
    return evaluated(written) if opened is None else opened


def _flatten(attributes: Attributes, prefix: str, value: Any, depth: int = 0) -> None:
    if isinstance(value, dict) and value and depth < 10:
        for key, item in value.items():
            _flatten(attributes, f"{prefix}.{key}", item, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and depth < 10:
        for at, item in enumerate(value):
            _flatten(attributes, f"{prefix}.{at}", item, depth + 1)
    else:
        attributes[prefix] = value


def _listed(raw: Any) -> Attributes:
    if not isinstance(raw, list):
        return {}
    return {str(item["key"]): _value(item.get("value")) for item in raw if isinstance(item, dict) and "key" in item}


def _value(value: Any) -> Any:
    """A value of OTLP's, unwrapped."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    kind, inner = next(iter(value.items()))
    if kind in ("intValue", "int_value"):
        return int(inner) if str(inner).lstrip("-").isdigit() else inner
    if kind in ("arrayValue", "array_value"):
        return [_value(item) for item in mapping(inner).get("values") or []]
    if kind in ("kvlistValue", "kvlist_value"):
        return {
            str(item.get("key")): _value(item.get("value"))
            for item in mapping(inner).get("values") or []
            if isinstance(item, dict)
        }
    return inner if kind.endswith(("Value", "_value")) else value


def nested(at: Attributes, prefix: str) -> list[dict[str, Any]]:
    """Objects from keys such as `llm.input_messages.0.message.content`, in the order of their numbers."""
    rows: dict[int, dict[str, Any]] = {}
    for key, value in at.items():
        if not key.startswith(prefix):
            continue
        number, _, rest = key[len(prefix) :].partition(".")
        if not number.isdigit() or len(number) > 6:
            continue
        if rest:
            _put(rows.setdefault(int(number), {}), rest.split("."), value)
        elif isinstance(value, dict):
            rows.setdefault(int(number), {}).update(value)
    return [_lists(rows[number]) for number in sorted(rows)]


def tools_in(at: Attributes) -> list[Any]:
    """The tools that a model was offered, as the attributes of its call hold them."""
    parameters = mapping(at.get("model_request_parameters"))
    tools: Any = (
        [mapping(row.get("tool")).get("json_schema", row) for row in nested(at, "llm.tools.")]
        or nested(at, "llm.request.functions.")
        or embedded(at.get("gen_ai.tool.definitions"))
        or embedded(at.get("ai.prompt.tools"))
        or [*(parameters.get("function_tools") or ()), *(parameters.get("output_tools") or ())]
    )
    return tools if isinstance(tools, list) else []


def _put(row: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = row.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        row = inner
    row.setdefault(steps[-1], value)


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(key, str) and key.isdigit() for key in value):
        return [_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _lists(item) for key, item in value.items()}


def span_id(span: dict[str, Any]) -> Any:
    """The span's own id."""
    return _first(span, ("spanId", "span_id", "spanID", "context.span_id")) or _first(
        _context(span), ("spanId", "span_id")
    )


def parent_id(span: dict[str, Any]) -> Any:
    """The id of the span above it."""
    parent = _first(span, ("parentSpanId", "parent_id", "parentId", "parent_span_id"))
    if parent is None and isinstance(span.get("references"), list):  # Jaeger
        parent = next(
            (reference.get("spanID") for reference in span["references"] if isinstance(reference, dict)), None
        )
    return parent


def trace_id(span: dict[str, Any]) -> Any:
    """The id of its trace."""
    return _first(span, ("traceId", "trace_id", "traceID", "context.trace_id")) or _first(
        _context(span), ("traceId", "trace_id")
    )


def _context(span: dict[str, Any]) -> dict[str, Any]:
    return mapping(span.get("spanContext") or span.get("context"))


def _first(source: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((source[key] for key in keys if source.get(key) not in (None, "")), None)


def failed(span: dict[str, Any], at: Attributes) -> bool:
    """Whether the call failed."""
    status = mapping(span.get("status"))
    codes = (
        status.get("code"),
        status.get("status_code"),
        status.get("statusCode"),
        span.get("status_code"),
        span.get("statusCode"),
    )
    bad = (2, "2", "ERROR", "STATUS_CODE_ERROR", "StatusCode.ERROR")
    return (
        any(code in bad or (isinstance(code, str) and code.upper() == "ERROR") for code in codes)
        or bool(at.get("error.type"))
        or at.get("error") is True
    )


def times(span: dict[str, Any]) -> tuple[Any, Any, float | None]:
    """(start, end, seconds that it took where only that is logged)."""
    start = _first(
        span,
        (
            "startTimeUnixNano",
            "start_time_unix_nano",
            "start_time",
            "startTime",
            "start_timestamp",
            "start_time_ns",
            "timestamp",
        ),
    )
    end = _first(span, ("endTimeUnixNano", "end_time_unix_nano", "end_time", "endTime", "end_timestamp", "end_time_ns"))
    took = None
    if end is None and "operationName" in span and isinstance(span.get("duration"), int):
        took = span["duration"] / 1e6  # Jaeger counts microseconds
    return start, end, took
