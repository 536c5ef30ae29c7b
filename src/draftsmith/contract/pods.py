"""What the status of a pod says of it: a pure judgement, shared by jobs and servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PodStage = Literal["waiting", "unplaced", "stuck", "running", "ready", "ended", "evicted"]

STAGE_MEANING: dict[PodStage, str] = {
    "waiting": "placed on a node and on its way",
    "unplaced": "no node takes it now",
    "stuck": "its node cannot start it, and trying again does not help",
    "running": "its container runs and is not ready",
    "ready": "its container runs and answers",
    "ended": "its container ended",
    "evicted": "the cluster took its place away",
}

# Of a container that waits: what trying again does not mend within a reasonable time.
STUCK = {
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the name of the image is not valid",
    "ErrImageNeverPull": "the image is not on the node, and must not be pulled",
    "CreateContainerConfigError": "the container's configuration names something that is not there",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
}
TAKEN_AWAY = frozenset({"Evicted", "Preempted", "Preempting", "NodeLost", "Shutdown", "Terminated", "NodeShutdown"})


@dataclass(frozen=True)
class PodView:
    """Stage of a pod, one sentence, and its container's exit code if it ended. `restarts` of its containers."""

    stage: PodStage
    detail: str
    exit_code: int | None = None
    restarts: int = 0


def view(pod: dict[str, Any]) -> PodView:
    """The judgement. Texts of the cluster are quoted; they name images and nodes, never traffic."""
    status = pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    containers = status.get("containerStatuses") or []
    restarts = sum(int(c.get("restartCount") or 0) for c in containers)
    disrupted = conditions.get("DisruptionTarget", {})
    if status.get("reason") in TAKEN_AWAY or disrupted.get("status") == "True":
        words = (status.get("reason") or disrupted.get("reason"), status.get("message") or disrupted.get("message"))
        sentence = ": ".join(dict.fromkeys(word for word in words if word))
        return PodView("evicted", f"taken away by the cluster: {sentence}".rstrip(": "), restarts=restarts)
    for container in containers:
        state = container.get("state") or {}
        if "terminated" in state:
            return _ended(state["terminated"], restarts)
        waiting = state.get("waiting") or {}
        last = (container.get("lastState") or {}).get("terminated")
        if waiting.get("reason") == "CrashLoopBackOff" and last:
            return _ended(last, restarts)
        if waiting.get("reason") in STUCK:
            sentence = f" ({waiting['message']})" if waiting.get("message") else ""
            return PodView("stuck", f"{STUCK[waiting['reason']]}{sentence}", restarts=restarts)
    if status.get("phase") in ("Failed", "Succeeded"):
        return PodView("ended", f"ended: {status.get('reason') or status['phase']}", restarts=restarts)
    if conditions.get("Ready", {}).get("status") == "True":
        return PodView("ready", "ready", restarts=restarts)
    if any((c.get("state") or {}).get("running") is not None for c in containers):
        return PodView("running", "running, not ready yet", restarts=restarts)
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return PodView("unplaced", f"no node takes it: {placed.get('message') or placed.get('reason', '')}")
    if not (pod.get("spec") or {}).get("nodeName"):
        return PodView("unplaced", "no node takes it yet")
    reason = next((c["state"]["waiting"].get("reason") for c in containers if "waiting" in (c.get("state") or {})), "")
    return PodView("waiting", f"on its node, {reason or 'starting'}", restarts=restarts)


def image_ids(pod: dict[str, Any], container: str) -> set[str]:
    """Digests of the images that a container of a pod runs."""
    states = (pod.get("status") or {}).get("containerStatuses") or []
    return {str(s["imageID"]).rpartition("@")[2] for s in states if s.get("name") == container and s.get("imageID")}


def _ended(state: dict[str, Any], restarts: int) -> PodView:
    code = int(state.get("exitCode") or 0)
    reason = state.get("reason") or ""
    text = "out of memory" if reason == "OOMKilled" else f"exit code {code}"
    return PodView("ended", f"its container ended: {text}", code, restarts)
