"""Jobs in a Kubernetes cluster, as batch/v1 Jobs.

Laws:
- Dry by default: `plan_text` shows the exact YAML; only `allow_cluster=True` lets `submit` and `cancel` do anything.
- The name of a Job follows from the name of the job, so the API server itself refuses a second one. A Job is adopted
  only if its annotations name this job and this folder, and removed only by its uid.
- An API server that does not answer makes every state UNKNOWN. Only one that answered and does not know a job, which
  left neither a result nor an exit code, makes it LOST.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from draftsmith.backends.base import LIVE, CouldNotLookError, read_result
from draftsmith.backends.kubernetes_judge import Evidence, has_ended, judge, living
from draftsmith.backends.kubernetes_options import JobOptions
from draftsmith.backends.kubernetes_text import job_manifest, job_object_name, pod_of, to_yaml
from draftsmith.backends.notes import JobNote, Notes, check_name, make_handle, may_adopt, split_handle
from draftsmith.backends.shell import ENVIRONMENT, EXIT_CODE, environment_file, noted_exit
from draftsmith.contract.cluster import JOB_NAME, JOB_PERMISSIONS, RBAC_HINT, WORKDIR, explain, require_name, selector
from draftsmith.contract.errors import BackendError, InputError, PrerequisiteError, RefusedError
from draftsmith.contract.job import JobSpec, JobStatus
from draftsmith.kit.clock import Clock
from draftsmith.kit.files import private_dir, write_atomic
from draftsmith.kit.kube import JOBS, PODS, ApiError, KubeApi, Object, Selection
from draftsmith.kit.kube_watch import TimeIsUpError, follow

OURS = Selection(labels=selector(component="job"))
REMOVAL_S = 180.0


class KubernetesBackend:
    """Runs jobs as Jobs. `root` is a private folder on a volume that the jobs mount under the same path."""

    def __init__(
        self, root: Path, api: KubeApi, options: JobOptions | None = None, *, allow_cluster: bool = False
    ) -> None:
        self._options = options or JobOptions()
        require_name(self._options.namespace, "namespace")
        self._api, self._allowed = api, allow_cluster
        self._clock: Clock = api.clock
        self._notes = Notes(root)
        self._ended: dict[str, JobStatus] = {}  # an end is judged once
        self._since: dict[str, float] = {}  # handle -> when it was first seen as it is (gone, or stuck)
        self._seen: tuple[dict[str, Object], dict[str, Object]] = ({}, {})
        self._next_look, self._pause_s, self._failure = 0.0, self._options.poll_s, ""

    def plan_text(self, spec: JobSpec) -> str:
        """The exact object that `submit` creates. Asks nothing. Raises ConfigError, InputError."""
        return to_yaml(job_manifest(spec, self._options))

    def check(self, spec: JobSpec) -> None:
        """Raises PrerequisiteError, InputError or BackendError if the cluster would not take the job. Starts nothing."""
        job = job_manifest(spec, self._options)
        try:
            missing = [
                str(each)
                for each in JOB_PERMISSIONS
                if not self._api.allowed(each.verb, each.resource, self._options.namespace)
            ]
            if missing:
                place = self._options.namespace
                raise PrerequisiteError(
                    f"these credentials may not {', '.join(missing)} in namespace {place}", RBAC_HINT
                )
            self._api.create(PODS, self._options.namespace, pod_of(job), dry_run=True)
        except ApiError as error:
            raise explain(error, f"create job {spec.name}") from error

    def submit(self, spec: JobSpec) -> str:
        """See Backend. Raises RefusedError unless `allow_cluster` was given."""
        self._refuse_when_dry(f"create job {spec.name}")
        adopted = self._living(spec)
        if adopted is not None:
            return adopted
        self._remove_old(spec)
        self.check(spec)
        try:
            workdir = private_dir(Path(spec.workdir))
            write_atomic(workdir / ENVIRONMENT, environment_file(spec))
            (workdir / EXIT_CODE).unlink(missing_ok=True)
            note = JobNote(spec=spec, backend="kubernetes", intended_unix_s=self._clock.unix())
            self._notes.intend(note)
            handle = make_handle(self._create(spec), spec.name)
            self._notes.update(note.model_copy(update={"handle": handle, "submitted_unix_s": self._clock.unix()}))
        except OSError as error:
            raise BackendError(
                f"job {spec.name}: {error.filename or spec.workdir}: {error.strerror}",
                "make the workspace writable, or free its disk or quota, and run again",
            ) from error
        self._next_look = 0.0
        return handle

    def find(self, name: str) -> str | None:
        """See Backend. A submission that a crash cut short is found by its name and its annotations."""
        try:
            note = self._notes.read(name)
        except CouldNotLookError as error:
            raise BackendError(str(error), "restore the file, or remove the job's folder, then run again") from error
        if note is None or note.handle is not None:
            return note.handle if note else None
        job = self._get(name)
        if job is None or not _is(job, note.spec):
            return None
        handle = make_handle(job["metadata"]["uid"], name)
        self._notes.update(note.model_copy(update={"handle": handle}))
        return handle

    def poll(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        """See Backend. One list of Jobs by label; one of their pods if some do not run or failed."""
        open_handles = [handle for handle in handles if handle not in self._ended]
        try:
            if open_handles:
                self._look()
            statuses = {handle: self._state(handle) for handle in open_handles}
        except CouldNotLookError as error:
            statuses = {handle: JobStatus(state="UNKNOWN", detail=str(error)) for handle in open_handles}
        return {handle: self._ended.get(handle) or statuses[handle] for handle in handles}

    def cancel(self, handle: str) -> None:
        """See Backend. Removes the Job with exactly this uid; the cluster ends its pod."""
        self._refuse_when_dry(f"remove {handle}")
        uid, name = self._notes.cancelled(handle)
        self._delete(name, uid)

    # -- asking -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Refresh what is known, at most once in `poll_s`. Raises CouldNotLookError."""
        now = self._clock.monotonic()
        if now < self._next_look:
            if self._failure:
                raise CouldNotLookError(self._failure)
            return
        namespace = self._options.namespace
        try:
            jobs = {job["metadata"]["uid"]: job for job in self._api.list(JOBS, namespace, OURS).items}
            unready = any(not (job.get("status") or {}).get("ready") for job in jobs.values())
            pods = {_owner(pod): pod for pod in self._api.list(PODS, namespace, OURS).items} if unready else {}
        except ApiError as error:
            self._failure = explain(error, "look at the jobs").message
            self._pause_s = min(self._pause_s * 2, self._options.poll_max_s)
            self._next_look = self._clock.monotonic() + self._pause_s
            raise CouldNotLookError(self._failure) from error
        self._seen, self._failure, self._pause_s = (jobs, pods), "", self._options.poll_s
        self._next_look = now + self._pause_s

    def _state(self, handle: str) -> JobStatus:
        try:
            uid, name = split_handle(handle)
            job, pod = self._seen[0].get(uid), self._seen[1].get(uid)
            if job is None or has_ended(job):
                return self._judge(handle, name, job, pod)
        except CouldNotLookError as error:
            return JobStatus(state="UNKNOWN", detail=str(error))
        except InputError as error:
            return JobStatus(state="UNKNOWN", detail=error.message)
        if (job.get("status") or {}).get("ready"):
            return JobStatus(state="RUNNING")
        waited = self._clock.unix() - _unix(pod or job)
        return living(job, pod, waited, self._options.stuck_s)

    def _judge(self, handle: str, name: str, job: Object | None, pod: Object | None) -> JobStatus:
        """The end of one job, kept once it is certain."""
        note = self._notes.read(name)
        if note is None or note.handle != handle:
            return JobStatus(state="LOST", detail="another job took its name, or its folder was removed")
        now, folder = self._clock.monotonic(), Path(note.spec.workdir)
        settled = now - self._since.setdefault(handle, now) >= self._options.settle_s
        if job is not None and job["metadata"].get("deletionTimestamp") and not (job.get("status") or {}).get("ready"):
            settled = False  # its pod may still be writing
        status = judge(Evidence(read_result(folder), job, pod, noted_exit(folder), note.cancelled, settled))
        if status.state not in LIVE and status.state != "UNKNOWN":
            self._ended[handle] = status
        return status

    def _get(self, name: str) -> Object | None:
        try:
            return self._api.get(JOBS, self._options.namespace, job_object_name(name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise explain(error, f"look for job {name}") from error

    # -- doing ------------------------------------------------------------------------------------------------------

    def _living(self, spec: JobSpec) -> str | None:
        check_name(spec.name)
        handle = self.find(spec.name)
        if handle is None:
            return None
        self._next_look = 0.0  # a decision to start needs an answer of now
        status = self.poll([handle])[handle]
        try:
            return handle if may_adopt(spec, status, self._notes) else None
        except CouldNotLookError as error:
            raise BackendError(str(error), "run again later") from error

    def _create(self, spec: JobSpec) -> str:
        """Create the Job; returns its uid. One that is there by an answer that was lost is the same Job."""
        try:
            job = self._api.create(JOBS, self._options.namespace, job_manifest(spec, self._options))
        except ApiError as error:
            existing = self._get(spec.name) if error.status == 409 else None
            if existing is None or not _is(existing, spec) or has_ended(existing):
                raise explain(error, f"create job {spec.name}") from error
            job = existing
        return str(job["metadata"]["uid"])

    def _remove_old(self, spec: JobSpec) -> None:
        """An ended Job of the same name makes room. Raises RefusedError if the Job there is somebody else's."""
        job = self._get(spec.name)
        if job is None:
            return
        if (job["metadata"].get("annotations") or {}).get(JOB_NAME) != spec.name:
            raise RefusedError(
                f"Job {job['metadata']['name']} exists and is not Draftsmith's", "remove it, or choose another run id"
            )
        if not has_ended(job) and not _is(job, spec):
            raise RefusedError(
                f"job {spec.name} runs already, for another folder", "cancel it first, or choose another run id"
            )
        self._delete(spec.name, job["metadata"]["uid"])
        select = Selection(fields=f"metadata.name={job['metadata']['name']}")
        try:
            follow(self._api, JOBS, self._options.namespace, select, REMOVAL_S, lambda jobs: True if not jobs else None)
        except (TimeIsUpError, ApiError) as error:
            raise BackendError(f"the old job {spec.name} could not be removed", "run again later") from error

    def _delete(self, name: str, uid: str) -> None:
        try:
            self._api.delete(JOBS, self._options.namespace, job_object_name(name), uid=uid)
        except ApiError as error:
            raise explain(error, f"remove job {name}") from error
        self._next_look = 0.0

    def _refuse_when_dry(self, text: str) -> None:
        if not self._allowed:
            raise RefusedError(
                f"dry run: would {text} on the cluster", "read the plan, then add --i-understand-this-uses-the-cluster"
            )


def _is(job: Object, spec: JobSpec) -> bool:
    marks = job["metadata"].get("annotations") or {}
    return marks.get(JOB_NAME) == spec.name and marks.get(WORKDIR) == spec.workdir


def _owner(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or []
    return next((str(owner["uid"]) for owner in owners if owner["kind"] == "Job"), "")


def _unix(item: Object) -> float:
    from datetime import datetime

    return datetime.fromisoformat(str(item["metadata"]["creationTimestamp"])).timestamp()
