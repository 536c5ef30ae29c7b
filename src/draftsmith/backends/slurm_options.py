"""`[backend.options]` of draftsmith.toml when `backend.kind = "slurm"`. Everything a site may want differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import ConfigError

# The last part of a job's name, `<run-id>.<phase>`.
PhaseName = Literal["profile", "corpus", "capture", "train", "compare", "publish"]
Word = Annotated[str, StringConstraints(pattern=r"^[^\s\"'\\#]+$")]
NodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$")]


# Options by which a job is found again, or which decide where its evidence lands.
OWNED = frozenset(
    {"job-name", "comment", "chdir", "output", "error", "open-mode", "array", "dependency", "wait", "parsable", "clusters",
     "cluster-constraint"}
)  # fmt: skip


def directives(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines, if each is a directive of sbatch that is not Draftsmith's own. Raises ValueError.

    Another cluster (--clusters) is none of them: squeue and scancel would ask this one, and the job would seem lost.
    """
    wrong = [line for line in lines if not line.startswith("#SBATCH --")]
    if wrong:
        raise ValueError(f"{wrong[0]!r} must begin with '#SBATCH --'; shell lines belong in setup_lines")
    owned = [line for line in lines if line.removeprefix("#SBATCH --").split("=")[0].split()[0] in OWNED]
    if owned:
        raise ValueError(f"{owned[0]!r} sets what Draftsmith itself relies on")
    return lines


class PhaseOptions(Frozen):
    """What one phase gets, where it differs from the rest. Absent = as the job or the site-wide options say."""

    partition: Word | None = Field(None, description="partition of this phase")
    qos: Word | None = Field(None, description="QOS of this phase")
    nodes: int | None = Field(None, ge=1, description="nodes; more than one needs launcher = 'torchrun'")
    cpus: int | None = Field(None, ge=1, description="CPU cores on each node")
    gpus: int | None = Field(None, ge=0, description="GPUs on each node")
    memory_gib: float | None = Field(None, gt=0, description="memory on each node")
    time_limit_s: int | None = Field(
        None, ge=60, description="wall-clock limit of one start, in seconds; a requeued job gets it again"
    )
    exclusive: bool = Field(
        False,
        description="request the whole node for this phase (--exclusive), so that no other job disturbs a comparison",
    )
    account: Word | None = Field(None, description="account of this phase")
    constraint: Word | None = Field(None, description="features a node of this phase must have")
    gpu_type: Word | None = Field(None, description="GPU type of this phase")
    container_image: Line | None = Field(None, description="image of this phase")
    extra_lines: tuple[Line, ...] = Field((), description="further '#SBATCH --option=value' lines of this phase")
    shards: int = Field(
        1,
        ge=1,
        description="run as a job array with this number of tasks; the program reads DRAFTSMITH_SHARD of DRAFTSMITH_SHARDS",
    )
    shards_at_once: int | None = Field(None, ge=1, description="array tasks that may run at the same time")
    launcher: Literal["plain", "torchrun"] = Field(
        "plain", description="torchrun: start the program once a GPU (once a node without GPUs), over all nodes"
    )

    @field_validator("extra_lines")
    @classmethod
    def _are_directives(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        return directives(lines)


class SlurmOptions(Frozen):
    """Site-wide options. Whatever is absent is left to the cluster's own defaults."""

    account: Word | None = Field(None, description="account to charge")
    partition: Word | None = Field(None, description="partition; default: the cluster's default partition")
    qos: Word | None = Field(None, description="quality of service")
    reservation: Word | None = Field(None, description="reservation to run in")
    constraint: Word | None = Field(None, description="features a node must have")
    exclude: tuple[NodeName, ...] = Field((), description="nodes to exclude, for example known faulty ones")
    gpu_type: Word | None = Field(None, description="GPU type as Slurm names it: --gres=gpu:TYPE:N")
    cpus: int | None = Field(None, ge=1, description="CPU cores per node for phases without a setting of their own")
    memory_gib: float | None = Field(
        None, gt=0, description="memory per node, in GiB, for phases without a setting of their own"
    )
    time_limit_s: int | None = Field(
        None, ge=60, description="wall-clock limit of phases without a setting of their own, in seconds"
    )
    python: Line | None = Field(
        None, description="interpreter of the jobs (inside the image, if any); default: the current one"
    )
    container_image: Line | None = Field(None, description="image the program runs in")
    container_runtime: Literal["pyxis", "apptainer"] = Field("pyxis", description="how the image is run")
    container_mounts: tuple[Line, ...] = Field((), description="HOST:CONTAINER folders besides the job's own")
    setup_lines: tuple[Line, ...] = Field((), description="shell lines before the program, such as 'module load cuda'")
    extra_lines: tuple[Line, ...] = Field((), description="further '#SBATCH --option=value' lines, taken as they are")
    export: Word = Field(
        "NONE", description="sbatch --export. NONE keeps this shell's variables, and its secrets, out of Slurm"
    )
    requeue: bool = Field(True, description="let Slurm start the job again after preemption or a lost node; it resumes")
    warn_s: int = Field(
        60, ge=0, le=3600, description="seconds before the time limit at which SIGTERM is sent; 0 = no warning"
    )
    require_idle: bool = Field(True, description="submit only while enough nodes are idle for the job")
    quiet_nodes: tuple[NodeName, ...] = Field(
        (),
        description="nodes that you may keep other people's jobs off: the comparison drains the one it runs on, and resumes "
        "it however it ends; needs an operator's right in Slurm",
    )
    accounting: Literal["auto", "off"] = Field(
        "auto", description="off: never call sacct; result.json and squeue decide"
    )
    poll_s: float = Field(5.0, gt=0, description="minimum seconds between two queries to the scheduler")
    poll_max_s: float = Field(
        60.0, gt=0, description="maximum seconds between two queries while nothing changes or the query fails"
    )
    settle_s: float = Field(60.0, ge=0, description="seconds that files of an ended job may take to appear here (NFS)")
    command_timeout_s: float = Field(30.0, gt=0, description="time limit for one call of a Slurm command, in seconds")
    phases: dict[PhaseName, PhaseOptions] = Field(default_factory=dict, description="differences by phase")

    @field_validator("phases")
    @classmethod
    def _can_be_sharded(cls, phases: dict[PhaseName, PhaseOptions]) -> dict[PhaseName, PhaseOptions]:
        wrong = [name for name, phase in phases.items() if phase.shards > 1 and name not in SHARDED]
        if wrong:
            raise ValueError(f"{wrong[0]} cannot run in shards; {', '.join(sorted(SHARDED))} can")
        return phases

    @field_validator("extra_lines")
    @classmethod
    def _are_directives(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        return directives(lines)

    def phase(self, name: str) -> PhaseOptions:
        """Options for a job name `<run-id>.<phase>`; defaults if its phase has none."""
        last = name.rsplit(".", 1)[-1]
        return next((options for phase, options in self.phases.items() if phase == last), PhaseOptions())


# Phases whose program takes its share of the work from DRAFTSMITH_SHARD.
SHARDED = frozenset({"capture"})


def with_folders(options: SlurmOptions, folders: Sequence[Path]) -> SlurmOptions:
    """With `folders` visible in the container under the same paths. A folder inside another needs no mount of its own."""
    if options.container_image is None:
        return options
    outer = [folder for folder in folders if not any(other in folder.parents for other in folders)]
    mounts = tuple(dict.fromkeys(f"{folder}:{folder}" for folder in outer))
    return options.model_copy(update={"container_mounts": (*mounts, *options.container_mounts)})


def parse_options(data: dict[str, Any]) -> SlurmOptions:
    """Validate `[backend.options]`. Raises ConfigError naming every wrong key or value."""
    try:
        return SlurmOptions.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigError(
            "backend.options: " + "; ".join(lines), "correct the keys named above; docs/slurm.md lists them all"
        ) from None
