"""The only place that runs a Slurm command. What it says is translated into errors that name a next step here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from draftsmith.contract.errors import AwayError, BackendError, DraftsmithError, PrerequisiteError

NEEDED = ("sbatch", "squeue", "scancel", "sinfo")

_AWAY = "unable to contact slurm controller|connection (refused|reset|timed out)|socket timed out|zero bytes|no route to host"

# What Slurm says (its own error texts, lower case), what it means, what to do, and whether waiting can help.
_REFUSALS: tuple[tuple[str, str, str, type[DraftsmithError]], ...] = (
    (
        "invalid partition",
        "the partition does not exist, or is closed to you",
        "set backend.options.partition to one that sinfo lists",
        PrerequisiteError,
    ),
    (
        "invalid account",
        "the account does not exist, or may not use this partition",
        "set backend.options.account to one of yours",
        PrerequisiteError,
    ),
    (
        "invalid qos",
        "the QOS does not exist, or is not yours",
        "set backend.options.qos to one of yours",
        PrerequisiteError,
    ),
    (
        "time limit is invalid|time limit exceeds",
        "the time limit is longer than the partition allows",
        "lower backend.options.time_limit_s; the job resumes where it stopped",
        PrerequisiteError,
    ),
    (
        "qos policy|association|limit.*exceeded|exceeds.*limit",
        "a quota or limit of your account or QOS is used up",
        "wait for other jobs to end, or ask for less in backend.options.phases",
        PrerequisiteError,
    ),
    (
        "disk quota|no space",
        "the disk or its quota is full",
        "free space in the workspace and run again",
        PrerequisiteError,
    ),
    (
        "requested node configuration|node count|more processors|memory specification|invalid gres|invalid generic",
        "no node of the partition is as large as the job asks for",
        "ask for less, or choose another partition in backend.options",
        PrerequisiteError,
    ),
    (
        "invalid feature",
        "no node has the feature asked for",
        "correct backend.options.constraint",
        PrerequisiteError,
    ),
    (
        "access.*denied|permission denied",
        "Slurm does not let you do that",
        "ask the operator of the cluster",
        PrerequisiteError,
    ),
)


@dataclass
class SlurmCommands:
    """Runs commands with a fixed environment: no variable of this shell may override what the script says.

    `path` is looked in before PATH.
    """

    timeout_s: float = 30.0
    path: str = ""
    calls: int = field(default=0, init=False)

    def missing(self) -> list[str]:
        """Commands that are needed and not installed."""
        return [name for name in NEEDED if self._which(name) is None]

    def has(self, name: str) -> bool:
        """Whether a command is installed."""
        return self._which(name) is not None

    def run(self, argv: Sequence[str]) -> str:
        """Standard output of a command. Raises PrerequisiteError (not installed, refused) and BackendError."""
        program = self._which(argv[0])
        if program is None:
            raise PrerequisiteError(
                f"{argv[0]} is not installed on this machine", "run Draftsmith on a login node of the Slurm cluster"
            )
        self.calls += 1
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout_s,
                env=self._environment(),
                umask=0o077,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise AwayError(
                f"{argv[0]} did not answer within {self.timeout_s:g} s", "see whether slurmctld answers: scontrol ping"
            ) from None
        except OSError as error:
            raise BackendError(f"{argv[0]} could not be run: {error.strerror}", "run again later") from error
        if done.returncode:
            raise refusal(argv[0], done.stderr)
        return done.stdout

    def _which(self, name: str) -> str | None:
        return shutil.which(name, path=self._environment()["PATH"])

    def _environment(self) -> dict[str, str]:
        prefixes = ("SLURM_", "SBATCH_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SRUN_")
        kept = {k: v for k, v in os.environ.items() if k == "SLURM_CONF" or not k.startswith(prefixes)}
        path = os.pathsep.join(filter(None, (self.path, kept.get("PATH", os.defpath))))
        return {**kept, "PATH": path, "LC_ALL": "C"}


def refusal(program: str, stderr: str) -> DraftsmithError:
    """The error for what a command printed. Unrecognised text becomes a BackendError that repeats its last line."""
    lines = [line.strip() for line in stderr.split("\n") if line.strip()]
    last_line = lines[-1] if lines else "nothing"
    if re.search(_AWAY, stderr.lower()):
        return AwayError(
            f"{program}: the Slurm controller does not answer ({last_line})", "run again when scontrol ping answers"
        )
    for pattern, meaning, next_step, kind in _REFUSALS:
        if re.search(pattern, stderr.lower()):
            return kind(f"{program}: {meaning} ({last_line})", next_step)
    return BackendError(
        f"{program} failed: {last_line}", "see whether the cluster answers (scontrol ping), then run again"
    )
