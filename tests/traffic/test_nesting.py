"""Calls inside calls count once; calls that follow others in the same trace all count."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.access import AccessRecord
from draftsmith.traffic.importers import read_records

BASE = 1_788_256_800
Span = tuple[str, str | None, float, float, list[dict[str, Any]], str]
"""(id, id of the one above, begin and end in seconds, what was asked, what was answered)."""


def user(said: str) -> dict[str, Any]:
    return {"role": "user", "content": said}


def assistant(said: str) -> dict[str, Any]:
    return {"role": "assistant", "content": said}


def iso(second: float) -> str:
    return f"2026-09-01T10:00:{second:06.3f}Z"


def otel(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"name": "chat m", "traceId": "t", "spanId": name, "parentSpanId": parent, "startTimeUnixNano": str(int((BASE + begin) * 1e9)),
            "endTimeUnixNano": str(int((BASE + end) * 1e9)), "attributes": {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(asked),
                                                                           "gen_ai.output.messages": json.dumps([assistant(said)])}}  # fmt: skip


def phoenix(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    at = {
        "openinference.span.kind": "LLM",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": said,
    }
    for place, message in enumerate(asked):
        at |= {f"llm.input_messages.{place}.message.{key}": value for key, value in message.items()}
    return {"name": "chat", "context": {"trace_id": "t", "span_id": name}, "parent_id": parent, "start_time": iso(begin), "end_time": iso(end), "attributes": at}  # fmt: skip


def langfuse(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"id": name, "traceId": "t", "type": "GENERATION", "parentObservationId": parent, "startTime": iso(begin), "endTime": iso(end), "input": asked, "output": said}  # fmt: skip


def langsmith(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"id": name, "trace_id": "t", "run_type": "llm", "parent_run_id": parent, "start_time": iso(begin), "end_time": iso(end),
            "inputs": {"messages": asked}, "outputs": {"choices": [{"message": assistant(said)}]}}  # fmt: skip


def braintrust(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"id": f"row-{name}", "span_id": name, "root_span_id": "t", "span_parents": [parent] if parent else None, "span_attributes": {"type": "llm"},
            "metrics": {"start": BASE + begin, "end": BASE + end}, "input": asked, "output": [{"message": assistant(said)}]}  # fmt: skip


def weave(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"id": name, "trace_id": "t", "parent_id": parent, "op_name": "chat", "started_at": iso(begin), "ended_at": iso(end),
            "inputs": {"messages": asked}, "output": {"choices": [{"message": assistant(said)}]}}  # fmt: skip


def datadog(one: Span) -> dict[str, Any]:
    name, parent, begin, end, asked, said = one
    return {"span_id": name, "trace_id": "t", "parent_id": parent or "undefined", "start_ns": int((BASE + begin) * 1e9), "duration": int((end - begin) * 1e9),
            "meta": {"span.kind": "llm", "input": {"messages": asked}, "output": {"messages": [assistant(said)]}}}  # fmt: skip


WRITERS: list[Callable[[Span], dict[str, Any]]] = [otel, phoenix, langfuse, langsmith, braintrust, weave, datadog]
LAYOUTS = ("lines", "backwards", "list")
FIRST: Span = ("a", None, 0, 1, [user("One?")], "1")
FOLLOWS: Span = ("b", "a", 2, 3, [user("One?"), assistant("1"), user("Two?")], "2")
INSIDE: Span = ("c", "a", 0.1, 0.9, [user("One?")], "1")


def read(rows: list[dict[str, Any]], layout: str, folder: Path) -> tuple[list[AccessRecord], Counter[str]]:
    rows = rows[::-1] if layout == "backwards" else rows
    path = folder / "log.jsonl"
    path.write_text(json.dumps(rows) if layout == "list" else "".join(json.dumps(row) + "\n" for row in rows))
    reasons: Counter[str] = Counter()
    return list(read_records([str(path)], on_skip=lambda reason, where, raw: reasons.update([reason]))), reasons


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", WRITERS)
def test_a_turn_that_hangs_below_the_turn_before_it_is_a_request(write: Any, layout: str, tmp_path: Path) -> None:
    records, reasons = read([write(FIRST), write(FOLLOWS)], layout, tmp_path)
    assert sorted(one.completion or "" for one in records) == ["1", "2"]
    assert not reasons


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("write", WRITERS)
def test_a_call_inside_a_call_counts_once_over_all_lines_of_a_file(write: Any, layout: str, tmp_path: Path) -> None:
    records, reasons = read([write(FIRST), write(INSIDE)], layout, tmp_path)
    assert [one.completion for one in records] == ["1"]
    assert records[0].timing is not None
    assert records[0].timing.latency_s == pytest.approx(0.8)
    assert reasons == Counter({"wrapper of another call (counted once)": 1})


def test_without_times_the_text_tells(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in langfuse(one).items() if key not in ("endTime", "startTime")}
        for one in (FIRST, FOLLOWS, INSIDE)
    ]
    records, _ = read([{"trace": {"id": "t"}, "observations": rows}], "lines", tmp_path)
    assert sorted(one.completion or "" for one in records) == ["1", "2"]


def test_other_work_between_two_calls_does_not_hide_that_one_is_inside_the_other(tmp_path: Path) -> None:
    step = {**otel(("s", "a", 0.05, 0.95, [], "")), "attributes": {"http.method": "POST"}}
    inner: Span = ("c", "s", 0.1, 0.9, [user("One?")], "1")
    records, reasons = read([otel(FIRST), step, otel(inner)], "backwards", tmp_path)
    assert len(records) == 1
    assert reasons == Counter({"wrapper of another call (counted once)": 1, "no model call among the spans": 1})


def test_an_outer_call_whose_inner_one_failed_is_the_one_that_counts(tmp_path: Path) -> None:
    failed = {**otel(INSIDE), "status": {"code": 2}}
    records, reasons = read([otel(FIRST), failed], "lines", tmp_path)
    assert [one.completion for one in records] == ["1"]
    assert reasons == Counter({"failed request": 1})
