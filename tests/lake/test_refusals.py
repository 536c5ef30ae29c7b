"""Buckets that say no, in the words that S3 and MinIO use: forbidden, full, half-written, each told with what to do next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from lake_world import bundle

from draftsmith import api
from draftsmith.contract.errors import BackendError, DraftsmithError, PrerequisiteError
from draftsmith.lake import places

FULL = "Storage backend has reached its minimum free drive threshold. Please delete a few objects to proceed."


@contextmanager
def bucket(put: tuple[int, str, str], after: int = 0) -> Iterator[str]:
    """A server that holds nothing, takes `after` objects, and then answers every PUT with this error."""
    taken: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.answer(404)

        def do_GET(self) -> None:
            self.answer(200, b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>')

        def do_PUT(self) -> None:
            self.close_connection = True  # whatever of the body is not read must not be taken for the next request
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
            else:
                self.rfile.read(int(self.headers.get("content-length") or 0))
            if len(taken) < after:
                taken.append(self.path)
                self.answer(200, ETag='"x"')
                return
            status, code, message = put
            self.answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("put", "after", "error", "words"),
    [
        ((403, "AccessDenied", "Access Denied"), 0, PrerequisiteError, "access is denied"),
        ((507, "XMinioStorageFull", FULL), 0, PrerequisiteError, "it is full"),
        ((403, "AccessDenied", "Access Denied"), 2, PrerequisiteError, "access is denied"),
        ((400, "IncompleteBody", "The request body terminated unexpectedly"), 1, BackendError, "broke off"),
    ],
    ids=["forbidden", "full", "forbidden before its last object", "half-written"],
)
def test_what_a_bucket_refuses_is_said_and_waits(
    put: tuple[int, str, str],
    after: int,
    error: type[DraftsmithError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "ATTEMPTS", 1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing-hidden77")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with bucket(put, after) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(error, match=words) as refused:
            api.ship(bundle(tmp_path / "b"), "s3://perf-lake/drafts")
    assert refused.value.next_step
    assert "hidden77" not in str(refused.value)
