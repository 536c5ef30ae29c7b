"""The objects of one canary arm: a Job (or bare Pod) and its Service, from frozen values. Pure; nothing is queried.

A canary is the standing container with another speculative config, hardened. It takes nothing from the standing pod
that a router could know it by: no label, no annotation, no name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from draftsmith.contract.cluster import (
    ARM,
    COMPONENT,
    EXPERIMENT,
    EXPIRES,
    MANAGED_BY,
    WORKSPACE,
    container_security,
    labels_of,
    pod_placement,
    pod_security,
    slug,
    slurm_annotations,
)
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.kit.kube import CLAIMS, JOBS, PODS, Object, Resource
from draftsmith.serving.canary.weights import hub_settings
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.paths import require_visible
from draftsmith.serving.kubernetes.standing import Standing, mounted

CONTAINER = "server"
CACHE, TMP = "/draftsmith-cache", "/tmp"  # noqa: S108 - inside the container, an emptyDir of its own
WRITABLE = {
    "HOME": f"{CACHE}/home",
    "XDG_CACHE_HOME": CACHE,
    "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
    "VLLM_CONFIG_ROOT": f"{CACHE}/config",
    "FLASHINFER_WORKSPACE_BASE": CACHE,
}
PRIVACY = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
# A pair of canaries on an else empty node is what an autoscaler would clear away in the middle of a measurement.
KEPT_IN_PLACE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
# Of the pod itself; its labels, annotations, service account and host settings stay behind.
KEPT_OF_POD = ("imagePullSecrets", "runtimeClassName", "resourceClaims")


@dataclass(frozen=True)
class ArmPlan:
    """One server to start: the arm's name and its speculative config, as paths are in containers."""

    name: str
    spec_config: SpecConfig
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArmObjects:
    """What is created for an arm, in this order. The Service is owned by the workload and goes with it."""

    arm: str
    resource: Resource
    workload: Object
    service: Object

    @property
    def name(self) -> str:
        """Name of both objects."""
        return str(self.workload["metadata"]["name"])

    @property
    def port(self) -> int:
        """Port of the Service."""
        return int(self.service["spec"]["ports"][0]["port"])


def render_arm(
    standing: Standing,
    arm: ArmPlan,
    options: ServingOptions,
    experiment: str,
    node: str | None,
    now_unix_s: float,
    workspace: str = "",
) -> ArmObjects:
    """The objects of an arm. Raises InputError, RefusedError or PrerequisiteError for a deployment that one pod cannot stand in for."""
    labels = labels_of(options, "canary", experiment, arm.name, workspace)
    name = slug(f"ds-{slug(experiment, 40)}-{slug(arm.name, 16)}")
    annotations = {
        EXPIRES: str(int(now_unix_s) + options.lifetime_s),
        **slurm_annotations(options, options.lifetime_s, shared=True),
    }
    meta = {"name": name, "namespace": options.namespace, "labels": labels, "annotations": annotations}
    pod = _pod(standing, arm, options, experiment, node, workspace)
    if options.workload == "pod":
        own = {**KEPT_IN_PLACE, **options.annotations, **annotations}
        workload = {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "annotations": own}}
        workload["spec"] = {**pod, "activeDeadlineSeconds": options.lifetime_s}
        resource = PODS
    else:
        resource = JOBS
        workload = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta}
        workload["spec"] = {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": options.lifetime_s,
            "ttlSecondsAfterFinished": options.ttl_s,
            "template": {
                "metadata": {"labels": labels, "annotations": KEPT_IN_PLACE | options.annotations},
                "spec": pod,
            },
        }
    served = {key: value for key, value in labels.items() if key in (MANAGED_BY, COMPONENT, EXPERIMENT, ARM, WORKSPACE)}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": options.namespace, "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "selector": served,
            "ports": [{"name": "http", "port": standing.command.port, "targetPort": "http", "protocol": "TCP"}],
        },
    }
    return ArmObjects(arm.name, resource, workload, service)


def pod_of(objects: ArmObjects) -> Object:
    """The arm's pod as an object of its own, for the API server to check before anything is created."""
    if objects.resource == PODS:
        return objects.workload
    meta = objects.workload["metadata"]
    template = objects.workload["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, **template["metadata"]},
        "spec": template["spec"],
    }


def render_staging(options: ServingOptions, experiment: str) -> Object | None:
    """The volume claim for drafts, if one is wanted. It is removed last, and only on request."""
    if options.staging_gib is None:
        return None
    spec: Object = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{options.staging_gib:g}Gi"}},
    }
    if options.staging_class:
        spec["storageClassName"] = options.staging_class
    return {
        "apiVersion": CLAIMS.api_version,
        "kind": CLAIMS.kind,
        "metadata": {
            "name": staging_name(experiment),
            "namespace": options.namespace,
            "labels": labels_of(options, "staging", experiment),
        },
        "spec": spec,
    }


def staging_name(experiment: str) -> str:
    """Name of the experiment's volume claim."""
    return slug(f"ds-{slug(experiment, 40)}-staging")


def _beside(labels: Mapping[str, str]) -> Object:
    """Affinity that keeps the arms of one start on one node, wherever the first of them comes up."""
    own = {key: value for key, value in labels.items() if key in (MANAGED_BY, COMPONENT, EXPERIMENT, WORKSPACE)}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": own}}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def _pod(
    standing: Standing, arm: ArmPlan, options: ServingOptions, experiment: str, node: str | None, workspace: str
) -> Object:
    pod = {key: copy.deepcopy(standing.pod_spec[key]) for key in KEPT_OF_POD if standing.pod_spec.get(key)}
    placement = pod_placement(options)
    tolerations = [*(standing.pod_spec.get("tolerations") or []), *placement.pop("tolerations", [])]
    nodes = {**(standing.pod_spec.get("nodeSelector") or {}), **placement.pop("nodeSelector", {})}
    together = {} if node else {"podAffinity": _beside(labels_of(options, "canary", experiment, workspace=workspace))}
    if node:
        nodes["kubernetes.io/hostname"] = node
    volumes, mounts = _volumes(standing, options, experiment)
    require_visible(arm.spec_config, mounted(volumes, mounts), f"arm {arm.name}")
    affinity = (standing.pod_spec.get("affinity") or {}).get("nodeAffinity")
    pod |= {
        **placement,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.grace_s,
        "securityContext": pod_security(options),
        **({"tolerations": copy.deepcopy(tolerations)} if tolerations else {}),
        **({"nodeSelector": nodes} if nodes else {}),
        **(
            {"affinity": near}
            if (near := ({"nodeAffinity": copy.deepcopy(affinity)} if affinity else {}) | together)
            else {}
        ),
        **({"serviceAccountName": options.service_account} if options.service_account else {}),
        "containers": [_container(standing, arm, options, mounts)],
        "volumes": volumes,
    }
    return pod


def _container(standing: Standing, arm: ArmPlan, options: ServingOptions, mounts: list[Object]) -> Object:
    server = standing.command.without_flags(options.drop_flags).with_spec(arm.spec_config)
    server = server.counted().with_flags((*options.flags, *arm.flags))
    probe = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    starts = max(1, int(options.start_timeout_s // 5))
    container: Object = {
        "name": CONTAINER,
        "image": options.image or standing.container["image"],
        "imagePullPolicy": standing.container.get("imagePullPolicy", "IfNotPresent"),
        "env": _environment(standing, options),
        "ports": [{"name": "http", "containerPort": server.port, "protocol": "TCP"}],
        "resources": copy.deepcopy(standing.container.get("resources") or {}),
        "securityContext": container_security(),
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": starts},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 6},
        "volumeMounts": mounts,
    }
    container |= {key: list(value) for key, value in (("command", server.command), ("args", server.args)) if value}
    if standing.container.get("envFrom") and options.copy_secrets:
        container["envFrom"] = copy.deepcopy(standing.container["envFrom"])
    if standing.container.get("workingDir"):
        container["workingDir"] = standing.container["workingDir"]
    return container


def _environment(standing: Standing, options: ServingOptions) -> list[Object]:
    """The standing variables, then what a read-only root and an offline start need, then the options'."""
    kept = [
        copy.deepcopy(item) for item in standing.container.get("env") or [] if options.copy_secrets or "value" in item
    ]
    named = {item["name"] for item in kept} | set(options.env)
    own_variables = {**PRIVACY, **WRITABLE, **hub_settings(standing)}
    # A cache folder of the standing pod is mounted read-only here, or is not there at all.
    kept = [item for item in kept if item["name"] not in {*WRITABLE, *options.env}]
    added = {**{k: v for k, v in own_variables.items() if k in WRITABLE or k not in named}, **options.env}
    return [*kept, *({"name": key, "value": value} for key, value in added.items())]


def _volumes(standing: Standing, options: ServingOptions, experiment: str) -> tuple[list[Object], list[Object]]:
    """Volumes and mounts: those of the standing container, claims read-only, and folders of its own to write to."""
    used = {mount["name"] for mount in standing.container.get("volumeMounts") or []}
    volumes = [copy.deepcopy(v) for v in standing.pod_spec.get("volumes") or [] if v["name"] in used]
    for volume in volumes:
        if "hostPath" in volume:
            raise RefusedError(
                f"{standing.name} mounts a folder of its node (volume {volume['name']})",
                "hold models on a volume claim; a hardened canary cannot use hostPath",
            )
    if not options.copy_secrets:
        volumes = [volume for volume in volumes if "secret" not in volume and "configMap" not in volume]
    read_only = {volume["name"] for volume in volumes if "emptyDir" not in volume}
    names = {volume["name"] for volume in volumes}
    taken = (CACHE, TMP)
    mounts = [
        {**copy.deepcopy(mount), **({"readOnly": True} if mount["name"] in read_only else {})}
        for mount in standing.container.get("volumeMounts") or []
        if mount["name"] in names and mount["mountPath"].rstrip("/") not in taken
    ]
    for index, mount in enumerate(options.mounts):
        volumes.append(_claim(f"draftsmith-{index}", mount.claim, read_only=True))
        sub = {"subPath": mount.sub_path} if mount.sub_path else {}
        mounts.append({"name": f"draftsmith-{index}", "mountPath": mount.mount_path, "readOnly": True, **sub})
    if options.staging_gib is not None:
        volumes.append(_claim("draftsmith-staging", staging_name(experiment), read_only=True))
        mounts.append({"name": "draftsmith-staging", "mountPath": options.staging_path, "readOnly": True})
    for name, path, size in (("draftsmith-cache", CACHE, options.cache_gib), ("draftsmith-tmp", TMP, options.tmp_gib)):
        volumes.append({"name": name, "emptyDir": {"sizeLimit": f"{size:g}Gi"}})
        mounts.append({"name": name, "mountPath": path})
    kept = {mount["name"] for mount in mounts}
    return [volume for volume in volumes if volume["name"] in kept], mounts


def _claim(name: str, claim: str, *, read_only: bool) -> Object:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}
