"""How far a rollout is, from the object and its pods. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    late: bool = False  # failed by the progress deadline alone: pods that load may still become ready


def deployment_rollout(item: Object) -> Rollout:
    """Of a Deployment."""
    status, wanted = item.get("status") or {}, item["spec"].get("replicas")
    wanted = 1 if wanted is None else int(wanted)
    for condition in status.get("conditions") or []:
        late = condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        held = condition["type"] == "ReplicaFailure" and condition.get("status") == "True"
        if (late or held) and _seen(item):
            why = "the progress deadline is exceeded" if late else "pods cannot be created"
            return Rollout("failed", condition.get("message") or why, late=late)
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
    """Of a KServe InferenceService, as far as it says so itself. Its `observedGeneration` is not its own: it is not read."""
    status = item.get("status") or {}
    model = status.get("modelStatus") or {}
    transition = model.get("transitionStatus", "UpToDate")
    if transition in ("BlockedByFailedLoad", "InvalidSpec"):
        message = (model.get("lastFailureInfo") or {}).get("message", "")
        return Rollout("failed", f"{transition}: {message}".rstrip(": "))
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    return Rollout("done") if ready and transition == "UpToDate" else Rollout("going", "the predictor is not ready")


def has_words(words: Mapping[str, list[str]]) -> Callable[[Object], bool]:
    """Whether a pod runs a container with these `command` and `args`: whether it is a new one."""

    def is_new(pod: Object) -> bool:
        containers = (pod.get("spec") or {}).get("containers") or []
        return any(all((c.get(key) or []) == words.get(key, []) for key in ("command", "args")) for c in containers)

    return is_new


def loading(pods: Sequence[Object], is_new: Callable[[Object], bool]) -> bool:
    """Whether new pods are on their nodes and on their way."""
    stages = [view(pod).stage for pod in pods if is_new(pod) and not pod["metadata"].get("deletionTimestamp")]
    return bool(stages) and not {"unplaced", "stuck", "ended", "evicted"} & set(stages)


def predictor_rollout(item: Object, pods: Sequence[Object], is_new: Callable[[Object], bool]) -> Rollout:
    """Of an InferenceService, from its pods: what it says of itself stays Ready while new pods come up, and its generation is
    that of another object."""
    rollout = inference_service_rollout(item)
    if rollout.state == "failed":
        return rollout
    live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and view(pod).stage != "evicted"]
    new = [pod for pod in live if is_new(pod)]
    ready = [pod for pod in new if view(pod).stage == "ready"]
    if not new:
        return Rollout("going", "no pod with the new arguments has appeared")
    if len(ready) < len(live):
        return Rollout("going", f"{len(ready)} of {len(live)} pods are new and ready")
    return rollout


def hopeless(pods: Sequence[Object], is_new: Callable[[Object], bool]) -> str | None:
    """Why the new pods will not start; None while they may."""
    for pod in pods:
        if not is_new(pod) or pod["metadata"].get("deletionTimestamp"):
            continue
        seen_pod = view(pod)
        if seen_pod.stage == "stuck" or (seen_pod.stage == "ended" and seen_pod.restarts >= 2):
            return f"pod {pod['metadata']['name']}: {seen_pod.detail}"
    return None


def unplaced(pods: Sequence[Object]) -> str:
    """Why a pod has no node; empty if all have one."""
    views = (view(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    return next((f"; {pod.detail}" for pod in views if pod.stage == "unplaced"), "")


def require_movable(standing: Standing) -> None:
    """Raise RefusedError for an object whose change would start no pod now: whether it serves could not be observed."""
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
