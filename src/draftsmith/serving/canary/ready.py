"""Waiting until canaries serve, and saying why one does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from draftsmith.contract.cluster import ARM, WORKSPACE, explain
from draftsmith.contract.errors import BackendError, DraftsmithError, EngineStartError, PrerequisiteError
from draftsmith.contract.pods import view
from draftsmith.kit.kube import JOBS, PODS, ApiError, KubeApi, Object
from draftsmith.kit.kube_watch import TimeIsUpError, follow
from draftsmith.serving.canary.reasons import HELD, told_by_events, why_no_pod
from draftsmith.serving.canary.removal import named
from draftsmith.serving.canary.text import CONTAINER, ArmObjects
from draftsmith.serving.kubernetes.options import ServingOptions

LOG_TAIL = 40


@dataclass(frozen=True)
class CanaryServer:
    """A canary that serves. `start_id` differs after every restart of its container, `served`: fingerprint of what it
    is a copy of, `engine`: the key of what it runs in the catalog of engines."""

    arm: str
    url: str
    model: str | None
    pod: str
    node: str
    start_id: str
    served: str = ""
    engine: str = ""


Endpoint = Callable[[ArmObjects, Object], str]


@dataclass(frozen=True)
class Readiness:
    """The canaries of one experiment, created and on their way. `model` is the name they serve it under, `served` and
    `engine`: see CanaryServer."""

    api: KubeApi
    options: ServingOptions
    experiment: str
    arms: tuple[ArmObjects, ...]
    model: str | None
    endpoint: Endpoint
    served: str = ""
    engine: str = ""

    def wait(self) -> dict[str, CanaryServer]:
        """Block until all serve. Raises PrerequisiteError, EngineStartError or BackendError if one will not."""
        clock, options = self.api.clock, self.options
        began = clock.monotonic()
        wanted = {arm.workload["metadata"]["labels"][ARM]: arm for arm in self.arms}
        workspace = self.arms[0].workload["metadata"]["labels"].get(WORKSPACE, "")

        def decide(pods: Sequence[Object]) -> dict[str, CanaryServer] | None:
            ready: dict[str, CanaryServer] = {}
            late = clock.monotonic() - began > options.schedule_timeout_s
            missing = dict(wanted)
            for pod in pods:
                labels = pod["metadata"]["labels"]
                arm = wanted.get(labels.get(ARM, "")) if labels.get(WORKSPACE, "") == workspace else None
                if arm is None or pod["metadata"].get("deletionTimestamp"):
                    continue
                seen_pod = view(pod)
                missing.pop(labels[ARM])
                if seen_pod.stage in ("stuck", "ended", "evicted"):
                    raise self._failed(arm, pod)
                if seen_pod.stage == "unplaced" and late:
                    raise self._failed(arm, pod)
                if seen_pod.stage == "waiting" and late and (why := self._events(pod, HELD)):
                    raise PrerequisiteError(f"canary {arm.arm}: {why}", "see that its volumes can be mounted there too")
                if seen_pod.stage == "ready":
                    ready[arm.arm] = self._server(arm, pod)
            if late and missing:
                self._no_pod(next(iter(missing.values())))
            return ready if len(ready) == len(self.arms) else None

        try:
            select = named(experiment=self.experiment, component="canary")
            servers = follow(self.api, PODS, options.namespace, select, options.start_timeout_s, decide)
        except TimeIsUpError as late:
            if late.error is not None:
                raise explain(late.error, "watch the canaries") from late.error
            raise self._late(late.objects) from None
        except ApiError as error:
            raise explain(error, "watch the canaries") from error
        if len({server.node for server in servers.values()}) > 1:
            raise BackendError(
                "the arms came up on different nodes, so their times cannot be compared", "set serving.options.node"
            )
        return servers

    def _server(self, arm: ArmObjects, pod: Object) -> CanaryServer:
        return CanaryServer(
            arm.arm,
            self.endpoint(arm, pod),
            self.model,
            pod["metadata"]["name"],
            pod["spec"].get("nodeName", ""),
            start_id(pod),
            self.served,
            self.engine,
        )

    def _failed(self, arm: ArmObjects, pod: Object) -> DraftsmithError:
        seen_pod = view(pod)
        sentence = f"canary {arm.arm}: {seen_pod.detail}"
        if seen_pod.stage == "ended":
            return EngineStartError(
                sentence, self._tail(pod), "see the lines above; the standing deployment is untouched"
            )
        if seen_pod.stage == "evicted":
            return BackendError(sentence, "run again when the node has room; nothing was left behind")
        step = {
            "stuck": "correct serving.options.image, or what the message names",
            "unplaced": "free what it asks for, or name another node in serving.options.node",
        }[seen_pod.stage]
        return PrerequisiteError(sentence, step)

    def _late(self, pods: Sequence[Object]) -> DraftsmithError:
        for pod in pods:
            if view(pod).stage != "ready":
                arm = pod["metadata"]["labels"].get(ARM, "?")
                cause = f"canary {arm} was not ready after {self.options.start_timeout_s:g} s: {view(pod).detail}"
                return EngineStartError(cause, self._tail(pod), "raise serving.options.start_timeout_s, or see its log")
        return PrerequisiteError(
            f"no pod of {self.experiment} appeared within {self.options.start_timeout_s:g} s",
            "look at the events of its Jobs: a quota or an admission rule may hold them back",
        )

    def _no_pod(self, arm: ArmObjects) -> None:
        """Raise PrerequisiteError with the reason why an arm has no pod."""
        if arm.resource != JOBS:
            return
        jobs = self.api.list(JOBS, self.options.namespace, named(experiment=self.experiment, component="canary")).items
        job = next((job for job in jobs if job["metadata"]["name"] == arm.name), None)
        why = why_no_pod(self.api, self.options.namespace, job) if job else "its Job was removed by somebody else"
        raise PrerequisiteError(
            f"canary {arm.arm}: {why} (after {self.options.schedule_timeout_s:g} s)",
            "run again when there is room for all arms, or raise serving.options.schedule_timeout_s",
        )

    def _events(self, pod: Object, only: frozenset[str]) -> str:
        return told_by_events(self.api, self.options.namespace, pod["metadata"]["name"], only)

    def _tail(self, pod: Object) -> str:
        try:
            return self.api.log(self.options.namespace, pod["metadata"]["name"], CONTAINER, tail=LOG_TAIL)
        except ApiError:
            return ""


def start_id(pod: Object) -> str:
    """Pod and container start: another one after every restart."""
    states = (pod.get("status") or {}).get("containerStatuses") or []
    started = next((((s.get("state") or {}).get("running") or {}).get("startedAt", "") for s in states), "")
    restarts = sum(int(s.get("restartCount") or 0) for s in states)
    return f"{pod['metadata']['uid']}-{restarts}-{started}"
