"""How a tool answers: values as JSON, errors with their next step, progress as notifications."""

from __future__ import annotations

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
from draftsmith.phases.base import Gate

LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
Value = TypeVar("Value")


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


class ProgressConsole:
    """The driver's console as progress notifications: messages for people, and a number that only grows."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self.context, self.count = context, 0

    def _send(self, text: str) -> None:
        self.count += 1
        anyio.from_thread.run(self.context.report_progress, float(self.count), None, text)

    def note(self, text: str) -> None:
        """See loop.base.Console."""
        self._send(text)

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """See loop.base.Console."""
        self._send(f"{phase}: {title}{f', taken over from {reused_from}' if reused_from else ''}")

    def progress(self, phase: str, progress: JobProgress) -> None:
        """See loop.base.Console."""
        total = f"/{progress.total:g}" if progress.total else ""
        self._send(f"{phase}: {progress.stage} {progress.done:g}{total} {progress.unit}".rstrip())

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """See loop.base.Console."""
        self._send(f"{phase}: {'passed' if gate.passed else 'STOPPED'}: {gate.headline}")

    def confirm(self, headline: str, phase: str) -> bool:
        """See loop.base.Console."""
        return True
