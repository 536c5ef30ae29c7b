"""Following a rollout until its end is known. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from draftsmith.contract.errors import InputError
from draftsmith.kit.kube import PODS, ApiError, KubeApi, Object, Resource, Selection
from draftsmith.kit.kube_watch import TimeIsUpError, follow
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.patch import Words, words_of
from draftsmith.serving.kubernetes.rollout import (
    Rollout,
    deployment_rollout,
    hopeless,
    inference_service_rollout,
    unplaced,
)
from draftsmith.serving.kubernetes.standing import read_standing

LOOK_AT_PODS_S = 5.0


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
        next_look = clock.monotonic() if self.has_pods else float("inf")

        def decide(items: Sequence[Object]) -> Rollout | None:
            nonlocal next_look
            if not items:
                return Rollout("failed", "it was removed meanwhile")
            if not self._has(items[0], words):
                return Rollout("changed")
            told = self._told(items[0])
            if told.state == "going" and clock.monotonic() >= next_look:
                next_look = clock.monotonic() + LOOK_AT_PODS_S
                why = hopeless(self._pods(items[0]), words.get("args", []))
                told = Rollout("failed", why) if why else told
            return None if told.state == "going" else told

        limit_s, select = self.options.rollout_timeout_s, Selection(fields=f"metadata.name={self.deploy}")
        try:
            return follow(self.api, self.resource, self.options.namespace, select, limit_s, decide)
        except TimeIsUpError as late:
            if late.error is not None:
                raise late.error from None
            detail = self._why_late(late.objects[0]) if late.objects else ""
            return Rollout("failed", f"not ready after {limit_s:g} s: {detail}")

    def _told(self, item: Object) -> Rollout:
        return deployment_rollout(item) if self.has_pods else inference_service_rollout(item)

    def _why_late(self, item: Object) -> str:
        detail = self._told(item).detail
        if self.has_pods:
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
        labels = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        return self.api.list(PODS, self.options.namespace, Selection(labels=labels)).items if labels else ()
