"""Places where jobs run, made to look alike: the shared suite knows nothing else of a back end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil

from draftsmith.backends.base import Backend
from draftsmith.backends.local import LocalBackend
from draftsmith.backends.notes import NOTE
from draftsmith.backends.slurm import SlurmBackend
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.contract.job import JobSpec, JobStatus
from draftsmith.kit import processes

SRC = Path(__file__).parents[2] / "src"
CI = Path(__file__).parents[2] / ".ci"

WRITE = "import json\ndef write(**result): open('result.json', 'w').write(json.dumps(result))\n"
OK = WRITE + "print('said'); write(ok=True, wall_s=1.5)"
SLEEP = "import time; open('starts', 'a').write('x'); time.sleep(600)"
FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open('child', 'w').write(str(child.pid) + ' ')\n"
    "time.sleep(600)"
)
FAST = SlurmOptions(poll_s=0.05, poll_max_s=0.2, settle_s=0, require_idle=False, export="PATH")

# A Draftsmith of its own, which another test kills: argv are root, spec as JSON, kind.
_SUBMITTER = (
    "import sys, time; from pathlib import Path\n"
    "from draftsmith.backends.local import LocalBackend; from draftsmith.backends.slurm import SlurmBackend\n"
    "from draftsmith.backends.slurm_options import SlurmOptions; from draftsmith.contract.job import JobSpec\n"
    "root, spec = Path(sys.argv[1]), JobSpec.model_validate_json(sys.argv[2])\n"
    "slurm = lambda: SlurmBackend(root, SlurmOptions(require_idle=False, export='PATH'), allow_cluster=True)\n"
    "backend = slurm() if sys.argv[3] == 'slurm' else LocalBackend(root)\n"
    "print(backend.submit(spec), flush=True); time.sleep(600)"
)


def until(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    """Wait for another process: its progress cannot be simulated."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class Place(ABC):
    """One back end, its folder, and the ways of the world around it."""

    kind: str

    def __init__(self, root: Path) -> None:
        self.root = root
        self.backend = self.open()

    @abstractmethod
    def open(self) -> Backend:
        """A back end over the same folder, as a Draftsmith started anew would have."""

    @abstractmethod
    def vanish(self, spec: JobSpec) -> str:
        """Start a job and let it go without a trace of an end. Returns its handle."""

    def spec(self, name: str, code: str, **more: object) -> JobSpec:
        return JobSpec.model_validate(
            {"name": name, "argv": (sys.executable, "-c", code), "workdir": str(self.root / "runs" / name), **more}
        )

    def run(self, name: str, code: str, **more: object) -> str:
        return self.backend.submit(self.spec(name, code, **more))

    def state(self, handle: str) -> str:
        return self.backend.poll([handle])[handle].state

    def end_of(self, handle: str) -> JobStatus:
        until(lambda: self.state(handle) not in {"PENDING", "RUNNING", "UNKNOWN"})
        return self.backend.poll([handle])[handle]

    def file(self, name: str, file: str) -> Path:
        return self.root / "runs" / name / file

    def started(self, name: str) -> None:
        """Wait until the job has noted its start; a file may be there before its content is."""
        starts = self.file(name, "starts")
        until(lambda: starts.exists() and starts.read_text())

    def submit_elsewhere(self, spec: JobSpec) -> tuple[subprocess.Popen[str], str]:
        """Submit from another process, so that it can be killed. Returns it and the handle."""
        command = [sys.executable, "-c", _SUBMITTER, str(self.root), spec.model_dump_json(), self.kind]
        env = {**os.environ, "PYTHONPATH": str(SRC)}
        submitter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert submitter.stdout is not None
        handle = submitter.stdout.readline().strip()
        return submitter, handle

    def kill(self, submitter: subprocess.Popen[str]) -> None:
        submitter.kill()
        submitter.wait()
        assert submitter.stdout is not None
        submitter.stdout.close()

    def forget_handle(self, name: str) -> None:
        """As if Draftsmith had died between the submission and writing down its handle."""
        path = self.file(name, NOTE)
        path.write_text(json.dumps({**json.loads(path.read_text()), "handle": None}))

    @abstractmethod
    def close(self) -> None:
        """Leave nothing running."""


class LocalPlace(Place):
    kind = "local"

    def open(self) -> LocalBackend:
        return LocalBackend(self.root, grace_s=5)

    def vanish(self, spec: JobSpec) -> str:
        submitter, handle = self.submit_elsewhere(spec)
        self.kill(submitter)
        until(lambda: self.state(handle) != "RUNNING")
        return handle

    def close(self) -> None:
        for path, record in processes.records(self.root / "processes"):
            processes.stop(processes.Process(record, path), grace_s=0)


class SlurmPlace(Place):
    kind = "slurm"
    options = FAST

    def open(self) -> SlurmBackend:
        return SlurmBackend(self.root, self.options, allow_cluster=True)

    def with_options(self, **changes: object) -> SlurmBackend:
        return SlurmBackend(
            self.root, SlurmOptions.model_validate({**FAST.model_dump(), **changes}), allow_cluster=True
        )

    def vanish(self, spec: JobSpec) -> str:
        """A controller that lost its state knows the id no more, and the job noted nothing."""
        handle = self.backend.submit(spec)
        self.backend.cancel(handle)
        self.end_of(handle)
        path = self.file(spec.name, NOTE)
        lost = f"4000000@{spec.name}"
        path.write_text(json.dumps({**json.loads(path.read_text()), "handle": lost, "cancelled": False}))
        for left in ("exit_code", "slurm_job_id"):
            self.file(spec.name, left).unlink(missing_ok=True)
        return lost

    def close(self) -> None:
        subprocess.run(["scancel", "--quiet", "--user=root"], check=True)
        until(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout)
