"""The frame of every job program: plan.json in, progress.json meanwhile, result.json last.

SIGTERM stops a job (it is also sent when its parent dies). It then unwinds, so that `finally` blocks stop the servers
it started; what it has finished stays on disk, and the same command continues from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import DraftsmithError, InputError, RunInterruptedError
from draftsmith.contract.job import JobProgress, JobResult
from draftsmith.contract.jobs import PhaseResult
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.kit.logs import tell

# Set by the back end. The folder is the plan's own, or one of each shard.
FOLDER, SHARD, SHARDS = "DRAFTSMITH_JOB_DIR", "DRAFTSMITH_SHARD", "DRAFTSMITH_SHARDS"
PROGRESS_EVERY_S = 0.5
UNWRITTEN = os.EX_IOERR
P = TypeVar("P", bound=Frozen)


class Watched(Protocol):
    """What the parts of a job need of it: its folder, and where its progress goes."""

    workdir: Path

    def progress(self, stage: str, done: float = 0, total: float | None = None, unit: str = "", note: str = "") -> None:
        """Replace progress.json; cheap to call often."""
        ...

    def say(self, sentence: str) -> None:
        """A sentence for the operator that stays on the screen."""
        ...


class Job(Generic[P]):
    """The running job: its folder, its plan and its progress. Of `shards` equal programs it is number `shard`.

    Under a launcher such as torchrun the same program runs once for each `rank`. Rank 0 is the job; the others help it
    and report into a folder of their own, `own`.
    """

    def __init__(self, workdir: Path, plan: P, shard: int = 0, shards: int = 1, rank: int = 0) -> None:
        self.workdir = workdir
        self.plan = plan
        self.shard, self.shards, self.rank = shard, shards, rank
        self.own = private_dir(workdir / f"rank-{rank:04d}") if rank else workdir
        self._started = time.time()
        self._last = 0.0
        self._stage = ""
        self._said: list[str] = []

    def say(self, sentence: str) -> None:
        """A sentence for the operator that stays on the screen. All of them go out with every later progress: who looks seldom misses none."""
        self._said.append(sentence)
        tell("said", sentence, job=self.workdir.name)

    def progress(self, stage: str, done: float = 0, total: float | None = None, unit: str = "", note: str = "") -> None:
        """Replace progress.json; cheap to call often."""
        now = time.time()
        if stage != self._stage:
            self._stage, self._started = stage, now
            tell("stage", stage, job=self.workdir.name, total=total, unit=unit)
        elif now - self._last < PROGRESS_EVERY_S and done != total:
            return
        self._last = now
        value = JobProgress(
            stage=stage,
            done=done,
            total=total,
            unit=unit,
            note=note,
            said="\n".join(self._said),
            started_unix_s=self._started,
            updated_unix_s=now,
        )
        with contextlib.suppress(OSError):  # a full disk must not turn a working job into a failed one here
            write_json(self.own / "progress.json", value)


def run_job(body: Callable[[Job[P]], PhaseResult], plan_type: type[P], argv: list[str] | None = None) -> int:
    """Run `body` on the plan named in argv[1], read as `plan_type`; returns the exit code."""
    plan_path = Path((argv or sys.argv)[1])
    workdir = Path(os.environ.get(FOLDER) or plan_path.parent)
    shard, shards = int(os.environ.get(SHARD, "0")), int(os.environ.get(SHARDS, "1"))
    rank = int(os.environ.get("RANK", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    own = private_dir(workdir / f"rank-{rank:04d}") if rank else workdir
    began = time.time()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        values = body(Job(workdir, _read(plan_path, plan_type), shard, shards, rank))
        wall_s = time.time() - began
        result = JobResult(ok=True, outputs=values.outputs(), figures=values.figures(), wall_s=wall_s)
    except _Stopped as stopped:
        sentence = f"stopped by signal {stopped.code}"
        result = _failed(sentence, "run the same command again to continue", RunInterruptedError.__name__, began)
    except DraftsmithError as error:
        result = _failed(error.message, error.next_step, type(error).__name__, began)
    except OSError as error:
        step = (
            "free space on the disk of the workspace and run again"
            if error.errno == 28
            else "see stderr.log of the job"
        )
        _trace(error)
        result = _failed(f"{type(error).__name__}: {error.strerror}", step, "PrerequisiteError", began)
    except Exception as error:
        _trace(error)
        result = _failed(f"{type(error).__name__} in the job", "see stderr.log of the job", "DraftsmithError", began)
    if result.ok:
        tell("ended", "done", job=workdir.name, wall_s=round(result.wall_s, 3))
    else:
        tell(
            "failed",
            str(result.error),
            level="error",
            job=workdir.name,
            kind=result.error_kind,
            next_step=result.next_step,
        )
    try:
        write_json(own / "result.json", result)
    except OSError as error:
        print(f"result.json cannot be written: {error.strerror}", file=sys.stderr)
        return UNWRITTEN
    if result.error_kind == RunInterruptedError.__name__:
        return RunInterruptedError.exit_code
    return 0 if result.ok else 1


def _read(path: Path, plan_type: type[P]) -> P:
    try:
        return plan_type.model_validate(read_json(path))
    except ValueError as error:
        wrong = (
            [".".join(map(str, item["loc"])) for item in error.errors()] if isinstance(error, ValidationError) else []
        )
        raise InputError(
            f"{path.name} is no {plan_type.__name__} ({', '.join(wrong) or 'not JSON'})",
            "it was written by another version, or altered: run the command again",
        ) from None


def _trace(error: BaseException) -> None:
    """Where nobody foresaw it, in the log of the job."""
    text = "".join(traceback.format_exception(error))
    if not tell("traceback", type(error).__name__, level="error", traceback=text):
        print(text, file=sys.stderr, end="")


def _failed(message: str, next_step: str, kind: str, began: float) -> JobResult:
    return JobResult(ok=False, error=message, next_step=next_step, error_kind=kind, wall_s=time.time() - began)


class _Stopped(SystemExit):
    """A signal to stop. `code`: its number.

    No Exception: asyncio drops every one of those that comes between two steps of its loop, and the job would go on.
    """


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise _Stopped(number)
