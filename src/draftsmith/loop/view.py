"""Reading a run: its phases, its verdict and its report, from the journal and the files on disk. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.view import PhaseState, PhaseView, RunView, VerdictView
from draftsmith.loop.advance import completed
from draftsmith.loop.jobs import read_progress
from draftsmith.phases.pipeline import PIPELINE
from draftsmith.store.runs import Event, Run


def run_view(run: Run, pipeline: Sequence[str] = PIPELINE) -> RunView:
    """What is known of a run now."""
    events = run.events()
    done = completed(events)
    failed = {event.phase: event for event in events if event.kind == "phase_failed"}
    figures = done["compare"].data["result"]["figures"] if "compare" in done else None
    return RunView(
        run_id=run.record.run_id,
        folder=str(run.folder),
        phases=tuple(_phase(run, phase, done.get(phase), failed.get(phase)) for phase in pipeline),
        verdict=VerdictView.model_validate(figures) if figures else None,
        report=next((str(path) for path in sorted(run.bundle.glob("*/*/report.html"))), None),
    )


def _phase(run: Run, phase: str, done: Event | None, failed: Event | None) -> PhaseView:
    event = done or failed
    data = event.data if event else {}
    state: PhaseState = "open" if event is None else "done" if done else "failed"
    progress = read_progress(run.folder / "phases" / phase) if state == "open" else None
    return PhaseView(
        phase=phase,
        state=state if data.get("passed", True) else "stopped",
        headline=data.get("headline") or data.get("error") or "",
        wall_s=(data.get("result") or {}).get("wall_s"),
        last_seen=progress.stage if progress else None,
    )
