"""How a Job stands or ended, from the evidence at hand: a pure decision.

The evidence, strongest first: the job's own result.json, what Kubernetes says of the Job and its pod, the exit code that
its script noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGTERM

from draftsmith.backends.base import outcome
from draftsmith.contract.job import JobResult, JobStatus
from draftsmith.contract.pods import PodView, view
from draftsmith.kit.kube import Object

QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Evidence:
    """What is known of a job that no longer runs. `job` None = the cluster does not know it (any more).

    `settled`: it ended long enough ago for its files to be visible on this machine.
    """

    result: JobResult | None
    job: Object | None
    pod: Object | None
    exit_code: int | None
    cancelled: bool
    settled: bool


def has_ended(job: Object) -> bool:
    """Whether the Job is complete or failed, or on its way out."""
    return bool(job["metadata"].get("deletionTimestamp")) or _condition(job) is not None


def living(job: Object, pod: Object | None, waited_s: float, stuck_s: float) -> JobStatus:
    """PENDING or RUNNING, with why it waits; FAILED if its image could not be pulled for `stuck_s`."""
    pod_view = view(pod) if pod else PodView("waiting", waits(job))
    if pod_view.stage in ("running", "ready"):
        return JobStatus(state="RUNNING")
    if pod_view.stage == "stuck" and waited_s >= stuck_s:
        return JobStatus(state="FAILED", detail=pod_view.detail)
    if pod_view.stage in ("ended", "evicted"):
        return JobStatus(state="RUNNING", detail=f"{pod_view.detail}; the Job has not noted it yet")
    return JobStatus(state="PENDING", detail=pod_view.detail)


def waits(job: Object) -> str:
    """Why a Job has no pod."""
    if job["spec"].get("suspend"):
        queue = (job["metadata"].get("labels") or {}).get(QUEUE)
        return f"suspended: the queue {queue} has not admitted it" if queue else "suspended (spec.suspend)"
    return "no pod yet; a quota may hold it back"


def judge(evidence: Evidence) -> JobStatus:
    """The end of one job."""
    pod = view(evidence.pod) if evidence.pod else None
    code = evidence.exit_code if evidence.exit_code is not None or pod is None else pod.exit_code
    if evidence.result is not None:
        return outcome(evidence.result, code, evidence.cancelled)
    condition = _condition(evidence.job) if evidence.job else None
    if evidence.cancelled:
        return outcome(None, code, cancelled=True)
    if pod is not None and pod.stage == "evicted":
        return JobStatus(state="LOST", detail=f"{pod.detail}; it resumes when started again", exit_code=code)
    deleted = evidence.job is None or bool(evidence.job["metadata"].get("deletionTimestamp"))
    if deleted and condition is None and code == -SIGTERM:
        return JobStatus(state="LOST", detail="removed by somebody else; it resumes when started again", exit_code=code)
    if condition is not None and condition[0] == "DeadlineExceeded":
        return JobStatus(state="FAILED", detail="it ran longer than its time limit", exit_code=code)
    if pod is not None and pod.stage == "ended" and "memory" in pod.detail:
        return JobStatus(state="FAILED", detail=pod.detail, exit_code=code)
    if not evidence.settled and not code:
        return JobStatus(state="RUNNING", detail="ended; its files have not appeared here yet")
    if condition is not None and code is None and condition[0] != "Complete":
        return JobStatus(state="FAILED", detail=f"Kubernetes says {condition[0]}: {condition[1]}")
    if condition is not None and code is None:
        code = 0
    return outcome(None, code, cancelled=False)


def _condition(job: Object) -> tuple[str, str] | None:
    """(Complete or the reason of the failure, message); None while it runs."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("status") != "True":
            continue
        if condition["type"] in ("Complete", "SuccessCriteriaMet"):
            return "Complete", ""
        if condition["type"] in ("Failed", "FailureTarget"):
            return str(condition.get("reason") or "Failed"), str(condition.get("message") or "")
    return None
