"""Jobs on a Slurm cluster.

Laws:
- Dry by default: `plan_text` shows the exact text; only `allow_cluster=True` lets `submit` and `cancel` do anything.
- A job is known by its name and the comment `draftsmith:<name>`; only such a job is adopted, and only one whose id is
  in a handle is ever cancelled.
- A scheduler that does not answer makes every state UNKNOWN. Only a scheduler that answered and does not know a job,
  which left neither a result nor an exit code, makes it LOST.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from draftsmith.backends.base import LIVE, RESULT, CouldNotLookError, read_result
from draftsmith.backends.notes import JobNote, Notes, make_handle, may_adopt, split_handle
from draftsmith.backends.shell import ENVIRONMENT, EXIT_CODE, environment_file, noted_exit
from draftsmith.backends.slurm_check import check_commands, check_nodes, look_at_nodes
from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_judge import Evidence, judge, judge_shards, merge_results
from draftsmith.backends.slurm_nodes import give_back
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.backends.slurm_parse import (
    LIVE_STATES,
    Row,
    combine,
    parse_submitted,
)
from draftsmith.backends.slurm_queue import Rows, SlurmQueue
from draftsmith.backends.slurm_text import JOB_ID, SCRIPT, batch_script, comment_of, shard_dir
from draftsmith.contract.errors import BackendError, DraftsmithError, RefusedError
from draftsmith.contract.job import JobSpec, JobStatus
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import private_dir, write_atomic, write_json


class SlurmBackend:
    """Runs jobs through sbatch. `root` is a private folder on a file system that the nodes share."""

    def __init__(
        self,
        root: Path,
        options: SlurmOptions | None = None,
        *,
        allow_cluster: bool = False,
        clock: Clock | None = None,
        commands: SlurmCommands | None = None,
    ) -> None:
        self._options = options or SlurmOptions()
        self._allowed = allow_cluster
        self._clock = clock or SystemClock()
        self._commands = commands or SlurmCommands(self._options.command_timeout_s)
        self._queue = SlurmQueue(self._commands, self._options, self._clock)
        self._notes = Notes(root)
        self._ended: dict[str, JobStatus] = {}  # an end is judged once
        self._gone_since: dict[str, float] = {}

    def plan_text(self, spec: JobSpec) -> str:
        """The exact script that `submit` hands to sbatch. Runs nothing. Raises ConfigError, InputError."""
        return batch_script(spec, self._options)

    def check(self, spec: JobSpec) -> None:
        """See ClusterBackend. In a dry run account, QOS and limits are not asked (with `sbatch --test-only`).

        Outside of one, a node that a killed job left drained is given back first.
        """
        self.plan_text(spec)
        check_commands(self._commands)
        if self._allowed:
            self._give_back(spec)
        check_nodes(look_at_nodes(self._commands), spec, self._options)
        if self._allowed:
            self._commands.run(("sbatch", "--test-only", str(self._write_files(spec))))

    def submit(self, spec: JobSpec) -> str:
        """See Backend. Raises RefusedError unless `allow_cluster` was given."""
        self._refuse_when_dry(f"submit job {spec.name}")
        adopted = self._living(spec)
        if adopted is not None:
            return adopted
        try:
            self.check(spec)
            script = self._write_files(spec)
            note = JobNote(spec=spec, backend="slurm", intended_unix_s=self._clock.unix())
            self._clear(spec)
            self._notes.intend(note)
            handle = make_handle(self._sbatch(script), spec.name)
            self._queue.expect_change()
            self._notes.update(note.model_copy(update={"handle": handle, "submitted_unix_s": self._clock.unix()}))
        except OSError as error:
            raise BackendError(
                f"job {spec.name}: {error.filename or spec.workdir}: {error.strerror}",
                "make the workspace writable, or free its disk or quota, and run again",
            ) from error
        return handle

    def find(self, name: str) -> str | None:
        """See Backend. A submission that a crash cut short is found by its name and comment."""
        try:
            note = self._notes.read(name)
            if note is None or note.handle is not None:
                return note.handle if note else None
            job_id = self._started_id(note) or self._queued_id(note)
        except CouldNotLookError as error:
            raise BackendError(str(error), "see whether the cluster answers (scontrol ping), then run again") from error
        if job_id is None:
            return None
        handle = make_handle(job_id, name)
        self._notes.update(note.model_copy(update={"handle": handle}))
        return handle

    def poll(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        """See Backend. At most one squeue and, for jobs that left the queue without a trace, one sacct."""
        open_handles = [handle for handle in handles if handle not in self._ended]
        try:
            statuses = self._look(open_handles) if open_handles else {}
        except CouldNotLookError as error:
            statuses = {handle: JobStatus(state="UNKNOWN", detail=str(error)) for handle in open_handles}
        return {handle: self._ended.get(handle) or statuses[handle] for handle in handles}

    def cancel(self, handle: str) -> None:
        """See Backend. Cancels the job with exactly this id; Slurm ends everything the job started."""
        self._refuse_when_dry(f"cancel {handle}")
        job_id, _ = self._notes.cancelled(handle)
        self._commands.run(("scancel", "--quiet", job_id))
        self._queue.expect_change()

    def _look(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        rows = self._queue.rows()
        statuses: dict[str, JobStatus] = {}
        missing: list[tuple[str, str, JobNote | None]] = []
        for handle in handles:
            try:
                job_id, name = split_handle(handle)
                own_rows = rows.get(job_id, [])
                if any(row.state in LIVE_STATES for row in own_rows):
                    meaning_now = combine(own_rows)
                    if (
                        meaning_now.state == "PENDING"
                        and self._options.quiet_nodes
                        and (note := self._notes.read(name))
                    ):
                        self._give_back(note.spec)  # requeued: it may wait for the very node that it drained
                    statuses[handle] = JobStatus(state=meaning_now.state, detail=meaning_now.detail)
                    self._gone_since.pop(handle, None)
                else:
                    missing.append((handle, job_id, self._notes.read(name)))
            except CouldNotLookError as error:
                statuses[handle] = JobStatus(state="UNKNOWN", detail=str(error))
            except DraftsmithError as error:
                statuses[handle] = JobStatus(state="UNKNOWN", detail=error.message)
        unexplained = [job_id for _, job_id, note in missing if job_id not in rows and not self._explained(note)]
        told_later = self._queue.ended(unexplained)
        for handle, job_id, note in missing:
            statuses[handle] = self._judge(handle, note, rows.get(job_id) or told_later.get(job_id, []))
        return statuses

    def _judge(self, handle: str, note: JobNote | None, rows: list[Row]) -> JobStatus:
        """The end of one job, kept once it is certain."""
        if note is None or note.handle != handle:
            return JobStatus(state="LOST", detail="another job took its name, or its folder was removed")
        now = self._clock.monotonic()
        settled = now - self._gone_since.setdefault(handle, now) >= self._options.settle_s
        folders = self._folders(note.spec)
        try:
            shards = [judge(_evidence(note, folder, index, rows, settled)) for index, folder in enumerate(folders)]
            status = shards[0] if len(shards) == 1 else judge_shards(shards)
            if len(shards) > 1 and status.state == "SUCCEEDED":
                self._merge(note.spec, folders)
            if status.state not in LIVE and status.state != "UNKNOWN":
                self._give_back(note.spec)
        except CouldNotLookError as error:
            return JobStatus(state="UNKNOWN", detail=str(error))
        except DraftsmithError as error:  # an end is not told before the node is given back
            return JobStatus(state="UNKNOWN", detail=f"{error.message}; {error.next_step}")
        except OSError as error:
            return JobStatus(state="UNKNOWN", detail=f"{error.filename}: {error.strerror}")
        if status.state not in LIVE and status.state != "UNKNOWN":
            self._ended[handle] = status
            self._gone_since.pop(handle, None)
        return status

    def _merge(self, spec: JobSpec, folders: Sequence[Path]) -> None:
        path = Path(spec.workdir) / RESULT
        if not path.exists():
            results = [result for folder in folders if (result := read_result(folder))]
            write_json(path, merge_results(results, [str(folder) for folder in folders]))

    def _give_back(self, spec: JobSpec) -> None:
        """Resume the node that a killed comparison left drained. Raises PrerequisiteError, BackendError."""
        if self._allowed and self._options.quiet_nodes:
            give_back(self._commands, Path(spec.workdir), comment_of(spec.name))

    def _explained(self, note: JobNote | None) -> bool:
        """Whether the job's own folder says how it ended, so that accounting need not be asked."""
        if note is None:
            return True
        return all((f / RESULT).exists() or (f / EXIT_CODE).exists() for f in self._folders(note.spec))

    def _folders(self, spec: JobSpec) -> list[Path]:
        workdir, shards = Path(spec.workdir), self._options.phase(spec.name).shards
        return [shard_dir(workdir, index) for index in range(shards)] if shards > 1 else [workdir]

    def _living(self, spec: JobSpec) -> str | None:
        handle = self.find(spec.name)
        if handle is None:
            return None
        self._queue.expect_change()  # a decision to start needs an answer of now
        status = self.poll([handle])[handle]
        return handle if may_adopt(spec, status, self._notes) else None

    def _write_files(self, spec: JobSpec) -> Path:
        workdir = private_dir(Path(spec.workdir))
        write_atomic(workdir / ENVIRONMENT, environment_file(spec))
        return write_atomic(workdir / SCRIPT, self.plan_text(spec))

    def _clear(self, spec: JobSpec) -> None:
        for folder in (Path(spec.workdir), *self._folders(spec)):
            for stale in (RESULT, EXIT_CODE, JOB_ID):
                (folder / stale).unlink(missing_ok=True)

    def _sbatch(self, script: Path) -> str:
        try:
            return parse_submitted(self._commands.run(("sbatch", "--parsable", str(script))))
        except ValueError as error:
            raise BackendError(str(error), "look for the job with squeue; running again adopts it") from error

    def _started_id(self, note: JobNote) -> str | None:
        """The id that the job noted itself when it started."""
        for folder in self._folders(note.spec):
            try:
                return (folder / JOB_ID).read_text(encoding="ascii").strip() or None
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CouldNotLookError(f"{folder / JOB_ID}: {error.strerror}") from error
        return None

    def _queued_id(self, note: JobNote) -> str | None:
        """The id of a queued job with this name, comment and folder."""
        self._queue.expect_change()
        for job_id in sorted(_ours(self._queue.rows(), note.spec.name), key=int, reverse=True):
            try:
                folder = self._commands.run(("squeue", "--noheader", f"--jobs={job_id}", "--states=all", "--format=%Z"))
            except DraftsmithError as error:
                raise CouldNotLookError(error.message) from error
            if note.spec.workdir in folder.split("\n"):
                return job_id
        return None

    def _refuse_when_dry(self, text: str) -> None:
        if not self._allowed:
            raise RefusedError(
                f"dry run: would {text} on the cluster", "read the plan, then add --i-understand-this-uses-the-cluster"
            )


def _ours(rows: Rows, name: str) -> list[str]:
    marks = {comment_of(name), "", "(null)"}  # some sites clear or replace comments at submission
    return [
        job_id
        for job_id, own_rows in rows.items()
        if any(row.name == name and row.comment in marks for row in own_rows)
    ]


def _evidence(note: JobNote, folder: Path, index: int, rows: Sequence[Row], settled: bool) -> Evidence:
    own_rows = [row for row in rows if row.task in {"", str(index)}]
    meaning_now = combine(own_rows) if own_rows else None
    code = next((row.exit_code for row in own_rows if row.exit_code is not None), None)
    return Evidence(
        read_result(folder), meaning_now, noted_exit(folder) if code is None else code, note.cancelled, settled
    )
