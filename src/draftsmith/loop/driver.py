"""Carries a run out: asks `advance` what is next, does it, writes down what came of it. The only place with effects."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from draftsmith.backends.base import Backend
from draftsmith.contract import errors
from draftsmith.contract.base import digest
from draftsmith.contract.errors import (
    BackendError,
    DraftsmithError,
    EngineStartError,
    RefusedError,
    RunInterruptedError,
)
from draftsmith.contract.job import JobProgress, JobResult, JobSpec, JobStatus
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.loop.advance import Step, advance, completed, to_clear
from draftsmith.loop.promotion import promote
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.pipeline import JOBS, PIPELINE
from draftsmith.serving.base import Serving
from draftsmith.store.runs import Run
from draftsmith.traffic.retention import purge

POLL_S = 0.3
LOST_RETRIES = 2


class Console(Protocol):
    """What the driver tells the operator."""

    def phase_started(self, phase: str, title: str, reused: bool) -> None:
        """A phase begins, or its earlier result is used."""

    def progress(self, phase: str, progress: JobProgress) -> None:
        """A job moved on."""

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        """The gate's judgement of a phase."""

    def confirm(self, headline: str, phase: str) -> bool:
        """May the next phase start?"""
        ...


@dataclass(frozen=True)
class Loop:
    """What a run is carried out with."""

    run: Run
    context: PhaseContext
    backend: Backend
    serving: Serving
    console: Console
    ask: bool
    stop_after: str | None = None
    sleep: Callable[[float], None] = time.sleep


def drive(loop: Loop) -> JobResult | None:
    """Advance until the run is finished. Returns the comparison's result, if the run came so far.

    Raises the error of a failed phase, RunInterruptedError if the operator declined, or RefusedError if another process
    is at it; the same run continues later.
    """
    with _alone(loop.run):
        processes.sweep(loop.run.processes)
        for phase in to_clear(loop.run.events()):
            shutil.rmtree(loop.context.phase_dir(phase), ignore_errors=True)
            loop.run.append("cleared", phase)
        return _advance(loop)


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """The kernel gives the lock back when its holder ends, however it ends."""
    with (run.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                f"another process is carrying out {run.record.run_id}", "wait for its end, or stop it first"
            ) from None
        yield


def _advance(loop: Loop) -> JobResult | None:
    while True:
        events = loop.run.events()
        step = advance(events, PIPELINE, asked=loop.ask)
        context = replace(loop.context, results=results(loop.run))
        if step.kind == "finished" or (loop.stop_after and loop.stop_after in context.results):
            return context.results.get("compare")
        if step.kind == "finish":
            if context.config.corpus.retention == "zero":
                purge(loop.run.folder)
            loop.run.append("finished", step.phase, headline=step.headline)
            continue
        if step.ask and not loop.console.confirm(step.headline, str(step.phase)):
            loop.run.append("declined", step.phase)
            raise RunInterruptedError(f"stopped before {step.phase}", "run the same command again to go on from there")
        _perform(replace(loop, context=context), step)


def results(run: Run) -> dict[str, JobResult]:
    """Results of the phases that are done, by phase."""
    return {phase: JobResult.model_validate(event.data["result"]) for phase, event in completed(run.events()).items()}


def _perform(loop: Loop, step: Step) -> None:
    phase = str(step.phase)
    began = time.monotonic()
    if step.kind == "promote":
        loop.console.phase_started(phase, "promote, or keep the standing configuration", reused=False)
        result, gate = promote(loop.run, loop.context, loop.serving)
        inputs = ""
    else:
        job = JOBS[phase].plan(loop.context)
        inputs = digest({"module": job.module, **job.inputs})
        earlier = _earlier(loop.run, phase, inputs)
        loop.console.phase_started(phase, JOBS[phase].title, reused=earlier is not None)
        result = earlier or _run_job(loop, phase, job)
        gate = JOBS[phase].collect(loop.context, result)
    loop.run.append(
        "phase_done",
        phase,
        inputs=inputs,
        passed=gate.passed,
        headline=gate.headline,
        details=list(gate.details),
        result=result.model_dump(mode="json"),
    )
    loop.console.phase_ended(phase, gate, result.wall_s or time.monotonic() - began)


def _earlier(run: Run, phase: str, inputs: str) -> JobResult | None:
    """The result of the same job with the same inputs, if this run has one and its outputs are still there."""
    for event in reversed(run.events()):
        if event.kind == "cleared" and event.phase == phase:
            return None
        if event.kind == "phase_done" and event.phase == phase and event.data.get("inputs") == inputs:
            result = JobResult.model_validate(event.data["result"])
            if outputs_exist(result):
                return result
    return None


def outputs_exist(result: JobResult) -> bool:
    """Whether every file and folder that a job says it made is still there."""
    return all(Path(v).exists() for v in result.outputs.values() if isinstance(v, str) and v.startswith("/"))


def _run_job(loop: Loop, phase: str, job: JobPlan) -> JobResult:
    """Submit (or adopt) the job and wait for its end. A lost job is started again, a bounded number of times."""
    workdir = private_dir(loop.context.phase_dir(phase))
    name = f"{loop.context.run_id}.{phase}"
    if (ended := _ended_unseen(loop.backend, name, workdir, job)) is not None:
        return ended
    write_json(workdir / "plan.json", job.plan)
    spec = JobSpec(
        name=name,
        argv=(sys.executable, "-m", job.module, str(workdir / "plan.json")),
        workdir=str(workdir),
        gpus=job.gpus,
    )
    for attempt in range(LOST_RETRIES + 1):
        loop.run.append("submitted", phase, attempt=attempt)
        handle = loop.backend.submit(spec)
        try:
            result = _wait(loop, phase, workdir, handle)
        except BaseException:
            loop.backend.cancel(handle)
            raise
        processes.sweep(loop.run.processes)
        if result is not None:
            return result
    raise BackendError(f"the job of {phase} was lost {LOST_RETRIES + 1} times", "look at stderr.log in its folder")


def _ended_unseen(backend: Backend, name: str, workdir: Path, job: JobPlan) -> JobResult | None:
    """The result of this very job, if it ended well while nobody was there to write that down."""
    try:
        same = read_json(workdir / "plan.json") == json.loads(json.dumps(job.plan))
    except (OSError, ValueError):
        return None
    handle = backend.find(name) if same else None
    if handle is None or backend.poll([handle])[handle].state != "SUCCEEDED":
        return None
    return JobResult.model_validate(read_json(workdir / "result.json"))


def _wait(loop: Loop, phase: str, workdir: Path, handle: str) -> JobResult | None:
    """The job's result; None if it was lost. Raises the error that the job explained."""
    shown = 0.0
    while True:
        status = loop.backend.poll([handle])[handle]
        progress = read_progress(workdir)
        if progress and progress.updated_unix_s != shown:
            shown = progress.updated_unix_s
            loop.console.progress(phase, progress)
        if status.state == "SUCCEEDED":
            return JobResult.model_validate(read_json(workdir / "result.json"))
        if status.state == "LOST":
            return None
        if status.state in ("FAILED", "CANCELLED"):
            raise _explained(loop.run, phase, workdir, status)
        loop.sleep(POLL_S)


def _explained(run: Run, phase: str, workdir: Path, status: JobStatus) -> DraftsmithError:
    path = workdir / "result.json"
    result = JobResult.model_validate(read_json(path)) if path.exists() else None
    if result is None and status.exit_code == os.EX_IOERR:
        result = JobResult(
            ok=False,
            error="the job could not write its result",
            next_step="free space on the disk of the workspace and run again",
            error_kind="PrerequisiteError",
        )
    message = (result.error if result else None) or f"the job of {phase} failed: {status.detail}"
    step = (result.next_step if result else None) or f"see {workdir / 'stderr.log'}, then run again"
    kind: type[DraftsmithError] = getattr(errors, (result.error_kind if result else None) or "", DraftsmithError)
    run.append("phase_failed", phase, error=message, next_step=step)
    if kind is EngineStartError:
        return EngineStartError(f"{phase}: {message}", next_step=step)
    return kind(f"{phase}: {message}", step)


def read_progress(workdir: Path) -> JobProgress | None:
    """progress.json, or None if there is none (yet)."""
    try:
        return JobProgress.model_validate(read_json(workdir / "progress.json"))
    except (OSError, ValueError, ValidationError):
        return None


def summary(run: Run) -> list[dict[str, Any]]:
    """One entry a phase: state, headline and wall time, for `status`."""
    done = completed(run.events())
    failed = {event.phase: event for event in run.events() if event.kind == "phase_failed"}
    rows = []
    for phase in PIPELINE:
        event = done.get(phase)
        state = "done" if event else "failed" if phase in failed else "open"
        data = event.data if event else failed[phase].data if phase in failed else {}
        rows.append(
            {
                "phase": phase,
                "state": state if data.get("passed", True) else "stopped",
                "headline": data.get("headline") or data.get("error") or "",
                "wall_s": (data.get("result") or {}).get("wall_s"),
            }
        )
    return rows
