"""A run of the controller, in a process of its own: `python -m draftsmith.api.child request.json`.

Up to a verdict that would promote, the run is carried out and stops there: whether it is promoted, and how, the controller
decides. Any other verdict promotes nothing, and the run goes on to its end and its report.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from draftsmith.api.cluster import DryRun
from draftsmith.api.runs import RunRequest, get_run
from draftsmith.api.service import carry_out
from draftsmith.contract.config import Config
from draftsmith.contract.control import Outcome
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.job import JobProgress
from draftsmith.contract.jobs import PhaseResult
from draftsmith.contract.speculation import SpecConfig
from draftsmith.contract.view import RunView, VerdictView
from draftsmith.controller.jobs import ChildRequest
from draftsmith.loop.base import Quiet
from draftsmith.loop.driver import results
from draftsmith.phases.base import Gate
from draftsmith.work.job import Job, run_job


class ChildResult(PhaseResult):
    """What the controller wants to know of a run: fields as in RunSeen and, after a promotion, of what serves now."""

    PHASE: ClassVar[str] = "the controller's run"
    OUTPUTS: ClassVar[tuple[str, ...]] = (
        "run_id", "outcome", "tier", "why", "gpu_hours", "floor_al", "config", "acceptance_length", "promoted", "headline",
    )  # fmt: skip

    run_id: str
    outcome: Outcome
    tier: str | None = None
    why: str
    gpu_hours: float
    floor_al: float | None = None
    config: SpecConfig = None
    acceptance_length: float | None = None
    promoted: bool = False
    headline: str = ""


class _Phases(Quiet):
    """A console that writes the phase at hand into the job's progress."""

    def __init__(self, job: Job[ChildRequest]) -> None:
        self.job = job

    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        """See Console."""
        self.job.progress(phase)

    def progress(self, phase: str, progress: JobProgress) -> None:
        """See Console."""
        self.job.progress(phase, progress.done, progress.total, progress.unit, progress.stage)

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """See Console."""
        self.job.progress(phase, note=gate.headline)


def body(job: Job[ChildRequest]) -> ChildResult:
    """Carry out the run, as far as the request says."""
    child_request, console = job.plan, _Phases(job)

    def carried(stop_after: str | None) -> RunView:
        request = RunRequest(
            config=child_request.config,
            sources=child_request.sources,
            stop_after=stop_after,
            mode="controller",
            allow_cluster=child_request.allow_cluster,
        )
        run_view = carry_out(request, console)
        if isinstance(run_view, DryRun):
            raise RefusedError(
                "the run's jobs would go to a cluster, and the controller may not use it",
                "start the controller with --i-understand-this-uses-the-cluster",
            )
        return run_view

    view = carried("compare")
    if child_request.to == "end" or not would_promote(view.verdict):
        view = carried(None)
    return told(child_request.config, view)


def would_promote(verdict: VerdictView | None) -> bool:
    """Whether the loop's promotion would switch to the winner."""
    return verdict is not None and verdict.outcome == "WIN" and verdict.tier == "verdict"


def told(config: Config, view: RunView) -> ChildResult:
    """A run as the controller remembers it."""
    known = results(get_run(config, view.run_id))
    compare, promotion = known.get("compare"), known.get("promote")
    hours = sum(result.wall_s for result in known.values() if result.reused_from is None) / 3600
    common: dict[str, Any] = {"run_id": view.run_id, "gpu_hours": hours}
    if promotion is not None:
        common |= {"promoted": bool(promotion.outputs.get("promoted")), "headline": view.phase("promote").headline}
    if view.stopped is not None:
        return ChildResult(outcome="stopped", why=f"{view.stopped.phase}: {view.stopped.headline}", **common)
    if compare is not None and compare.outputs.get("outcome") == "ALREADY_SERVES":
        return ChildResult(outcome="ALREADY_SERVES", why=str(compare.outputs["sentence"]), **common)
    verdict = view.verdict
    if compare is None or verdict is None:
        return ChildResult(outcome="stopped", why="the run ended without a comparison", **common)
    length = verdict.acceptance_length.get(verdict.winner or "")
    config_now = promotion.outputs.get("standing_config") if promotion else compare.outputs.get("winner_config")
    return ChildResult(
        outcome=verdict.outcome, tier=verdict.tier, why=verdict.reason, config=config_now, acceptance_length=length,
        floor_al=break_even(verdict), **common,
    )  # fmt: skip


def break_even(verdict: VerdictView) -> float | None:
    """Acceptance length at which the winner is as fast as what it was compared with, never below 1.

    A step's work does not depend on what is accepted, so time per token goes with 1 / AL: the measured AL over the
    measured speedup.
    """
    length = verdict.acceptance_length.get(verdict.winner or "")
    if length is None or verdict.speedup is None or verdict.speedup.value <= 0:
        return None
    return max(1.0, length / verdict.speedup.value)


if __name__ == "__main__":
    sys.exit(run_job(body, ChildRequest))
