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

    preset: PresetName = Field("deployment", description="tool that created the deployment")
    container: str | None = Field(None, description="name of the container that runs the engine; default: detected")
    workload: Literal["job", "pod"] = Field("job", description="a canary is a Job (removes itself) or a bare Pod")
    image: str | None = Field(None, description="image of canaries; default: the standing deployment's")
    flags: tuple[str, ...] = Field((), description="additional engine flags of every arm")
    drop_flags: tuple[str, ...] = Field(
        (), description="flags of the deployment to leave out in every arm, for example --kv-transfer-config"
    )
    env: dict[str, str] = Field(default_factory=dict, description="additional environment variables of every arm")
    mounts: tuple[Mount, ...] = Field((), description="additional volume claims of every arm, mounted read-only")
    paths: dict[str, str] = Field(
        default_factory=dict, description="folder on this machine -> its path inside containers; for drafts"
    )
    service_account: str | None = Field(
        None, description="service account of canaries, for pull secrets or cloud storage; its token is not mounted"
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="additional annotations of canary pods")
    copy_secrets: bool = Field(True, description="canaries use the Secrets and ConfigMaps that the deployment uses")
    skip_init_containers: bool = Field(False, description="canaries may start without the deployment's init containers")
    cache_gib: float = Field(20.0, gt=0, description="size limit of a canary's emptyDir for caches")
    tmp_gib: float = Field(4.0, gt=0, description="size limit of a canary's emptyDir for temporary files")
    staging_gib: float | None = Field(
        None,
        gt=0,
        description="create a volume claim of this size, in GiB, for drafts; it is kept until `canary down --volumes`",
    )
    staging_class: str | None = Field(None, description="storage class of that claim")
    staging_path: str = Field("/draftsmith", description="mount path of that claim in canaries")
    node: str | None = Field(None, description="node for all arms; default: an idle node is chosen")
    check_node: bool = Field(True, description="check that the node is idle; false: no check")
    gpu_resource: str = Field("nvidia.com/gpu", description="resource name of a GPU")
    start_timeout_s: float = Field(1800.0, gt=0, description="maximum seconds until a canary is ready")
    schedule_timeout_s: float = Field(300.0, gt=0, description="maximum seconds until a canary has a node")
    lifetime_s: int = Field(4 * 3600, ge=60, description="seconds after which the cluster ends a canary")
    ttl_s: int = Field(300, ge=0, description="seconds after which the cluster removes an ended canary Job")
    grace_s: int = Field(30, ge=0, description="seconds between SIGTERM and SIGKILL when a canary is removed")
    removal_timeout_s: float = Field(
        180.0, gt=0, description="maximum seconds for a removal; after that it is reported"
    )
    rollout_timeout_s: float = Field(
        1800.0, gt=0, description="maximum seconds until a promotion is ready; after that it is rolled back"
    )
    check_room: bool = Field(True, description="refuse a rolling update if no GPU is free for it; false: no check")
    patch_managed: bool = Field(
        False, description="patch a deployment that Helm or an operator owns; never one that GitOps owns"
    )
    wait_for_owner_s: float = Field(
        0.0,
        ge=0,
        description="if the owner would revert a patch: seconds to wait until the owner has applied the values",
    )
    endpoint: str = Field("http://{service}.{namespace}.svc:{port}", description="URL of a canary's Service")


def parse_serving_options(data: dict[str, Any]) -> ServingOptions:
    """Validate `[serving.options]`. Raises ConfigError naming every wrong key or value."""
    try:
        return ServingOptions.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigError(
            "serving.options: " + "; ".join(lines), "correct the keys named above; docs/kubernetes.md lists them all"
        ) from None
