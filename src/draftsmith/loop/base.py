"""What a run is carried out with, and whom it talks to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from draftsmith.backends.base import Backend
from draftsmith.contract.job import JobProgress
from draftsmith.phases.base import Gate, Phase, PhaseContext
from draftsmith.phases.pipeline import JOBS, PIPELINE
from draftsmith.serving.base import Serving
from draftsmith.store.runs import Run

POLL_S = 0.3


class Console(Protocol):
    """What the driver tells the operator."""

    def note(self, text: str) -> None:
        """A line for people that belongs to no phase."""

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """A phase begins, or what an earlier run made from the same inputs is used."""

    def progress(self, phase: str, progress: JobProgress) -> None:
        """A job moved on."""

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """The gate's judgement of a phase."""

    def confirm(self, headline: str, phase: str) -> bool:
        """May the next phase start?"""
        ...


class Quiet:
    """A console for programs: nothing is shown, and every question is answered with yes."""

    def note(self, text: str) -> None:
        """See Console."""

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """See Console."""

    def progress(self, phase: str, progress: JobProgress) -> None:
        """See Console."""

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """See Console."""

    def confirm(self, headline: str, phase: str) -> bool:
        """See Console."""
        return True


QUIET: Console = Quiet()


@dataclass(frozen=True)
class Loop:
    """What a run is carried out with. `here`: runs what has to run beside this process (None = `backend`).

    `pipeline` names the phases in order, `jobs` carries out those that are jobs; `poll_s` is the pause between two looks
    at a job.
    """

    run: Run
    context: PhaseContext
    backend: Backend
    serving: Serving
    console: Console
    ask: bool
    stop_after: str | None = None
    here: Backend | None = None
    sleep: Callable[[float], None] = time.sleep
    pipeline: tuple[str, ...] = PIPELINE
    jobs: Mapping[str, Phase[Any, Any]] = field(default_factory=lambda: JOBS)
    poll_s: float = POLL_S
