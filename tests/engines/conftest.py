"""A server that speaks vLLM's wire protocol from recorded answers, and the recorded logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Wire:
    """Recorded answers by path; a list is given out one by one, the last again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {"/health": [""]}
        self.seen: list[str] = []
        self.url = ""

    def speaks(self, path: str, *answers: object) -> None:
        self.answers[path] = [a if isinstance(a, str) else json.dumps(a) for a in answers]

    def next(self, path: str) -> str | None:
        self.seen.append(path)
        queue = self.answers.get(path)
        if queue is None:
            return None
        return queue.pop(0) if len(queue) > 1 else queue[0]


@pytest.fixture
def wire() -> Iterator[Wire]:
    state = Wire()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state.next(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def recorded() -> Callable[[str], str]:
    return lambda name: (HERE / name).read_text(encoding="utf-8")
