"""The page on Python is true: its examples run, in order, and it names every function there is."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "fakes"))

from loop_world import SOURCE, World

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@contextmanager
def server() -> Iterator[str]:
    """An OpenAI-compatible server that answers everything with five tokens."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            known = self.path.endswith("/models")
            self.send(200 if known else 404, json.dumps({"data": [{"id": "served"}]}).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            events = [{"choices": [{"index": 0, "delta": {"content": f"w{n} "}}]} for n in range(5)]
            events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            events.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
            body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
            self.send(200, body + b"data: [DONE]\n\n", "text/event-stream")

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


@pytest.mark.story
def test_the_examples_run_in_the_order_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCE), os.environ["PYTHONPATH"]]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with server() as first, server() as second:
        for number, example in enumerate(EXAMPLES, start=1):
            text = example.replace("http://127.0.0.1:8001", first).replace("http://127.0.0.1:8002", second)
            exec(compile(text, f"docs/python.md, example {number}", "exec"), names)
    assert len(EXAMPLES) >= 9
    assert names["view"].phase("corpus").state == "done"  # type: ignore[attr-defined]
    assert names["comparison"].decision.outcome == "INCONCLUSIVE"  # type: ignore[attr-defined]
    assert not world.alive()


def test_no_file_hides_a_function_of_its_name() -> None:
    from draftsmith import api

    files = {path.stem for path in Path(api.__file__).parent.glob("*.py")}
    hidden = {name for name in dir(api) if name in files}
    assert hidden == set(), "importing the file would put it in the function's place"


def test_the_page_names_every_function_and_no_other() -> None:
    from draftsmith import api

    functions = {name for name in dir(api) if name[0].islower()} - {"override"}
    table = PAGE[PAGE.index("## All functions") :]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == functions
