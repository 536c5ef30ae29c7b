"""The current run, as a job of this machine: a child process that carries out the loop through the api.

The job is found again by its name after a restart of the controller. If it died with the controller, it is submitted again
under the same request, and the loop resumes where it stopped.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

from draftsmith.backends.base import read_result
from draftsmith.backends.local import LocalBackend
from draftsmith.contract.base import Frozen, digest
from draftsmith.contract.config import Config
from draftsmith.contract.control import Champion, RunInHand, RunSeen
from draftsmith.contract.errors import BackendError, DraftsmithError
from draftsmith.contract.job import JobResult, JobSpec
from draftsmith.contract.policy import Policy
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.loop.jobs import read_progress
from draftsmith.loop.lock import alone
from draftsmith.store.runs import Store

MODULE = "draftsmith.api.child"
FINISH_S = 3600.0
POLL_S = 0.5
To = Literal["verdict", "end"]


class ChildRequest(Frozen):
    """The request of the child process. `to`: stop at a verdict that would promote, or run to the end."""

    config: Config
    sources: tuple[str, ...]
    to: To
    allow_cluster: bool = False


class RunJobs:
    """The runs of one workspace that the controller began."""

    def __init__(self, folder: Path, config: Config, *, allow_cluster: bool = False) -> None:
        self.folder, self.config, self.allow_cluster = private_dir(folder), config, allow_cluster
        self._backend = LocalBackend(private_dir(folder / "backend"))

    def folder_of(self, traffic: str) -> Path:
        """Where the traffic and the jobs of a run lie."""
        return self.folder / digest(traffic)[:12]

    def start(self, run: RunInHand, champion: Champion | None) -> None:
        """Submit the run's job, or find that it lives already."""
        folder = self.folder_of(run.traffic)
        for other in self.folder.glob("*/traffic.jsonl"):
            if other.parent != folder:
                self.forget(other.parent)
        request = folder / "request.json"
        if not request.exists():  # the same request through all its attempts: another one would be another run
            write_json(request, self._request(folder, champion))
        self._submit(folder, "verdict", run.attempt)

    def seen(self, run: RunInHand) -> RunSeen:
        """How the run in hand is."""
        folder = self.folder_of(run.traffic)
        return self._seen(folder, "verdict", run.attempt)

    def finish(self, traffic: str) -> JobResult:
        """Carry the run to its end: promote, publish. Waits. Raises the error that the child explained."""
        folder = self.folder_of(traffic)
        self._submit(folder, "end", 0)
        deadline = time.monotonic() + FINISH_S
        while (seen := self._seen(folder, "end", 0)).alive is not False:
            if time.monotonic() > deadline:
                raise BackendError("the promotion did not end in an hour", "look at the job's stderr.log")
            time.sleep(POLL_S)
        result = read_result(self._workdir(folder, "end", 0))
        if result is None or not result.ok:
            raise DraftsmithError(seen.why or "the promotion ended without a word", (result and result.next_step) or "")
        return result

    def forget(self, folder: Path) -> None:
        """Remove the traffic of a run that is over; requests and results stay, they hold none."""
        (folder / "traffic.jsonl").unlink(missing_ok=True)

    def other_run(self) -> str | None:
        """A run that another process is carrying out in this workspace."""
        from draftsmith.contract.errors import RefusedError

        for run in reversed(Store(self.folder.parent.parent).runs()[-3:]):
            try:
                with alone(run.folder):
                    continue
            except RefusedError:
                return run.folder.name
        return None

    def stop(self) -> None:
        """Stop the current job, if one is alive: a controller that stops also stops its run, and resumes it later."""
        for folder in self.folder.glob("*/"):
            for job in folder.glob("*-*/"):
                if (handle := self._backend.find(self._name(folder, job.name))) is not None:
                    self._backend.cancel(handle)

    # -- the job -----------------------------------------------------------------------------------------------------

    def _request(self, folder: Path, champion: Champion | None) -> ChildRequest:
        config = self.config.model_copy(update={"controller": Policy(), "profile": None})
        if (
            config.serving.kind == "managed"
        ):  # what answers there is shared out by the controller, which watches it itself
            serving = config.serving.model_copy(update={"endpoint": None, "options": {}})
            config = config.model_copy(update={"serving": serving})
        standing = (champion.config if champion else None) or {}
        draft = standing.get("model")
        same = standing.get("method") == config.trainer.method and config.trainer.warm_start is None
        if self.config.controller.warm_start and same and draft and Path(str(draft), "config.json").is_file():
            config = config.model_copy(update={"trainer": config.trainer.model_copy(update={"warm_start": str(draft)})})
        sources = (str(folder / "traffic.jsonl"),)
        return ChildRequest(config=config, sources=sources, to="verdict", allow_cluster=self.allow_cluster)

    def _submit(self, folder: Path, to: To, attempt: int) -> None:
        workdir = private_dir(self._workdir(folder, to, attempt))
        child_request = ChildRequest.model_validate(read_json(folder / "request.json"))
        request = write_json(workdir / "request.json", child_request.model_copy(update={"to": to}))
        argv = (sys.executable, "-P", "-m", MODULE, str(request))
        self._backend.submit(JobSpec(name=self._name(folder, workdir.name), argv=argv, workdir=str(workdir)))

    def _seen(self, folder: Path, to: To, attempt: int) -> RunSeen:
        workdir = self._workdir(folder, to, attempt)
        handle = self._backend.find(self._name(folder, workdir.name))
        if handle is None:
            return RunSeen(alive=False, why="its job was not started")
        status = self._backend.poll([handle])[handle]
        if status.state in ("PENDING", "RUNNING"):
            progress = read_progress(workdir)
            return RunSeen(alive=True, phase=progress.stage if progress else "")
        if status.state == "UNKNOWN":
            return RunSeen(alive=None, why=status.detail)
        result = read_result(workdir)
        if result is None:
            return RunSeen(alive=False, why=status.detail)
        if not result.ok:
            return RunSeen(alive=False, outcome="failed", why=result.error or status.detail, **_known(result))
        return RunSeen(alive=False, **_known(result))

    def _workdir(self, folder: Path, to: To, attempt: int) -> Path:
        return folder / f"{to}-{attempt}"

    def _name(self, folder: Path, job: str) -> str:
        return f"controller-{folder.name}.{job}"


def _known(result: JobResult) -> dict[str, object]:
    fields = RunSeen.model_fields.keys() - {"alive"}
    return {name: value for name, value in result.outputs.items() if name in fields}
