"""A job on this machine, beside the command that asked for it: used by `compare` and `plan`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from draftsmith import wiring
from draftsmith.contract import errors
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, EngineStartError
from draftsmith.contract.job import JobResult, JobSpec
from draftsmith.kit import processes
from draftsmith.kit.clock import pauses
from draftsmith.kit.files import private_dir, read_json
from draftsmith.loop.base import POLL_S, Console
from draftsmith.loop.jobs import read_progress
from draftsmith.loop.lock import alone


def run_here(name: str, request: Path, console: Console) -> None:
    """Run `draftsmith.work.<name>` on `request`, in its folder, and wait. Ctrl-C stops it and its servers.

    Raises the error that the job explained, of its own kind, or RefusedError if another command is at work there.
    """
    folder = request.parent
    with alone(folder):
        processes.sweep(folder / "processes")
        backend = wiring.backend(Config(), private_dir(folder / "backend"))
        argv = (sys.executable, "-P", "-m", f"draftsmith.work.{name}", str(request))
        handle = backend.submit(JobSpec(name=name, argv=argv, workdir=str(folder)))
        try:
            pause = pauses(POLL_S)
            while (status := backend.poll([handle])[handle]).state in ("PENDING", "RUNNING", "UNKNOWN"):
                if progress := read_progress(folder):
                    console.progress(name, progress)
                time.sleep(next(pause))
        except BaseException:
            backend.cancel(handle)
            raise
    if status.state != "SUCCEEDED":
        raise _explained(folder, status.detail)


def _explained(folder: Path, detail: str) -> DraftsmithError:
    """The error that the job explained, of its own kind, so that the exit code says whose turn it is."""
    path = folder / "result.json"
    result = JobResult.model_validate(read_json(path)) if path.exists() else None
    message = (result.error if result else None) or detail
    step = (result.next_step if result else None) or f"see {folder / 'stderr.log'}"
    kind: type[DraftsmithError] = getattr(errors, (result.error_kind if result else None) or "", DraftsmithError)
    return EngineStartError(message, next_step=step) if kind is EngineStartError else kind(message, step)
