"""`job.json`: what was meant to run, and the handle it was given. Written before and after every submission.

A second, tiny file in the back end's own folder (`jobs/<name>.json`) says in which workdir the name lives, so that a
restart needs the name alone. The order is: pointer, intent, effect, handle. Whatever step a crash falls on, the
next look finds either no job, or the job.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from draftsmith.backends.base import LIVE, PROGRESS, RESULT, CouldNotLookError
from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, InputError, RefusedError
from draftsmith.contract.job import JobSpec, JobStatus
from draftsmith.kit.files import private_dir, read_json, write_json

NOTE = "job.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_Model = TypeVar("_Model", bound=Frozen)


class JobNote(Frozen):
    """The content of `job.json`. `handle` None = it was meant to be started, and perhaps was not.

    Times are seconds since the epoch. `exit_code` is set once the end was seen.
    """

    spec: JobSpec
    backend: str
    intended_unix_s: float
    handle: str | None = None
    submitted_unix_s: float | None = None
    cancelled: bool = False
    overtime: bool = False
    exit_code: int | None = None


class _Pointer(Frozen):
    workdir: str


class Notes:
    """Notes of one back end. `root` is its private folder."""

    def __init__(self, root: Path) -> None:
        self._pointers = private_dir(root) / "jobs"

    def intend(self, note: JobNote) -> None:
        """Record the intent and clear away the results of an earlier attempt. Raises InputError, OSError."""
        check_name(note.spec.name)
        workdir = private_dir(Path(note.spec.workdir))
        write_json(self._pointers / f"{note.spec.name}.json", _Pointer(workdir=str(workdir)))
        write_json(workdir / NOTE, note)
        for stale in (RESULT, PROGRESS):
            (workdir / stale).unlink(missing_ok=True)

    def update(self, note: JobNote) -> JobNote:
        """Replace the note of the same name; returns it."""
        write_json(Path(note.spec.workdir) / NOTE, note)
        return note

    def cancelled(self, handle: str) -> tuple[str, str]:
        """Note that the end of this submission will have been asked for; returns (id, name). Raises InputError.

        A note that cannot be read does not stand in the way of a cancel.
        """
        job_id, name = split_handle(handle)
        try:
            note = self.read(name)
        except CouldNotLookError:
            note = None
        if note is not None and note.handle == handle:
            self.update(note.model_copy(update={"cancelled": True}))
        return job_id, name

    def read(self, name: str) -> JobNote | None:
        """The latest note of a name; None if there is none. Raises InputError, CouldNotLookError (unreadable)."""
        check_name(name)
        pointer = _read(self._pointers / f"{name}.json", _Pointer)
        note = _read(Path(pointer.workdir) / NOTE, JobNote) if pointer else None
        return note if note and note.spec.name == name else None


def check_name(name: str) -> None:
    """Raises InputError unless `name` can be a file name, a Slurm job name and a label."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"job name {name!r} is not usable",
            "use letters, digits, '.', '_' and '-', at most 128, beginning with a letter or digit",
        )


def make_handle(job_id: str, name: str) -> str:
    """`<id>@<name>`: the id tells one submission of a name from the next."""
    return f"{job_id}@{name}"


def split_handle(handle: str) -> tuple[str, str]:
    """(id, name) of a handle. Raises InputError for text that is none."""
    job_id, separator, name = handle.partition("@")
    if not separator or not job_id:
        raise InputError(f"{handle!r} is not a job handle", "pass a handle as submit() or find() returned it")
    check_name(name)
    return job_id, name


def _read(path: Path, model: type[_Model]) -> _Model | None:
    try:
        return model.model_validate(read_json(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CouldNotLookError(f"{path} cannot be read: {error.strerror}") from error
    except (ValidationError, ValueError) as error:
        raise CouldNotLookError(f"{path} is damaged") from error


def may_adopt(spec: JobSpec, status: JobStatus, notes: Notes) -> bool:
    """Whether the job of that name is alive and has the same program and settings: then it is adopted, not started again.

    Raises BackendError if its state is unknown, RefusedError if the name runs with another program or settings.
    """
    if status.state == "UNKNOWN":
        raise BackendError(f"cannot tell whether {spec.name} already runs: {status.detail}", "run again later")
    if status.state not in LIVE:
        return False
    note = notes.read(spec.name)
    if note is not None and note.spec != spec:
        raise RefusedError(
            f"job {spec.name} runs already, with another program or settings",
            "cancel it first, or choose another run id",
        )
    return True
