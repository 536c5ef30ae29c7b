"""Whether a node takes a pod: its state, its taints, its labels, and what is free on it. Pure decisions over listed objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from draftsmith.contract.cluster import BRIDGE_TAINT, ClusterOptions
from draftsmith.kit.kube import Object
from draftsmith.serving.kubernetes.placement import affine
from draftsmith.serving.kubernetes.standing import Standing

ENDED = frozenset({"Succeeded", "Failed"})


def free_on(node: Object, pods: Sequence[Object], resource: str) -> tuple[int, int]:
    """(free, all) of a countable resource on a node, from what its pods ask for."""
    total = int((node.get("status", {}).get("allocatable") or {}).get(resource, 0))
    name = node["metadata"]["name"]
    return total - sum(_asked(pod, resource) for pod in pods if _runs_on(pod, name)), total


def is_usable(node: Object, options: ClusterOptions, tolerations: Sequence[Object] = ()) -> str | None:
    """Why no pod could be placed on a node; None if one could."""
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions") or []}
    if conditions.get("Ready") != "True":
        return "is not ready"
    if node.get("spec", {}).get("unschedulable"):
        return "is cordoned"
    allowed = [*options.tolerations, *tolerations]
    if options.scheduler == "slurm":
        allowed.append({"key": BRIDGE_TAINT, "operator": "Exists"})  # slurm-bridge adds this one itself
    for taint in node.get("spec", {}).get("taints") or []:
        if taint["effect"] in ("NoSchedule", "NoExecute") and not any(_tolerates(each, taint) for each in allowed):
            return f"has the taint {taint['key']}"
    return None


def fits_pod(node: Object, standing: Standing) -> bool:
    """Whether node selector and required node affinity of the served pod take a node."""
    labels = node["metadata"].get("labels") or {}
    affinity = (standing.pod_spec.get("affinity") or {}).get("nodeAffinity")
    return (standing.pod_spec.get("nodeSelector") or {}).items() <= labels.items() and affine(node, affinity)


def _runs_on(pod: Object, node: str) -> bool:
    return pod.get("spec", {}).get("nodeName") == node and pod.get("status", {}).get("phase") not in ENDED


def _asked(pod: Object, resource: str) -> int:
    def of(container: Object) -> int:
        resources = container.get("resources") or {}
        return int(
            (resources.get("limits") or {}).get(resource) or (resources.get("requests") or {}).get(resource) or 0
        )

    spec = pod.get("spec", {})
    return max(
        sum(of(container) for container in spec.get("containers") or []),
        max((of(container) for container in spec.get("initContainers") or []), default=0),
    )


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
