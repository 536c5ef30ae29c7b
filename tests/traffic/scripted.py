"""A server that answers each request by a script: exact bytes, exact pieces, exact status codes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, list[bytes]]  # status, pieces of the body, each flushed by itself


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def streamed(*texts: str, ids: int = 1, prompt_ids: tuple[int, ...] = (1, 2, 3), finish: str = "stop") -> bytes:
    """A whole answer as vLLM streams it: token ids, the trailing usage chunk, [DONE]."""
    parts = []
    for number, text in enumerate(texts):
        last = number == len(texts) - 1
        chunk: dict[str, Any] = {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": text},
                    "token_ids": [10 + number] * ids,
                    "finish_reason": finish if last else None,
                }
            ]
        }
        if number == 0:
            chunk["prompt_token_ids"] = list(prompt_ids)
        parts.append(event(chunk))
    usage = {"prompt_tokens": len(prompt_ids), "completion_tokens": len(texts) * ids}
    spec = {"num_spec_steps": 4, "num_draft_tokens": 12, "num_accepted_draft_tokens": 7}
    parts.append(event({"choices": [], "usage": usage, "metrics": {"speculative_decoding": spec}}))
    return b"".join(parts) + b"data: [DONE]\n\n"


class Scripted:
    """`script(body, times seen)` gives the answer; None closes the connection without one."""

    def __init__(self, script: Callable[[dict[str, Any], int], Answer | None]) -> None:
        self.script = script
        self.seen: list[dict[str, Any]] = []
        self.in_flight = self.peak = 0
        self.lock = threading.Lock()
        self.url = ""

    def key(self, body: dict[str, Any]) -> str:
        return json.dumps(body.get("messages") or body.get("prompt"))


@contextlib.contextmanager
def serving(script: Callable[[dict[str, Any], int], Answer | None]) -> Iterator[Scripted]:
    state = Scripted(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(200, [json.dumps({"data": [{"id": "served"}]}).encode()])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with state.lock:
                times = sum(state.key(earlier) == state.key(body) for earlier in state.seen)
                state.seen.append(body)
                state.in_flight += 1
                state.peak = max(state.peak, state.in_flight)
            try:
                answer = state.script(body, times)
            finally:
                with state.lock:
                    state.in_flight -= 1
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            self.reply(*answer)

        def reply(self, status: int, pieces: list[bytes]) -> None:
            self.send_response(status)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in filter(None, pieces):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
