"""`[backend.options]` of draftsmith.toml when `backend.kind = "kubernetes"`. Everything a site may want differently."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.cluster import ClusterOptions
from draftsmith.contract.errors import ConfigError


class JobVolume(Frozen):
    """A volume claim that jobs mount: the workspace, the models."""

    claim: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool = False


class PhaseOptions(Frozen):
    """What one phase gets, where it differs from the rest. Absent = as the job or the other options say."""

    cpus: int | None = Field(None, ge=1, description="CPU cores")
    gpus: int | None = Field(None, ge=0, description="GPUs")
    memory_gib: float | None = Field(None, gt=0, description="memory, in GiB")
    time_limit_s: int | None = Field(None, ge=60, description="wall-clock limit, in seconds")
    image: str | None = Field(None, description="image of this phase")
    launcher: Literal["plain", "torchrun"] = Field(
        "plain", description="torchrun: start the program once a GPU, on the one node of the job"
    )


class JobOptions(ClusterOptions):
    """Jobs of the loop. The workspace must be on a volume that jobs mount under the same path as this process."""

    image: str = Field("", description="image with Draftsmith, the engine and the trainer; required")
    python: str | None = Field(None, description="interpreter inside the image; default: the one that runs here")
    volumes: tuple[JobVolume, ...] = Field((), description="volume claims of every job; one holds the workspace")
    service_account: str | None = Field(None, description="service account of jobs; its token is not mounted")
    gpu_resource: str = Field("nvidia.com/gpu", description="resource name of a GPU")
    memory_gib: float = Field(8.0, gt=0, description="memory of jobs without a setting of their own, in GiB")
    time_limit_s: int | None = Field(
        None, ge=60, description="wall-clock limit of jobs without a setting of their own, in seconds"
    )
    limit_cpu: bool = Field(
        False, description="set a limit equal to the requested CPU cores; needed if a quota demands limits"
    )
    storage_gib: float | None = Field(
        None, gt=0, description="ephemeral storage to request, in GiB; needed if a quota demands it"
    )
    tmp_gib: float = Field(16.0, gt=0, description="size limit of a job's emptyDir for temporary files")
    shm_gib: float = Field(4.0, gt=0, description="size limit of a job's /dev/shm; counts as memory")
    ttl_s: int = Field(3600, ge=0, description="seconds after which the cluster removes an ended Job")
    grace_s: int = Field(
        60, ge=0, description="seconds between SIGTERM and SIGKILL; a job saves its progress in this time"
    )
    stuck_s: float = Field(300.0, ge=0, description="seconds after which a job whose image cannot be pulled has failed")
    settle_s: float = Field(60.0, ge=0, description="seconds that files of an ended job may take to appear here (NFS)")
    poll_s: float = Field(5.0, gt=0, description="minimum seconds between two queries to the API server")
    poll_max_s: float = Field(
        60.0, gt=0, description="maximum seconds between two queries while the server does not answer"
    )
    phases: dict[str, PhaseOptions] = Field(default_factory=dict, description="differences by phase")

    def phase(self, name: str) -> PhaseOptions:
        """Options for a job name `<run-id>.<phase>`; defaults if its phase has none."""
        return self.phases.get(name.rsplit(".", 1)[-1], PhaseOptions())


def parse_job_options(data: dict[str, Any]) -> JobOptions:
    """Validate `[backend.options]`. Raises ConfigError naming every wrong key or value."""
    try:
        return JobOptions.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigError(
            "backend.options: " + "; ".join(lines), "correct the keys named above; docs/kubernetes.md lists them all"
        ) from None
