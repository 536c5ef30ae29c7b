"""Telling open pages that something changed, so that they ask again: server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from draftsmith.api.watching import Watch

EVERY_S = 1.0
MOST = 64  # open pages
SIGN_OF_LIFE_S = 15.0


class Pulse:
    """One look a second at the files that a page shows, however many pages are open."""

    def __init__(self, watches: Sequence[Watch], every_s: float = EVERY_S) -> None:
        self.watches, self.every_s, self.open = watches, every_s, 0
        self._seen, self._at = "", float("-inf")

    def look(self) -> str:
        """What the watched files look like now."""
        if time.monotonic() - self._at >= self.every_s:
            text = repr([_files(watch) for watch in self.watches])
            self._seen, self._at = sha256(text.encode()).hexdigest(), time.monotonic()
        return self._seen

    async def stream(self, disconnected: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
        """Events for one page, until it is `gone`."""
        self.open += 1
        try:
            before, sent_at = await run_in_threadpool(self.look), time.monotonic()
            yield "retry: 2000\n\n"
            while not await disconnected():
                await asyncio.sleep(self.every_s)
                now = await run_in_threadpool(self.look)
                if now != before:
                    before, sent_at = now, time.monotonic()
                    yield "event: changed\ndata: -\n\n"
                elif time.monotonic() - sent_at > SIGN_OF_LIFE_S:
                    sent_at = time.monotonic()
                    yield ": still here\n\n"
        finally:
            self.open -= 1


def _files(watch: Watch) -> list[object]:
    place = watch.workspace
    heads, unreadable = watch.heads()
    paths = [place / "service-state.json", place / "controller" / "journal", place / "controller" / "look.json"]
    if heads:
        folder = Path(heads[0].folder)
        paths += [folder / "journal", folder / "bundle", *sorted(folder.glob("phases/*/progress.json"))]
        paths += sorted(folder.glob("phases/*/shard-*/progress.json"))
    return [len(heads), unreadable, [_stamp(path) for path in paths]]


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
