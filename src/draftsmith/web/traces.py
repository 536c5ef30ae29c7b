"""Runs and acts as OpenTelemetry spans, made from their journals: `spans_*` are pure, `export` sends.

Identities follow from run and event, so that sending a run again, or while it goes on, gives the same spans. Attributes hold
words and figures of the journal; no sentence, for an error may name a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from draftsmith.contract.control import ControlEvent
from draftsmith.contract.errors import BackendError, PrerequisiteError
from draftsmith.store.runs import Event

Value = str | float | bool


@dataclass(frozen=True)
class Span:
    """One span. Times in unix seconds; `trace`, `key` and `parent` are names that identities are made from."""

    trace: str
    key: str
    name: str
    start_unix_s: float
    end_unix_s: float
    parent: str | None = None
    failed: bool = False
    attributes: dict[str, Value] = field(default_factory=dict)


def spans_of_run(run_id: str, events: Sequence[Event]) -> list[Span]:
    """The run, and in it every attempt at a phase that ended. Empty for a journal without events."""
    if not events:
        return []
    spans: list[Span] = []
    begun: dict[str, float] = {}
    for event in events:
        phase = event.phase or ""
        if event.kind in ("submitted", "adopted", "intent"):
            begun.setdefault(phase, event.at_unix_s)
        if event.kind not in ("phase_done", "phase_failed"):
            continue
        wall = float((event.data.get("result") or {}).get("wall_s") or 0.0)
        attributes: dict[str, Value] = {"draftsmith.run.id": run_id, "draftsmith.phase": phase}
        if event.kind == "phase_done":
            attributes["draftsmith.gate.passed"] = bool(event.data.get("passed", True))
        start = begun.pop(phase, event.at_unix_s - wall)
        spans.append(
            Span(
                run_id,
                f"{phase}/{event.number}",
                phase,
                start,
                event.at_unix_s,
                run_id,
                event.kind == "phase_failed",
                attributes,
            )
        )
    start, end = events[0].at_unix_s, events[-1].at_unix_s
    return [Span(run_id, run_id, "run", start, end, attributes={"draftsmith.run.id": run_id}), *spans]


def spans_of_acts(model: str, events: Iterable[ControlEvent]) -> list[Span]:
    """Each act of the controller from its intent to its effect or its failure, a trace of its own."""
    spans, began = [], None
    for event in events:
        if event.kind == "intent":
            began = event
        if event.kind not in ("effect", "failed"):
            continue
        act = event.act_kind or (began.act_kind if began else None) or "act"
        start = began.at_unix_s if began else event.at_unix_s
        key = f"{model}/{event.number}"
        attributes: dict[str, Value] = {"draftsmith.model": model, "draftsmith.act": act}
        spans.append(Span(key, key, f"act {act}", start, event.at_unix_s, None, event.kind == "failed", attributes))
        began = None
    return spans


def export(spans: Sequence[Span], endpoint: str) -> int:
    """Send them by OTLP over HTTP; how many. Raises PrerequisiteError without the extra, BackendError if it is not taken."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExportResult
        from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
    except ImportError as error:
        raise PrerequisiteError(f"traces need {error.name}", "pip install 'draftsmith[otel]'") from None

    resource = Resource({"service.name": "draftsmith"})

    def context(span: Span, key: str) -> SpanContext:
        return SpanContext(
            _number(span.trace, 16), _number(f"{span.trace}:{key}", 8), False, TraceFlags(TraceFlags.SAMPLED)
        )

    made = [
        ReadableSpan(
            name=span.name,
            context=context(span, span.key),
            parent=context(span, span.parent) if span.parent else None,
            resource=resource,
            attributes=span.attributes,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.OK),
            start_time=int(span.start_unix_s * 1e9),
            end_time=int(span.end_unix_s * 1e9),
        )
        for span in spans
    ]
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=10)
    try:
        if made and exporter.export(made) is not SpanExportResult.SUCCESS:
            raise BackendError(
                "the collector did not take the spans", "is it there, and is --endpoint its address for OTLP over HTTP?"
            )
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    return len(made)


def _number(text: str, size: int) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:size], "big") or 1
