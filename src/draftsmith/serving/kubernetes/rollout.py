"""How far a rollout is, from the object and its pods. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.errors import RefusedError
from draftsmith.contract.pods import view
from draftsmith.kit.kube import Object
from draftsmith.serving.kubernetes.standing import Standing


@dataclass(frozen=True)
class Rollout:
    """`done`: every pod that serves is a new one. `failed`: it will not get there by itself. `changed`: it is another
    one by now, of somebody else. `detail` says why."""

    state: Literal["going", "done", "failed", "changed"]
    detail: str = ""


def deployment_rollout(item: Object) -> Rollout:
    """Of a Deployment."""
    status, wanted = item.get("status") or {}, item["spec"].get("replicas")
    wanted = 1 if wanted is None else int(wanted)
    for condition in status.get("conditions") or []:
        late = condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        held = condition["type"] == "ReplicaFailure" and condition.get("status") == "True"
        if (late or held) and _seen(item):
            why = "the progress deadline is exceeded" if late else "pods cannot be created"
            return Rollout("failed", condition.get("message") or why)
    if wanted == 0:
        return Rollout("failed", "it was scaled to zero, so nobody has seen a new pod serve")
    if item["spec"].get("paused"):
        return Rollout("going", "it is paused (spec.paused)")
    counts = {key: int(status.get(key) or 0) for key in ("updatedReplicas", "replicas", "availableReplicas")}
    if not _seen(item):
        return Rollout("going", "the change has not been taken up yet")
    if counts["updatedReplicas"] < wanted or counts["replicas"] > counts["updatedReplicas"]:
        return Rollout("going", f"{counts['updatedReplicas']} of {wanted} pods are new")
    if counts["availableReplicas"] < wanted:
        return Rollout("going", f"{counts['availableReplicas']} of {wanted} new pods are ready")
    return Rollout("done")


def inference_service_rollout(item: Object) -> Rollout:
    """Of a KServe InferenceService."""
    status = item.get("status") or {}
    model = status.get("modelStatus") or {}
    transition = model.get("transitionStatus", "UpToDate")
    if not _seen(item):
        return Rollout("going", "the change has not been taken up yet")
    if transition in ("BlockedByFailedLoad", "InvalidSpec"):
        told = (model.get("lastFailureInfo") or {}).get("message", "")
        return Rollout("failed", f"{transition}: {told}".rstrip(": "))
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    return Rollout("done") if ready and transition == "UpToDate" else Rollout("going", "the predictor is not ready")


def hopeless(pods: Sequence[Object], args: list[str]) -> str | None:
    """Why the new pods (those with these args) will not start; None while they may."""
    for pod in pods:
        containers = (pod.get("spec") or {}).get("containers") or []
        if not any((c.get("args") or []) == args for c in containers) or pod["metadata"].get("deletionTimestamp"):
            continue
        found = view(pod)
        if found.stage == "stuck" or (found.stage == "ended" and found.restarts >= 2):
            return f"pod {pod['metadata']['name']}: {found.detail}"
    return None


def unplaced(pods: Sequence[Object]) -> str:
    """Why a pod has no node; empty if all have one."""
    views = (view(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    return next((f"; {found.detail}" for found in views if found.stage == "unplaced"), "")


def require_movable(standing: Standing) -> None:
    """Raise RefusedError for an object whose change would start no pod now: nobody would see whether it serves."""
    spec = standing.item["spec"]
    if spec.get("paused"):
        raise RefusedError(
            f"{standing.name} is paused (spec.paused): its pods would not change",
            f"kubectl rollout resume deployment {standing.name}, or wait for whoever paused it; then run again",
        )
    if standing.resource.kind == "Deployment" and standing.replicas == 0:
        raise RefusedError(
            f"{standing.name} is scaled to zero: no pod would show whether the new configuration serves",
            "scale it to one pod, then run again",
        )


def needs_spare(item: Object) -> bool:
    """Whether a rolling update starts a new pod before it ends an old one."""
    strategy = item["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate" or item["spec"].get("replicas") == 0:
        return False
    allowed = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
    replicas = item["spec"].get("replicas") or 1
    down = int(replicas * int(str(allowed).rstrip("%")) / 100) if str(allowed).endswith("%") else int(allowed)
    return down < 1


def _seen(item: Object) -> bool:
    generation = int(item["metadata"].get("generation") or 0)
    return int((item.get("status") or {}).get("observedGeneration") or 0) >= generation
