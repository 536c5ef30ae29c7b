"""`[serving.options]` of draftsmith.toml when `serving.kind = "kubernetes"`. Everything a site may want differently."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.cluster import ClusterOptions
from draftsmith.contract.errors import ConfigError

PresetName = Literal["deployment", "production-stack", "llm-d", "kserve"]


class Mount(Frozen):
    """A volume claim that canaries read, beside the volumes of the standing deployment."""

    claim: str
    mount_path: str
    sub_path: str | None = None


class ServingOptions(ClusterOptions):
    """Canaries and promotion. Whatever is absent is as in the standing deployment."""

    preset: PresetName = Field("deployment", description="what the deployment was made by")
    container: str | None = Field(
        None, description="name of the container that runs the engine; default: the only one that does"
    )
    workload: Literal["job", "pod"] = Field("job", description="a canary is a Job (removes itself) or a bare Pod")
    image: str | None = Field(None, description="image of canaries; default: the standing deployment's")
    flags: tuple[str, ...] = Field((), description="further engine flags of every arm")
    drop_flags: tuple[str, ...] = Field(
        (), description="flags of the deployment that no arm gets, such as --kv-transfer-config"
    )
    env: dict[str, str] = Field(default_factory=dict, description="further variables of every arm")
    mounts: tuple[Mount, ...] = Field((), description="further volume claims of every arm, read-only")
    paths: dict[str, str] = Field(
        default_factory=dict, description="folder here -> the same folder as containers see it; for drafts"
    )
    service_account: str | None = Field(
        None, description="service account of canaries, for pull secrets or cloud storage; its token is not mounted"
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="further annotations of canary pods")
    copy_secrets: bool = Field(True, description="canaries use the Secrets and ConfigMaps that the deployment uses")
    skip_init_containers: bool = Field(False, description="canaries may start without the deployment's init containers")
    cache_gib: float = Field(20.0, gt=0, description="size limit of a canary's emptyDir for caches")
    tmp_gib: float = Field(4.0, gt=0, description="size limit of a canary's emptyDir for temporary files")
    staging_gib: float | None = Field(
        None, gt=0, description="make a volume claim of this size for drafts; kept until asked"
    )
    staging_class: str | None = Field(None, description="storage class of that claim")
    staging_path: str = Field("/draftsmith", description="where canaries see it")
    node: str | None = Field(None, description="node that all arms are pinned to; default: an idle one is looked for")
    check_node: bool = Field(True, description="look whether the node is idle first; false: you vouch for it")
    gpu_resource: str = Field("nvidia.com/gpu", description="resource name of a GPU")
    start_timeout_s: float = Field(1800.0, gt=0, description="a canary that is not ready by then is given up")
    schedule_timeout_s: float = Field(300.0, gt=0, description="a canary without a node by then is given up")
    lifetime_s: int = Field(4 * 3600, ge=60, description="the cluster itself ends a canary after so long")
    ttl_s: int = Field(300, ge=0, description="an ended canary Job is removed by the cluster after so long")
    grace_s: int = Field(30, ge=0, description="between SIGTERM and SIGKILL when a canary is removed")
    removal_timeout_s: float = Field(180.0, gt=0, description="how long a removal may take before it is reported")
    rollout_timeout_s: float = Field(1800.0, gt=0, description="a promotion that is not ready by then is rolled back")
    check_room: bool = Field(
        True, description="refuse a rolling update for which no GPU is free; false: you vouch for it"
    )
    patch_managed: bool = Field(
        False, description="patch a deployment that Helm or an operator owns; never one that GitOps owns"
    )
    wait_for_owner_s: float = Field(
        0.0, ge=0, description="where a patch would not last: how long to wait until the owner has applied the values"
    )
    endpoint: str = Field("http://{service}.{namespace}.svc:{port}", description="how a canary's Service is reached")


def parse_serving_options(data: dict[str, Any]) -> ServingOptions:
    """Validate `[serving.options]`. Raises ConfigError naming every wrong key or value."""
    try:
        return ServingOptions.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigError(
            "serving.options: " + "; ".join(lines), "correct the keys named above; docs/kubernetes.md lists them all"
        ) from None
