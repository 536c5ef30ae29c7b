"""Following a rollout until its end is known. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import InputError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines.catalog import read_words as read_engine
from draftsmith.kit.kube import PODS, ApiError, KubeApi, Object, Resource, Selection
from draftsmith.kit.kube_watch import TimeIsUpError, follow
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.patch import Words, words_of
from draftsmith.serving.kubernetes.rollout import (
    Rollout,
    deployment_rollout,
    has_words,
    hopeless,
    inference_service_rollout,
    loading,
    predictor_rollout,
    unplaced,
)
from draftsmith.serving.kubernetes.standing import read_standing

LOOK_AT_PODS_S = 5.0
KSERVE_LABEL = "serving.kserve.io/inferenceservice"


@dataclass(frozen=True)
class RolloutWatch:
    """Of the object `deploy`, a Deployment or an InferenceService."""

    api: KubeApi
    options: ServingOptions
    resource: Resource
    deploy: str

    @property
    def has_pods(self) -> bool:
        """Whether the object names its pods."""
        return self.resource.kind == "Deployment"

    def wait(self, words: Words) -> Rollout:
        """The end of the rollout of these words: never `going`. Raises ApiError if these credentials may not look."""
        clock = self.api.clock
        next_look = clock.monotonic()
        is_new = has_words(words) if self.has_pods else self._runs(words)

        def decide(items: Sequence[Object]) -> Rollout | None:
            nonlocal next_look
            if not items:
                return Rollout("failed", "it was removed meanwhile")
            if not self._has(items[0], words):
                return Rollout("changed")
            rollout = deployment_rollout(items[0]) if self.has_pods else inference_service_rollout(items[0])
            if (rollout.state == "going" or rollout.late or not self.has_pods) and clock.monotonic() >= next_look:
                next_look = clock.monotonic() + LOOK_AT_PODS_S
                pods = self._pods(items[0])
                why = hopeless(pods, is_new)
                if why:
                    return Rollout("failed", why)
                if not self.has_pods:
                    rollout = predictor_rollout(items[0], pods, is_new)
                elif rollout.late and loading(pods, is_new):
                    rollout = Rollout("going", rollout.detail)  # a large model takes longer than the usual ten minutes
            elif rollout.late or (not self.has_pods and rollout.state == "done"):
                return None  # judged with the pods, when they are looked at next
            return None if rollout.state == "going" else rollout

        limit_s, select = self.options.rollout_timeout_s, Selection(fields=f"metadata.name={self.deploy}")
        try:
            return follow(self.api, self.resource, self.options.namespace, select, limit_s, decide)
        except TimeIsUpError as late:
            if late.error is not None:
                raise late.error from None
            detail = self._why_late(late.objects[0]) if late.objects else ""
            return Rollout("failed", f"not ready after {limit_s:g} s: {detail}")

    def applied(self, config: SpecConfig, limit_s: float) -> Words | None:
        """Wait until the object is configured as `config`, by any owner, and return its words; None if that does not happen in time."""

        def decide(items: Sequence[Object]) -> Words | None:
            for item in items:
                with suppress(InputError):
                    standing = read_standing(item, self.options)
                    if canonical(standing.command.spec_config) == canonical(config):
                        return words_of(standing.container)
            return None

        select = Selection(fields=f"metadata.name={self.deploy}")
        try:
            return follow(self.api, self.resource, self.options.namespace, select, limit_s, decide)
        except TimeIsUpError as late:
            if late.error is not None:
                raise late.error from None
            return None

    def _runs(self, words: Words) -> Callable[[Object], bool]:
        """Whether a predictor's pod speculates as these words say: KServe puts the runtime's own arguments before them."""
        wanted = read_engine(words.get("command", []), words.get("args", []), image="", known=True).spec_config

        def speculates(pod: Object) -> bool:
            for container in (pod.get("spec") or {}).get("containers") or []:
                with suppress(InputError):
                    command, args = container.get("command") or [], container.get("args") or []
                    command_read = read_engine(command, args, image=str(container.get("image", ""))).spec_config
                    return canonical(command_read) == canonical(wanted)
            return False

        return speculates

    def _why_late(self, item: Object) -> str:
        detail = deployment_rollout(item).detail if self.has_pods else "not every pod of the predictor is new and ready"
        with suppress(ApiError):
            detail += unplaced(self._pods(item))
        return detail

    def _has(self, item: Object, words: Words) -> bool:
        try:
            return words_of(read_standing(item, self.options).container) == words
        except InputError:
            return False  # somebody gave it a command that is not understood

    def _pods(self, item: Object) -> tuple[Object, ...]:
        wanted = (item["spec"].get("selector") or {}).get("matchLabels") or {}
        if not self.has_pods:
            wanted = {KSERVE_LABEL: self.deploy, "component": "predictor"}
        labels = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        return self.api.list(PODS, self.options.namespace, Selection(labels=labels)).items if labels else ()
