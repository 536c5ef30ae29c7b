"""Stores of traces whose records a layout describes: Braintrust, Weave, LangSmith, Datadog. Calls inside calls count once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from draftsmith.traffic.importers.base import Importer, mapping
from draftsmith.traffic.importers.layout import MISSING, Layout, look, path_of
from draftsmith.traffic.importers.nesting import Nest, Row, made

_BRAINTRUST = Layout(
    prompt="input",
    answer="output",
    params="metadata",
    prompt_tokens="metrics.prompt_tokens",
    completion_tokens="metrics.completion_tokens",
    cached_tokens="metrics.prompt_cached_tokens",
    start=("metrics.start", "created"),
    end="metrics.end",
    ttft_s="metrics.time_to_first_token",
    model="metadata.model",
    id=("span_id", "id"),
    conversation="root_span_id",
    route="span_attributes.name",
    failed="error",
)
_WEAVE = Layout(
    prompt="inputs",
    answer="output",
    usage="summary.usage.*",
    start="started_at",
    end="ended_at",
    model=("inputs.model", "output.model"),
    id="id",
    conversation=("thread_id", "trace_id"),
    failed="exception",
)
_LANGSMITH = Layout(
    prompt="inputs",
    answer="outputs",
    prompt_tokens=("prompt_tokens", "outputs.usage_metadata.input_tokens"),
    completion_tokens=("completion_tokens", "outputs.usage_metadata.output_tokens"),
    usage=(
        "outputs.llm_output.token_usage",
        "outputs.llm_output.usage",
        "outputs.generations[0][0].message.kwargs.usage_metadata",
        "outputs.message.kwargs.usage_metadata",
        "extra.metadata.usage_metadata",
    ),
    start="start_time",
    end="end_time",
    first="first_token_time",
    params=("extra.invocation_params",),
    model=("extra.metadata.ls_model_name", "extra.invocation_params.model"),
    id="id",
    conversation=("session_id", "trace_id"),
    route="name",
    failed="error",
)
_DATADOG = Layout(
    prompt=("attributes.input.messages", "attributes.input.value", "meta.input.messages", "meta.input.value"),
    answer=("attributes.output.messages", "attributes.output.value", "meta.output.messages", "meta.output.value"),
    params=("attributes.metadata", "meta.metadata"),
    prompt_tokens=("attributes.metrics.input_tokens", "metrics.input_tokens"),
    completion_tokens=("attributes.metrics.output_tokens", "metrics.output_tokens"),
    cached_tokens=("attributes.metrics.cache_read_input_tokens", "metrics.cache_read_input_tokens"),
    start=("attributes.start_ns", "start_ns"),
    latency_ns=("attributes.duration", "duration"),
    model=("attributes.model_name", "meta.model_name", "meta.metadata.model_name"),
    id=("attributes.span_id", "span_id", "id"),
    conversation=("attributes.session_id", "session_id", "attributes.trace_id", "trace_id"),
    route=("attributes.ml_app", "ml_app"),
    failed=("attributes.error", "error"),
)


_NO_CALL = "not a generation request"


@dataclass(frozen=True)
class _Traces:
    """Rows of a store that hang together: stores keep other work beside the calls, and calls inside calls."""

    layout: Layout
    is_call: Callable[[Any], bool]
    trace: tuple[str, ...]
    id: tuple[str, ...]
    parent: tuple[str, ...]
    ended: Callable[[Any, Any], Any] | None = None

    def rows(self, row: Any) -> Iterator[Row]:
        """The one row of a value."""
        start, end = self.layout.get(row, "start"), self.layout.get(row, "end")
        yield Row(
            _at(row, self.trace),
            _at(row, self.id),
            _at(row, self.parent),
            start,
            self.ended(row, start) if self.ended else end,
            made(partial(self.layout.record, row)) if self.is_call(row) else None,
        )

    def __call__(self) -> Nest:
        return Nest(self.rows, _NO_CALL)


def _at(row: Any, paths: tuple[str, ...]) -> Any:
    values = (look(row, path_of(path)) for path in paths)
    return next((item for item in values if item is not MISSING and item not in (None, "", "undefined")), None)


def _is_langsmith_call(row: Any) -> bool:
    return str(row.get("run_type")).lower() in ("llm", "chat_model")


def _is_braintrust_call(row: Any) -> bool:
    kind = mapping(row.get("span_attributes")).get("type")
    return kind is None or str(kind).lower() == "llm"


def _is_weave_call(row: Any) -> bool:
    inputs = mapping(row.get("inputs"))
    return any(inputs.get(key) not in (None, "") for key in ("messages", "prompt", "input", "contents"))


def _is_datadog_call(row: Any) -> bool:
    at, meta = mapping(row.get("attributes")), mapping(row.get("meta"))
    return str(at.get("span_kind") or meta.get("span.kind") or meta.get("kind")).lower() == "llm"


def _datadog_end(row: Any, start: Any) -> Any:
    took = _DATADOG.get(row, "latency_ns")
    return start + took if isinstance(start, int) and isinstance(took, int) else None


_BRAINTRUST_TRACES = _Traces(_BRAINTRUST, _is_braintrust_call, ("root_span_id",), ("span_id",), ("span_parents[0]",))
_WEAVE_TRACES = _Traces(_WEAVE, _is_weave_call, ("trace_id",), ("id",), ("parent_id",))
_LANGSMITH_TRACES = _Traces(_LANGSMITH, _is_langsmith_call, ("trace_id",), ("id",), ("parent_run_id",))
_DATADOG_TRACES = _Traces(
    _DATADOG,
    _is_datadog_call,
    ("attributes.trace_id", "trace_id"),
    ("attributes.span_id", "span_id"),
    ("attributes.parent_id", "parent_id"),
    _datadog_end,
)


def _is_datadog(row: Any) -> bool:
    at = row.get("attributes")
    if isinstance(at, dict) and "span_kind" in at:
        return True
    return isinstance(row.get("meta"), dict) and isinstance(row["meta"].get("input"), dict) and "span_id" in row


TRACE_STORES = (
    Importer("braintrust", lambda row: isinstance(row.get("span_attributes"), dict) and ("root_span_id" in row or "metrics" in row),
             session=_BRAINTRUST_TRACES, what="log rows of Braintrust",
             marks=("span_attributes", "root_span_id", "metrics", "input", "output", "metadata")),
    Importer("weave", lambda row: "op_name" in row and "inputs" in row, session=_WEAVE_TRACES, what="calls of Weave",
             marks=("op_name", "inputs", "output", "started_at", "ended_at", "summary")),
    Importer("langsmith", lambda row: "run_type" in row and "inputs" in row,
             session=_LANGSMITH_TRACES, what="runs of LangSmith",
             marks=("run_type", "inputs", "outputs", "start_time", "end_time", "extra")),
    Importer("datadog", _is_datadog, session=_DATADOG_TRACES, lacks=("tools",), what="spans of Datadog's LLM observability",
             marks=("attributes", "span_kind", "meta", "metrics")),
)  # fmt: skip
"""In the order in which they are asked."""
