"""A job: one program that a back end runs, in a folder of its own. It writes result.json last."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen

JobState = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST", "UNKNOWN"]

STATE_MEANING: dict[JobState, str] = {
    "PENDING": "accepted, waiting for resources",
    "RUNNING": "started and not finished",
    "SUCCEEDED": "finished and its result.json is there",
    "FAILED": "finished without a result",
    "CANCELLED": "stopped on purpose",
    "LOST": "it was started and is gone without a trace of an end: safe to start again",
    "UNKNOWN": "could not look; says nothing about the job",
}


class JobSpec(Frozen):
    """What to run. `name` is unique for a run and phase (`<run-id>.<phase>`), the handle a restart finds it by."""

    name: str
    argv: tuple[str, ...]
    workdir: str = Field(description="the job's own private folder: stdout.log, stderr.log, progress.json, result.json")
    env: dict[str, str] = Field(default_factory=dict, description="added to the environment of the job")
    cpus: int = 1
    gpus: int = 0
    memory_gib: float | None = None
    time_limit_s: int | None = None


class JobStatus(Frozen):
    """What the back end knows. `detail` is one sentence; `exit_code` where there is one."""

    state: JobState
    detail: str = ""
    exit_code: int | None = None


class JobProgress(Frozen):
    """progress.json of a job, replaced atomically while it works."""

    stage: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    note: str = ""
    said: str = Field("", description="sentences that stay on the screen, one a line")
    started_unix_s: float = 0.0
    updated_unix_s: float = 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the pace so far, at least 0; None without a total, or in the first two seconds."""
        spent = self.updated_unix_s - self.started_unix_s
        if not self.total or not self.done or spent <= 2:
            return None
        return max(0.0, spent * (self.total - self.done) / self.done)


class JobResult(Frozen):
    """result.json: the job's last act. `error` is set when it failed in a way that it could explain."""

    ok: bool
    outputs: dict[str, Any] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict, description="headline numbers, with units in the key")
    error: str | None = None
    next_step: str | None = None
    error_kind: str | None = Field(None, description="class name from the error tree")
    wall_s: float = 0.0
    reused_from: str | None = Field(None, description="run whose job made this, where it was taken over from one")
