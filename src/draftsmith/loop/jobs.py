"""One phase as a job: adopted if it lives, submitted otherwise, waited for to its end.

The scheduler is queried before anything is submitted. A scheduler that does not answer, and a cluster without a free
place, are waited for; neither says anything about a job.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from draftsmith.backends.base import LIVE, Backend, read_result
from draftsmith.contract import errors
from draftsmith.contract.base import canonical
from draftsmith.contract.errors import (
    AwayError,
    BackendError,
    DraftsmithError,
    EngineStartError,
    NoRoomError,
    RefusedError,
    RunInterruptedError,
)
from draftsmith.contract.job import JobProgress, JobResult, JobSpec, JobStatus
from draftsmith.kit import logs, processes
from draftsmith.kit.clock import pauses
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.loop.base import Loop
from draftsmith.phases.base import JobPlan, Phase, PhaseContext
from draftsmith.phases.compare import on_canaries
from draftsmith.phases.pipeline import JOBS
from draftsmith.phases.shards import merge_shards
from draftsmith.phases.way import trainless
from draftsmith.store.runs import Run

SERVING = frozenset({"corpus", "capture", "compare"})  # phases whose jobs start servers, one at a time or sharing GPUs
LOST_RETRIES = 2
RESUMES = 100  # restarts of a job that was stopped in time, for example before its time limit, and continued each time
WORTH_S = 60.0  # a start that was interrupted earlier than this made no headway
PATIENCE_S = 600.0
ASK_AGAIN_S = 1.0
_Answer = TypeVar("_Answer")


def job_name(run_id: str, phase: str) -> str:
    """The name under which a back end knows the job of a phase."""
    return f"{run_id}.{phase}"


def job_spec(context: PhaseContext, phase: str, module: str, gpus: int) -> JobSpec:
    """The job of a phase: with the GPUs of a server where it starts some. An engine built for the CPU gets none."""
    workdir = context.phase_dir(phase)
    each = context.config.engine.gpus_a_server if phase in SERVING else 1
    return JobSpec(
        name=job_name(context.run_id, phase),
        argv=(sys.executable, "-m", module, str(workdir / "plan.json")),
        workdir=str(workdir),
        # A file that lies in the job's folder is never imported.
        env={"PYTHONSAFEPATH": "1"} | logs.of_job(context.run_id),
        gpus=0 if context.versions.get("device") == "cpu" else gpus * each,
    )


def specs(context: PhaseContext, jobs: Mapping[str, Phase[Any, Any]] = JOBS) -> dict[str, JobSpec]:
    """The jobs for the back end, of all phases that have no result yet, in order."""
    local_jobs = {"compare"} if on_canaries(context.config) else set()
    waiting = [phase for phase in jobs if phase not in context.results and phase not in local_jobs]
    waiting = [phase for phase in waiting if trainless(context, phase) is None]
    return {phase: job_spec(context, phase, jobs[phase].module, jobs[phase].gpus) for phase in waiting}


def living(backend: Backend, name: str) -> str | None:
    """Handle of the job of that name if it waits or runs. Raises BackendError if its state is unknown."""
    handle = backend.find(name)
    if handle is None:
        return None
    status = backend.poll([handle])[handle]
    if status.state == "UNKNOWN":
        raise AwayError(f"cannot tell whether {name} runs: {status.detail}", "run again later")
    return handle if status.state in LIVE else None


def run_job(loop: Loop, phase: str, job: JobPlan[Any]) -> JobResult:
    """Submit (or adopt) the job and wait for its end. A lost job is started again, a bounded number of times."""
    if job.here and loop.here is not None:
        loop = replace(loop, backend=loop.here)
    workdir = private_dir(loop.context.phase_dir(phase))
    name = job_name(loop.context.run_id, phase)
    if (ended := _unrecorded_success(loop, name, workdir, job)) is not None:
        return ended
    spec = job_spec(loop.context, phase, job.module, job.gpus)
    lost = 0
    for attempt in range(RESUMES):
        handle, began = _start(loop, phase, spec, job, attempt), time.monotonic()
        try:
            result = _wait(loop, phase, workdir, handle)
        except BaseException:
            with contextlib.suppress(DraftsmithError):  # what ended the wait is the message, not this
                loop.backend.cancel(handle)
            raise
        processes.sweep(loop.run.processes)
        if result is not None:
            return result
        lost += not (_was_interrupted(workdir) and time.monotonic() - began >= WORTH_S)
        if lost > LOST_RETRIES:
            raise BackendError(f"the job of {phase} was lost {lost} times", "look at stderr.log in its folder")
    raise BackendError(f"the job of {phase} did not end in {RESUMES} starts", "give it a longer time limit")


def stop_jobs(run: Run, backend: Backend, jobs: Iterable[str] = tuple(JOBS)) -> list[str]:
    """Cancel every job of a run that waits or runs. Returns their names; raises BackendError if a state is unknown."""
    stopped = []
    for phase in jobs:
        if (handle := living(backend, job_name(run.record.run_id, phase))) is not None:
            backend.cancel(handle)
            stopped.append(job_name(run.record.run_id, phase))
    return stopped


def end_job(loop: Loop, phase: str) -> None:
    """Cancel the job of a phase if it lives, and wait until it does not: its folder is about to be removed."""
    for backend in filter(None, (loop.backend, loop.here)):
        look = partial(living, backend, job_name(loop.context.run_id, phase))
        if phase in loop.jobs and (handle := patiently(loop, phase, look)) is not None:
            backend.cancel(handle)
            while patiently(loop, phase, look) is not None:
                loop.sleep(loop.poll_s)


def patiently(loop: Loop, phase: str, ask: Callable[[], _Answer]) -> _Answer:
    """What `ask` answers; asked again while the scheduler is away or has no room, for PATIENCE_S at most."""
    waited, pause = 0.0, ASK_AGAIN_S
    while True:
        try:
            return ask()
        except (AwayError, NoRoomError) as error:
            if waited >= PATIENCE_S:
                raise
            loop.console.progress(phase, JobProgress(stage=f"waiting: {error.message}"))
        loop.sleep(pause)
        waited, pause = waited + pause, min(pause * 1.5, 30.0)


def _start(loop: Loop, phase: str, spec: JobSpec, job: JobPlan[Any], attempt: int) -> str:
    """Handle of the running job, adopted or new. The intent is in the journal before it is submitted."""
    intended = False

    def find_or_submit() -> str:
        nonlocal intended
        path = Path(spec.workdir) / "plan.json"
        if (handle := living(loop.backend, spec.name)) is not None:
            if not _same_plan(path, job):
                raise RefusedError(
                    f"job {spec.name} runs already, with another plan", "wait for its end, or cancel it, and run again"
                )
            if not intended:
                loop.run.append("adopted", phase, handle=handle)
            return handle
        write_json(path, job.plan)
        if not intended:
            loop.run.append("submitted", phase, attempt=attempt)
            intended = True
        return loop.backend.submit(spec)

    return patiently(loop, phase, find_or_submit)


def _unrecorded_success(loop: Loop, name: str, workdir: Path, job: JobPlan[Any]) -> JobResult | None:
    """The job succeeded but the driver died before journaling it: return its result. None otherwise."""
    if not _same_plan(workdir / "plan.json", job):
        return None

    def look() -> bool:
        handle = loop.backend.find(name)
        status = loop.backend.poll([handle])[handle] if handle else None
        if status is not None and status.state == "UNKNOWN":
            raise AwayError(f"cannot tell how {name} ended: {status.detail}", "run again later")
        return status is not None and status.state == "SUCCEEDED"

    return _finished(workdir) if patiently(loop, name.rsplit(".", 1)[-1], look) else None


def _same_plan(path: Path, job: JobPlan[Any]) -> bool:
    """Whether the file holds this very plan; read as its type, so that one of an older version is the same."""
    try:
        return canonical(type(job.plan).model_validate(read_json(path))) == canonical(job.plan)
    except (OSError, ValueError):
        return False


def _wait(loop: Loop, phase: str, workdir: Path, handle: str) -> JobResult | None:
    """The job's result; None if it was lost. Raises the error that the job explained."""
    shown, shown_detail = 0.0, ""
    pause = pauses(loop.poll_s)
    while True:
        status = loop.backend.poll([handle])[handle]
        progress = read_progress(workdir)
        if progress and progress.updated_unix_s != shown:
            shown = progress.updated_unix_s
            loop.console.progress(phase, progress)
        if status.state in ("PENDING", "UNKNOWN") and status.detail != shown_detail:
            loop.console.progress(phase, JobProgress(stage=status.state.lower(), note=status.detail))
        shown_detail = status.detail
        if status.state == "SUCCEEDED":
            return _finished(workdir)
        if status.state == "LOST":
            return None
        if status.state in ("FAILED", "CANCELLED"):
            raise _explained(loop.run, phase, workdir, status)
        loop.sleep(next(pause))


def _finished(workdir: Path) -> JobResult:
    """The result of a job that succeeded; of a job array, what its shards' results amount to."""
    result = JobResult.model_validate(read_json(workdir / "result.json"))
    folders = result.outputs.get("shards")
    return merge_shards([(Path(folder), read_result(Path(folder))) for folder in folders]) if folders else result


def _was_interrupted(workdir: Path) -> bool:
    try:
        return bool(read_json(workdir / "result.json").get("error_kind") == RunInterruptedError.__name__)
    except (OSError, ValueError, AttributeError):
        return False


def _explained(run: Run, phase: str, workdir: Path, status: JobStatus) -> DraftsmithError:
    if status.state == "CANCELLED":
        run.append("phase_failed", phase, error=f"cancelled: {status.detail}", next_step="run again to go on")
        return RunInterruptedError(
            f"{phase}: the job was cancelled ({status.detail})", "run the same command again to go on from there"
        )
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
    """progress.json, or None if there is none (yet). Of a job array, the shard that has the most left to do."""
    shards = [progress for folder in sorted(workdir.glob("shard-*")) if (progress := _progress(folder)) is not None]
    if shards:
        return min(shards, key=lambda item: item.done / item.total if item.total else 0.0)
    return _progress(workdir)


def _progress(folder: Path) -> JobProgress | None:
    try:
        return JobProgress.model_validate(read_json(folder / "progress.json"))
    except (OSError, ValueError, ValidationError):
        return None
