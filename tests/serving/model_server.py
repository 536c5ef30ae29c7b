"""A little server that answers like the engine, behind the capture middleware, and clients that ask it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from draftsmith.recorder.middleware import CaptureMiddleware
from draftsmith.recorder.settings import CaptureSettings

WORDS = ("Good", " morning", ",\u2028", " \u00c5sa", ".")
URL = "http://server"


def chat(text: str = "Who is it?", **fields: Any) -> dict[str, Any]:
    return {"model": "target", "messages": [{"role": "user", "content": text}], **fields}


def settings(folder: Path, **changes: Any) -> CaptureSettings:
    return CaptureSettings(folder=folder / "traffic", **{"min_free_bytes": 0, **changes})


class ModelServer:
    """An ASGI application. `gate` holds a stream back after its first chunk until the client has seen that one."""

    def __init__(self) -> None:
        self.gate: asyncio.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.left = threading.Event()
        self.cut = 7  # bytes at which events are torn; clients and proxies see them so

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        self.loop = asyncio.get_running_loop()
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        try:
            body = json.loads(raw)
        except ValueError:
            return await self._plain(send, 400, {"error": {"message": "broken body"}})
        if scope["path"] == "/v1/models":
            return await self._plain(send, 200, {"data": []})
        if body.get("answer_status"):
            return await self._plain(send, body["answer_status"], {"error": {"message": "no"}})
        if body.get("stream"):
            return await self._stream(send, receive, body)
        return await self._plain(send, 200, whole(body), body.get("answer_raw"))

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _plain(self, send: Any, status: int, value: Any, raw: str | None = None) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw.encode() if raw else json.dumps(value).encode()})

    async def _stream(self, send: Any, receive: Any, body: dict[str, Any]) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        told = (
            b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events(body)) + b"data: [DONE]\n\n"
        )
        pieces = [told[at : at + self.cut] for at in range(0, len(told), self.cut)]
        for number, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if number == 0 and self.gate is not None:
                gone = asyncio.create_task(self._gone(receive))
                opened = asyncio.create_task(self.gate.wait())
                await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                if not opened.done():
                    opened.cancel()
                    return
        await send({"type": "http.response.body", "body": b""})

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


def events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A streamed answer: role first, then a word a chunk, usage last."""
    ids = bool(body.get("return_token_ids"))
    if body.get("answer_error"):
        yield {"choices": [{"index": 0, "delta": {"content": "half a"}}]}
        yield {"error": {"message": "the engine died"}}
        return
    first: dict[str, Any] = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    yield first | ({"prompt_token_ids": [1, 2, 3]} if ids else {})
    for number, word in enumerate(WORDS):
        delta = {"content": word} if "prompt" not in body else {}
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": None}
        choice |= {"token_ids": [10 + number]} if ids else {}
        choice |= {"text": word} if "prompt" in body else {}
        yield {"choices": [choice | ({"finish_reason": "stop"} if number == len(WORDS) - 1 else {})]}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
    counts = {"num_spec_steps": 2, "num_draft_tokens": 6, "num_accepted_draft_tokens": 3}
    yield {"choices": [], "usage": usage, "metrics": {"speculative_decoding": counts}}


def whole(body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
    if body.get("tools"):
        call = {"id": "c1", "function": {"name": "greet", "arguments": '{"who": "\u00c5sa"}'}}
        message = {"role": "assistant", "content": None, "reasoning": "Greet them.", "tool_calls": [call]}
    choices = [{"index": n, "message": message, "finish_reason": "stop"} for n in range(body.get("n", 1))]
    usage = {"prompt_tokens": 3, "completion_tokens": 5 * len(choices)}
    return {"id": "chatcmpl-client-chose-this", "choices": choices, "usage": usage}


class Place:
    """The server with its middleware, the folder it records into, and what is in there."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = settings(folder, **changes)
        self.server = ModelServer()
        self.app = CaptureMiddleware(self.server, self.settings)
        assert self.app.recorder is not None
        self.recorder = self.app.recorder

    def post(self, *bodies: Any, path: str = "/v1/chat/completions", **headers: str) -> list[httpx.Response]:
        """Send requests one after another; a body of bytes goes as it is."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=URL, headers=named) as client:
                return [
                    await client.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
                    for body in bodies
                ]

        return asyncio.run(send())

    def close(self) -> dict[str, int]:
        """End the recording; what became of every request."""
        self.recorder.close()
        return self.recorder.counts()

    def files(self) -> list[Path]:
        return sorted(self.settings.folder.glob("access-*.jsonl"))

    def records(self) -> list[dict[str, Any]]:
        self.close()
        return [json.loads(line) for path in self.files() for line in path.read_bytes().split(b"\n") if line]

    def stored(self) -> bytes:
        """Every byte of the folder, names included."""
        self.close()
        paths = [path for path in self.settings.folder.parent.rglob("*") if path.is_file()]
        return b"\n".join(path.name.encode() + path.read_bytes() for path in paths)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The application behind a real socket; its URL."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for what another thread does. Fails the test if it does not do it."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
