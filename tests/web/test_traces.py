"""Runs and acts as spans: what a collector is sent, that it is the same each time, and that a collector's absence is said."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from watched import add_run, controlled

from draftsmith.contract.errors import BackendError
from draftsmith.controller.journal import Journal
from draftsmith.web.traces import export, spans_of_acts, spans_of_run


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Takes OTLP over HTTP and decodes it by OpenTelemetry's own schema."""
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            request = ExportTraceServiceRequest.FromString(body)
            taken.extend(span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", taken
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_is_one_trace_and_sent_again_it_is_the_same(tmp_path: Path) -> None:
    run = add_run(tmp_path, "r1", done=3)
    run.append("submitted", "train", attempt=1)
    run.append("phase_failed", "train", error="no room in /secret/place", next_step="x")
    spans = spans_of_run("r1", run.events())
    with collector() as (url, taken):
        assert export(spans, url) == 5
        assert export(spans, url) == 5
    assert [span.name for span in taken[:5]] == ["run", "profile", "corpus", "capture", "train"]
    assert len({span.trace_id for span in taken}) == 1
    assert [span.span_id for span in taken[:5]] == [span.span_id for span in taken[5:]]
    root = taken[0]
    assert all(span.parent_span_id == root.span_id for span in taken[1:5])
    assert [span.status.code for span in taken[:5]] == [1, 1, 1, 1, 2]
    assert taken[1].end_time_unix_nano - taken[1].start_time_unix_nano == pytest.approx(12e9, rel=0.01)
    assert "secret" not in str(taken)


def test_each_act_is_a_trace_from_intent_to_effect(tmp_path: Path) -> None:
    controlled(tmp_path)
    journal = Journal(tmp_path)
    journal.append("intent", "x", act={"kind": "repair", "why": "x"})
    journal.append("failed", "could not", retry_s=1.0)
    spans = spans_of_acts("tiny", journal.events())
    assert [(span.name, span.failed) for span in spans] == [
        ("act adopt", False),
        ("act propose", False),
        ("act repair", True),
    ]
    assert len({span.trace for span in spans}) == 3


def test_no_collector_is_said(caplog: pytest.LogCaptureFixture) -> None:
    run = spans_of_run("r", [])
    assert run == []
    from draftsmith.web.traces import Span

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(BackendError, match="did not take"):
            export([Span("t", "k", "run", 1.0, 2.0)], f"http://127.0.0.1:{server.server_port}/v1/traces")
    finally:
        server.shutdown()
        server.server_close()
