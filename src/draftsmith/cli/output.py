"""Output of commands: text for people, one JSON value on standard output for scripts."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic_core import to_json

from draftsmith.cli.progress import Progress
from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.job import JobProgress
from draftsmith.kit.clock import duration
from draftsmith.kit.logs import line
from draftsmith.phases.base import Gate


class Mode:
    """Set once by the command: whether results are JSON on standard output, and whether log lines are JSON on standard error."""

    json = False
    json_log = False


def show(value: Any, text: str | None = None) -> None:
    """Print a result: `value` as JSON with --json, else `text` (or nothing)."""
    if Mode.json:
        # A figure that is no number is null, as JSON has none; bytes are base64.
        print(to_json(value, indent=2, by_alias=True, inf_nan_mode="null", bytes_mode="base64").decode())
    elif text:
        print(text)


def say(text: str) -> None:
    """A line for people; on standard error with --json, so that standard output stays one JSON value."""
    if Mode.json_log:
        log("said", text)
        return
    print(text, file=sys.stderr if Mode.json else sys.stdout, flush=True)


def log(event: str, message: str, **fields: Any) -> None:
    """A log line, where those are asked for."""
    print(line(event, message, **fields), file=sys.stderr, flush=True)


def fail(error: DraftsmithError) -> None:
    """Print an error with its next step."""
    if Mode.json:
        value = {"error": error.message, "next_step": error.next_step, "kind": type(error).__name__}
        print(json.dumps(error.details | value | {"exit_code": error.exit_code}, indent=2))
    if Mode.json_log:
        kind = type(error).__name__
        log("failed", error.message, level="error", kind=kind, next_step=error.next_step, exit_code=error.exit_code)
        return
    print(f"error: {error.message}", file=sys.stderr)
    if error.next_step:
        print(f"next:  {error.next_step}", file=sys.stderr)


class RunConsole:
    """The driver's console on a terminal."""

    def __init__(self, ask: bool) -> None:
        self.ask = ask
        self.progress_line = Progress(json_log=Mode.json_log)
        self.said = ""

    def note(self, text: str) -> None:
        """See loop.base.Console."""
        self.progress_line.clear()
        say(text)

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """See loop.base.Console."""
        self.progress_line.clear()
        if Mode.json_log:
            log("phase_started", title, phase=phase, reused_from=reused_from)
            return
        say(f"{phase:8} {title}{f' (same inputs: taken over from {reused_from})' if reused_from else ''}")

    def progress(self, phase: str, progress: JobProgress) -> None:
        """See loop.base.Console."""
        if progress.said != self.said:
            new = progress.said.removeprefix(self.said)
            self.said = progress.said
            self.progress_line.clear()
            for sentence in filter(None, new.split("\n")):
                say(f"         {sentence}")
        self.progress_line(phase, progress)

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """See loop.base.Console."""
        self.progress_line.clear()
        if Mode.json_log:
            message = {"phase": phase, "passed": gate.passed, "wall_s": round(wall_s, 3), "details": list(gate.details)}
            log("phase_ended", gate.headline, level="info" if gate.passed else "warning", **message)
            return
        mark = "ok  " if gate.passed else "STOP"
        say(f"{phase:8} {mark} {gate.headline}  [{duration(wall_s)}]")
        for detail in gate.details:
            say(f"         - {detail}")

    def confirm(self, headline: str, phase: str) -> bool:
        """See loop.base.Console."""
        if not sys.stdin.isatty():
            say(f"not asked (no terminal): give --yes to go on to {phase} without asking")
            return False
        self.progress_line.clear()
        return input(f"go on to {phase}? [Y/n] ").strip().lower() in ("", "y", "yes")
