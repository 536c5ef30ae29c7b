"""How a Slurm job ended, from the evidence at hand: a pure decision.

The evidence, strongest first: the job's own result.json, what Slurm says of it, the exit code its script noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.backends.base import STDERR, outcome
from draftsmith.backends.slurm_parse import Meaning
from draftsmith.contract.job import JobResult, JobState, JobStatus

_WORST_FIRST: tuple[JobState, ...] = ("UNKNOWN", "RUNNING", "FAILED", "CANCELLED", "LOST", "SUCCEEDED")


@dataclass(frozen=True)
class Evidence:
    """What is known of a job, or of one shard, that left the queue. `told` None = Slurm does not remember it.

    `settled`: it ended long enough ago for its files to be visible on this machine.
    """

    result: JobResult | None
    told: Meaning | None
    exit_code: int | None
    cancelled: bool
    settled: bool


def judge(evidence: Evidence) -> JobStatus:
    """The end of one job or shard."""
    result, message, code = evidence.result, evidence.told, evidence.exit_code
    if result is not None:
        return outcome(result, code, evidence.cancelled or (message is not None and message.state == "CANCELLED"))
    if message is not None and message.state in {"CANCELLED", "LOST", "UNKNOWN"}:
        return JobStatus(state=message.state, detail=message.detail, exit_code=code)
    if message is not None and message.state == "FAILED" and message.detail:
        return JobStatus(state="FAILED", detail=message.detail, exit_code=code)
    if not evidence.settled and not code:
        if message is None:
            return JobStatus(state="UNKNOWN", detail="it left the queue; its files have not appeared here yet")
        return JobStatus(state="RUNNING", detail="ended; its files have not appeared here yet")
    if code is None and message is not None:
        if message.state == "FAILED":
            detail = f"Slurm reports a failure and no exit code; see {STDERR}"
            return JobStatus(state="FAILED", detail=detail)
        code = 0
    return outcome(None, code, evidence.cancelled)


def judge_shards(shards: Sequence[JobStatus]) -> JobStatus:
    """The end of a job array: as good as its worst shard, which the detail names."""
    worst = min(range(len(shards)), key=lambda index: _WORST_FIRST.index(shards[index].state))
    status = shards[worst]
    if status.state == "SUCCEEDED":
        return status
    same = sum(shard.state == status.state for shard in shards)
    detail = f"{same} of {len(shards)} shards, the first is {worst}: {status.detail}"
    return status.model_copy(update={"detail": detail})


def merge_results(results: Sequence[JobResult], folders: Sequence[str]) -> JobResult:
    """result.json of a job array whose shards all succeeded: where the shards' results are, and the time of the slowest shard (s)."""
    return JobResult(
        ok=True, outputs={"shards": list(folders)}, wall_s=max((result.wall_s for result in results), default=0.0)
    )
