"""Recording a served model's traffic from inside the server, for `vllm serve --middleware`.

    DRAFTSMITH_CAPTURE_DIR=/var/lib/traffic vllm serve MODEL --middleware draftsmith.recorder.middleware.CaptureMiddleware

Law: the client's answer comes first and is never changed. Chunks are sent on before they are copied, copies are references,
and everything else happens in one writer thread behind a bounded queue. What does not fit is dropped and counted. No fault
of the recording reaches a request. See docs/recording.md.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from draftsmith.contract.errors import ConfigError
from draftsmith.recorder.files import CaptureFiles
from draftsmith.recorder.policy import KeyPolicy, by_headers
from draftsmith.recorder.record import Exchange, UnusableError, line_of
from draftsmith.recorder.settings import CaptureSettings, from_environment

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ENDPOINTS = ("/chat/completions", "/completions")
REST_S = 0.0002
TEND_EVERY_S = 30.0
CLOSE_WITHIN_S = 10.0
log = logging.getLogger("vllm.draftsmith.capture")  # below the server's own logger, so that its log shows our few lines


class CaptureMiddleware:
    """A plain ASGI middleware. Without settings it reads DRAFTSMITH_CAPTURE_*; wrong ones switch recording off, loudly."""

    def __init__(self, app: App, settings: CaptureSettings | None = None) -> None:
        self.app = app
        self.recorder: Recorder | None = None
        try:
            self.recorder = Recorder(settings or from_environment(os.environ))
        except ConfigError as error:
            log.error("traffic is NOT recorded: %s", error)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on; copy it on the way if it may be recorded."""
        recorder = self.recorder
        if scope["type"] == "lifespan" and recorder is not None:
            try:
                await self.app(scope, receive, send)
            finally:
                await asyncio.to_thread(recorder.close)
            return
        tap = recorder.tap(scope) if recorder is not None and scope["type"] == "http" else None
        if tap is None:
            await self.app(scope, receive, send)
            return

        async def heard() -> Message:
            message = await receive()
            tap.asked(message)
            return message

        async def told(message: Message) -> None:
            await send(message)
            tap.answered(message)

        try:
            await self.app(scope, heard, told)
        finally:
            tap.finish()


class Recorder:
    """One server process's recording: decides by headers at once, and leaves the rest to its writer thread.

    `counts` says what became of every request to the two endpoints: recorded, or the reason why not.
    """

    def __init__(self, settings: CaptureSettings) -> None:
        self.settings = settings
        # Of the event loop and of the writer: adding to a shared counter from two threads would lose some.
        self._here: Counter[str] = Counter()
        self._there: Counter[str] = Counter()
        self._policy = KeyPolicy(settings.keys) if settings.keys else None
        self._queue: queue.Queue[Exchange | None] = queue.Queue(settings.queue)
        # Bytes taken by the event loop and given back by the writer: one side writes each, so neither needs a lock.
        self._taken = self._given_back = 0
        self._writer: threading.Thread | None = None
        self._problem: str | None = None
        self._closed = False
        log.warning("traffic is recorded: %g of all %ss", settings.rate, settings.by)

    def counts(self) -> dict[str, int]:
        """Outcome -> requests."""
        return dict(sorted((Counter(self._here) + Counter(self._there)).items()))

    @property
    def held_bytes(self) -> int:
        """Bytes of copies that are in memory now."""
        return self._taken - self._given_back

    def tap(self, scope: Message) -> Tap | None:
        """A tap for this request, or None if it is not to be recorded. Never raises."""
        try:
            if self._closed or scope.get("method") != "POST" or not scope["path"].endswith(ENDPOINTS):
                return None
            allowed = by_headers(scope["headers"], self._policy)
            if self._policy is not None and self._policy.problem != self._problem:
                self._problem = self._policy.problem
                log.warning("%s", self._problem or "the key policy is in use again")
            if not allowed.allowed:
                self._here["opted_out"] += 1
                return None
            return Tap(self, Exchange(scope["path"], allowed.route, time.time()))
        except Exception:
            self._here["failed_recording"] += 1
            return None

    def take(self, exchange: Exchange, size: int) -> bool:
        """Reserve memory for a copy. False: this request has become too large, or all together have."""
        exchange.size += size
        self._taken += size
        if exchange.size > self.settings.record_bytes:
            self._here["too_large"] += 1
            return False
        if self.held_bytes > self.settings.memory_bytes:
            self._here["dropped"] += 1
            return False
        return True

    def release(self, exchange: Exchange) -> None:
        """Give back what a request took, from the event loop."""
        self._taken -= exchange.size
        exchange.size = 0

    def submit(self, exchange: Exchange) -> None:
        """Hand a finished request to the writer, or drop it if the writer is behind or cannot be. Never raises."""
        try:
            if self._writer is None:
                self._start()
            self._queue.put_nowait(exchange)
        except queue.Full:
            self._here["dropped"] += 1
            self.release(exchange)
        except RuntimeError:  # no further thread: the limit of the machine, or the interpreter is ending
            self._here["failed_recording"] += 1
            self.release(exchange)

    def _start(self) -> None:
        """Not before the first request: a server may fork its workers after the application is built."""
        writer = threading.Thread(target=self._write, name="draftsmith-capture", daemon=True)
        writer.start()
        self._writer = writer
        atexit.register(self.close)

    def close(self) -> None:
        """Write what is waiting, within a few seconds, and end the writer. Harmless twice."""
        self._closed = True
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._queue.put(None, timeout=CLOSE_WITHIN_S)
            except queue.Full:
                return
            writer.join(CLOSE_WITHIN_S)

    def _write(self) -> None:
        files = CaptureFiles(self.settings, lambda text: log.warning("%s", text))
        tended = time.monotonic()
        try:
            while True:
                try:
                    exchange = self._queue.get(timeout=TEND_EVERY_S)
                    if exchange is None:
                        return
                    self._keep(files, exchange)
                except queue.Empty:
                    pass
                if time.monotonic() - tended >= TEND_EVERY_S:
                    tended = time.monotonic()
                    files.tend()
                    files.note(self.counts())
        finally:
            files.close()
            files.note(self.counts())

    def _keep(self, files: CaptureFiles, exchange: Exchange) -> None:
        size = exchange.size
        try:
            line = line_of(exchange, self.settings.rate, self.settings.by, lambda: time.sleep(REST_S))
            self._there["recorded" if files.add(line) else "not_written"] += 1
        except UnusableError as unusable:
            self._there[unusable.reason] += 1
        except Exception:  # a body of an unexpected shape must not end the recording; none of it is logged
            self._there["failed_recording"] += 1
        finally:
            self._given_back += size


class Tap:
    """Copies of one request on its way. Its methods never raise."""

    def __init__(self, recorder: Recorder, exchange: Exchange) -> None:
        self._recorder = recorder
        self._exchange: Exchange | None = exchange
        self._start = time.perf_counter()

    def asked(self, message: Message) -> None:
        """A part of the request was read by the application."""
        exchange = self._exchange
        if exchange is not None and message["type"] == "http.request" and (body := message.get("body")):
            exchange.request.append(body)
            self._count(exchange, len(body))

    def answered(self, message: Message) -> None:
        """A part of the answer was sent to the client."""
        exchange = self._exchange
        if exchange is None:
            return
        if message["type"] == "http.response.body":
            if body := message.get("body"):
                exchange.chunks.append((time.perf_counter() - self._start, body))
                self._count(exchange, len(body))
            exchange.ended = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            exchange.status = message["status"]
            for name, value in message.get("headers", ()):
                if name.lower() == b"content-type":
                    exchange.content_type = value
                elif name.lower() == b"content-encoding":
                    exchange.encoded = True

    def finish(self) -> None:
        """The application is done with the request, one way or another."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._recorder.submit(exchange)

    def _count(self, exchange: Exchange, size: int) -> None:
        if not self._recorder.take(exchange, size):
            self._exchange = None
            self._recorder.release(exchange)
