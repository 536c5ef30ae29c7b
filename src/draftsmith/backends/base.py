"""The protocol of a back end, and the one judgement of how a job ended."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import ValidationError

from draftsmith.contract.errors import RunInterruptedError
from draftsmith.contract.job import JobResult, JobSpec, JobState, JobStatus
from draftsmith.kit.files import read_json

RESULT = "result.json"
PROGRESS = "progress.json"
STDOUT = "stdout.log"
STDERR = "stderr.log"

LIVE: frozenset[JobState] = frozenset({"PENDING", "RUNNING"})
ENDED: frozenset[JobState] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "LOST"})


class Backend(Protocol):
    """Runs jobs. A handle is opaque text that survives a restart of Draftsmith: keep it, or ask `find` for it."""

    def submit(self, spec: JobSpec) -> str:
        """Start a job, or adopt the living one of the same name and program. Returns its handle.

        The intent is in `<workdir>/job.json` before anything starts. Results of an earlier attempt in the workdir are
        removed. Raises InputError (unusable name), PrerequisiteError (the place cannot run it), RefusedError (the name
        runs with another program) and BackendError (could not start, or could not look whether it already runs).
        """
        ...

    def find(self, name: str) -> str | None:
        """Handle of the latest job of that name, living or ended; None if none was ever started.

        Raises BackendError if it could not look.
        """
        ...

    def poll(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        """State of every handle given, asked for in one batch. Never raises for a job: UNKNOWN = could not look."""
        ...

    def cancel(self, handle: str) -> None:
        """Stop the job and everything it started; harmless once it ended. Raises BackendError if it could not ask."""
        ...


@runtime_checkable
class ClusterBackend(Backend, Protocol):
    """A back end over a cluster that others use too: what it would do there can be read, and checked, in advance.

    A job that runs as several shards has a result.json whose `outputs` are `{"shards": [folder of each]}`; each folder
    holds the result of its shard.
    """

    def plan_text(self, spec: JobSpec) -> str:
        """The exact text that `submit` hands over. Asks nothing. Raises ConfigError, InputError."""
        ...

    def check(self, spec: JobSpec) -> None:
        """Raise PrerequisiteError or BackendError if the cluster would not take the job now. Starts nothing."""
        ...


class CouldNotLookError(Exception):
    """The answer is unavailable: becomes the state UNKNOWN, with this text as its detail."""


def read_result(workdir: Path) -> JobResult | None:
    """`result.json` of a job; None if it is not there.

    A file that is not a result becomes a failed result that says so. Raises CouldNotLookError if it cannot be read.
    """
    try:
        return JobResult.model_validate(read_json(workdir / RESULT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CouldNotLookError(f"{workdir / RESULT} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, item["loc"])) or "all" for item in error.errors()}))
        return JobResult(ok=False, error=f"{RESULT} does not have the form of a result (fields: {fields})")
    except ValueError:
        return JobResult(ok=False, error=f"{RESULT} is not JSON")


def outcome(result: JobResult | None, exit_code: int | None, cancelled: bool) -> JobStatus:
    """How a job that no longer runs ended. `exit_code` None = its end was not observed; negative = ended by that signal.

    Only a result counts as success. An interrupted job explained itself but did not finish: safe to start again.
    """
    if result is not None and result.ok:
        return JobStatus(state="SUCCEEDED", exit_code=exit_code)
    interrupted = result is not None and result.error_kind == RunInterruptedError.__name__
    if cancelled and (result is None or interrupted):
        return JobStatus(state="CANCELLED", detail="stopped on request", exit_code=exit_code)
    if interrupted:
        return JobStatus(state="LOST", detail="interrupted before its end; it resumes when started again")
    if result is not None:
        return JobStatus(
            state="FAILED", detail=result.error or "the job said it failed, and not why", exit_code=exit_code
        )
    if exit_code is None:
        return JobStatus(state="LOST", detail="it is gone, and left neither a result nor an exit code")
    return JobStatus(
        state="FAILED", detail=f"{describe_exit(exit_code)} without a result; see {STDERR}", exit_code=exit_code
    )


def describe_exit(exit_code: int) -> str:
    """`ended with exit code 3`, `was ended by SIGKILL (often: out of memory)`."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (often: out of memory)" if -exit_code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
