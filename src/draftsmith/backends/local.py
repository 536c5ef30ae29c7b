"""Jobs as child processes of this machine.

Laws:
- A job leads a session of its own and dies with Draftsmith (SIGTERM; a job answers it by stopping its servers).
- After a crash of Draftsmith a job that still runs is adopted, recognised by pid and creation time.
- The end of a job is the end of its session: whatever it left running is stopped before its end is reported.
How many jobs run at once is the caller's business, and so is the sharing of cores and GPUs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from draftsmith.backends.base import (
    STDERR,
    STDOUT,
    CouldNotLookError,
    outcome,
    read_result,
)
from draftsmith.backends.notes import JobNote, Notes, make_handle, may_adopt, split_handle
from draftsmith.contract.errors import BackendError, InputError
from draftsmith.contract.job import JobSpec, JobStatus
from draftsmith.kit import processes
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import PRIVATE_FILE

# One file for each stream: the process registry knows one log, so a shell splits off stderr and becomes the program.
_SPLIT_STDERR = ("/bin/sh", "-c", 'exec "$@" 2>>"$0"')


class LocalBackend:
    """Runs jobs here. `root` is a private folder that outlives this process: the same one finds the jobs again."""

    def __init__(self, root: Path, *, clock: Clock | None = None, grace_s: float = processes.GRACE_S) -> None:
        self._registry = root / "processes"
        self._notes = Notes(root)
        self._clock = clock or SystemClock()
        self._grace_s = grace_s

    def submit(self, spec: JobSpec) -> str:
        """See Backend."""
        adopted = self._living(spec)
        if adopted is not None:
            return adopted
        self._clear(spec.name)
        note = JobNote(spec=spec, backend="local", intended_unix_s=self._clock.unix())
        try:
            self._notes.intend(note)
            token = self._start(spec)
        except OSError as error:
            raise BackendError(
                f"job {spec.name} could not be started: {error.strerror or error}",
                f"make {spec.workdir} writable, or free space on its disk, and run again",
            ) from error
        handle = make_handle(token, spec.name)
        self._notes.update(note.model_copy(update={"handle": handle, "submitted_unix_s": self._clock.unix()}))
        return handle

    def find(self, name: str) -> str | None:
        """See Backend. A start that a crash cut short counts as none; the next submit clears it away."""
        try:
            note = self._notes.read(name)
        except CouldNotLookError as error:
            raise BackendError(str(error), "make the file readable, or remove it to start the job again") from error
        if note is None or note.handle is not None:
            return note.handle if note else None
        for _, record in self._records(name):
            if processes.is_alive(record):
                handle = make_handle(record.token, name)
                self._notes.update(note.model_copy(update={"handle": handle}))
                return handle
        return None

    def poll(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        """See Backend. Looks at this machine only; takes well under a millisecond a job that runs."""
        started = self._started()
        return {handle: self._status(handle, started) for handle in handles}

    def cancel(self, handle: str) -> None:
        """See Backend. SIGTERM to everything in the job's session, then SIGKILL after the grace period."""
        token, name = split_handle(handle)
        process = self._started().get(token)
        if process is None:
            return
        try:
            note = self._notes.read(name)
        except CouldNotLookError:
            note = None  # the job is stopped all the same; its state will read LOST instead of CANCELLED
        if note and note.handle == handle and process.exit_code() is None:
            note = self._notes.update(note.model_copy(update={"cancelled": True}))
        self._end(process, note if note and note.handle == handle else None)

    def _living(self, spec: JobSpec) -> str | None:
        handle = self.find(spec.name)
        if handle is None:
            return None
        status = self._status(handle, self._started())
        return handle if may_adopt(spec, status, self._notes) else None

    def _start(self, spec: JobSpec) -> str:
        workdir = Path(spec.workdir)
        stderr = workdir / STDERR
        os.close(os.open(stderr, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))
        process = processes.start(
            (*_SPLIT_STDERR, str(stderr), *spec.argv),
            registry=self._registry,
            label=_label(spec.name),
            log=workdir / STDOUT,
            env={**os.environ, **spec.env, "DRAFTSMITH_JOB_DIR": spec.workdir},
            cwd=workdir,
            grace_s=self._grace_s,
        )
        return process.record.token

    def _status(self, handle: str, started: dict[str, processes.Process]) -> JobStatus:
        try:
            token, name = split_handle(handle)
            return self._look(handle, started.get(token), self._notes.read(name))
        except CouldNotLookError as error:
            return JobStatus(state="UNKNOWN", detail=str(error))
        except InputError as error:
            return JobStatus(state="UNKNOWN", detail=error.message)
        except OSError as error:  # an end was seen and could not be written down: the next look tries again
            return JobStatus(state="UNKNOWN", detail=f"{error.filename or 'a file'}: {error.strerror}")

    def _look(self, handle: str, process: processes.Process | None, note: JobNote | None) -> JobStatus:
        code = process.exit_code() if process else None
        if process and code is None:
            if not self._is_overtime(process, note):
                return JobStatus(state="RUNNING", detail=f"process {process.pid}")
            note = self._notes.update(note.model_copy(update={"overtime": True})) if note else None
        if note is None or note.handle != handle:
            return JobStatus(state="LOST", detail="another job took its name, or its folder was removed")
        if process:
            note = self._end(process, note) or note
        status = outcome(read_result(Path(note.spec.workdir)), note.exit_code, note.cancelled)
        if note.overtime and status.state != "SUCCEEDED":
            detail = f"stopped at its time limit of {note.spec.time_limit_s} s"
            return JobStatus(state="FAILED", detail=detail, exit_code=note.exit_code)
        return status

    def _is_overtime(self, process: processes.Process, note: JobNote | None) -> bool:
        limit, started = (note.spec.time_limit_s if note else None), process.record.create_time
        return limit is not None and started is not None and self._clock.unix() - started > limit

    def _end(self, process: processes.Process, note: JobNote | None) -> JobNote | None:
        """Stop what is left of a job and keep its exit code; the record is forgotten last."""
        code = process.exit_code()
        ended_by_itself = code is not None
        if not ended_by_itself:
            code = processes.stop(process, self._grace_s)
        if note is not None and code is not None and code != processes.UNKNOWN_EXIT:
            note = self._notes.update(note.model_copy(update={"exit_code": code}))
        if ended_by_itself:
            processes.stop(process, self._grace_s)
        return note

    def _started(self) -> dict[str, processes.Process]:
        return {record.token: processes.Process(record, path) for path, record in processes.records(self._registry)}

    def _records(self, name: str) -> list[tuple[Path, processes.ProcessRecord]]:
        return [item for item in processes.records(self._registry) if item[1].label == _label(name)]

    def _clear(self, name: str) -> None:
        """End what a crash in the middle of an earlier start left behind."""
        for path, record in self._records(name):
            with contextlib.suppress(OSError):
                processes.stop(processes.Process(record, path), self._grace_s)


def _label(name: str) -> str:
    return f"job {name}"
