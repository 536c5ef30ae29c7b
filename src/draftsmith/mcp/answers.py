"""How a tool answers: values as JSON, errors with their next step, progress as notifications."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio.from_thread
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel

from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.job import JobProgress
from draftsmith.kit.clock import duration
from draftsmith.phases.base import Gate

LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
EVERY_S, BEAT_S = 1.0, 5.0
Value = TypeVar("Value")
Told = Context[Any, Any]  # a tool that takes it tells its caller how far it is


async def carried_out(work: Callable[[], Value]) -> dict[str, Any]:
    """Run a function of the api in a thread; its value as JSON. A deliberate error reaches the caller with its next step."""

    def body() -> Any:
        return plain(work())

    try:
        value = await anyio.to_thread.run_sync(body)
    except DraftsmithError as error:
        raise ToolError(f"{type(error).__name__}: {error}") from None
    return value if isinstance(value, dict) else {"result": value}


def plain(value: Any) -> Any:
    """A frozen value as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


async def told_on_the_way(context: Told, doing: str, work: Callable[[ProgressConsole], Value]) -> dict[str, Any]:
    """The same for long work: `doing` is called when it begins and again while it lasts, with what the work writes to its console."""
    console, error = ProgressConsole(context), None
    report: dict[str, Any] = {}
    await console.tell(doing)
    async with anyio.create_task_group() as group:
        group.start_soon(console.beat, doing)
        try:
            report = await carried_out(lambda: work(console))
        except ToolError as refused:  # out of the group, which would wrap it
            error = refused
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    await console.tell(f"{doing}: done")
    return report


class ProgressConsole:
    """The driver's console as progress notifications: messages for people, and a number that only grows.

    A client that disconnected receives nothing more; its work continues to the end.
    """

    def __init__(self, context: Told) -> None:
        self.context, self.count, self.stage = context, 0, ""
        self.told_s = time.monotonic()

    async def tell(self, text: str) -> None:
        """One notification."""
        self.count += 1
        self.told_s = time.monotonic()
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await self.context.report_progress(float(self.count), None, text)

    async def beat(self, doing: str) -> None:
        """Say that it still lasts, whenever nothing else was said for a while. Ends when it is cancelled."""
        began = time.monotonic()
        while True:
            await anyio.sleep(BEAT_S / 5)
            if time.monotonic() - self.told_s >= BEAT_S:
                await self.tell(f"{doing}, for {duration(time.monotonic() - began)}")

    def _send(self, text: str) -> None:
        anyio.from_thread.run(self.tell, text)

    def note(self, text: str) -> None:
        """See loop.base.Console."""
        self._send(text)

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """See loop.base.Console."""
        self._send(f"{phase}: {title}{f', taken over from {reused_from}' if reused_from else ''}")

    def progress(self, phase: str, progress: JobProgress) -> None:
        """See loop.base.Console. Not oftener than a person reads."""
        if progress.stage == self.stage and time.monotonic() - self.told_s < EVERY_S:
            return
        self.stage = progress.stage
        total = f"/{progress.total:g}" if progress.total else ""
        self._send(f"{phase}: {progress.stage} {progress.done:g}{total} {progress.unit}".rstrip())

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """See loop.base.Console."""
        self._send(f"{phase}: {'passed' if gate.passed else 'STOPPED'}: {gate.headline}")

    def confirm(self, headline: str, phase: str) -> bool:
        """See loop.base.Console."""
        return True
