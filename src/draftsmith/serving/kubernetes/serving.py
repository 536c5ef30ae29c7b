"""The standing configuration of a served deployment in Kubernetes: read from its arguments, switched by a patch of them.

Laws:
- Dry by default: `plan_text` shows the exact patch; only `allow_cluster=True` lets `switch` patch anything.
- The patch tests the version, command and args that were read, so what somebody else changed meanwhile is refused.
- A rollout that does not become ready in time is taken back here, and reported; the old words are on disk before.
- Where a patch would not last (GitOps, an operator, Helm), the values to change are given instead.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from draftsmith.contract.base import Frozen, canonical
from draftsmith.contract.cluster import (
    KSERVE_PERMISSIONS,
    PROMOTE_PERMISSIONS,
    RBAC_HINT,
    Permission,
    explain,
    require_name,
)
from draftsmith.contract.errors import BackendError, PrerequisiteError, RefusedError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines.container_command import ContainerCommand
from draftsmith.kit.files import read_json, write_atomic, write_json
from draftsmith.kit.kube import DEPLOYMENTS, EVENTS, NODES, PODS, ApiError, KubeApi, Object
from draftsmith.serving.kubernetes.drafts import require_config_read, require_read
from draftsmith.serving.kubernetes.nodes import fits_pod, free_on, is_usable
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.owners import Owner, owner_of
from draftsmith.serving.kubernetes.patch import Words, json_patch, patch_text, values_text, wanted_words, words_of
from draftsmith.serving.kubernetes.paths import from_containers, in_containers, require_visible
from draftsmith.serving.kubernetes.refusals import DRY, translated
from draftsmith.serving.kubernetes.rollout import needs_spare, require_movable
from draftsmith.serving.kubernetes.rollout_watch import RolloutWatch
from draftsmith.serving.kubernetes.standing import PRESETS, Standing, read_standing

CONFLICTS = 5
CHANGED = "see what it is now (draftsmith canary plan), and compare again against what serves now"


class SwitchNote(Frozen):
    """The last switch, on disk: what was there, what was put there, and how that went."""

    deploy: str
    namespace: str
    uid: str
    old: Words
    new: Words
    state: Literal["intended", "done", "taken_back"] = "intended"


class KubernetesServing:
    """See serving.base.Serving. `folder` is private and outlives this process."""

    def __init__(
        self, api: KubeApi, options: ServingOptions, deploy: str, folder: Path, *, allow_cluster: bool = False
    ) -> None:
        self._api, self._options = api, options
        self._deploy = require_name(deploy, "deployment", dotted=True)
        require_name(options.namespace, "namespace")
        self._allowed = allow_cluster
        self._resource = PRESETS[options.preset].resource
        self._file = folder / f"switch-{deploy}.json"
        self._watch = RolloutWatch(api, options, self._resource, deploy)

    def current(self) -> SpecConfig:
        """What the arguments say, with draft folders as they are here. Raises InputError if they are not understood."""
        return from_containers(self._read().command.spec_config, self._options.paths)

    def fingerprint(self) -> str:
        """See Serving."""
        return self._read().fingerprint()

    def plan_text(self, expected: SpecConfig, new: SpecConfig) -> str:
        """The exact patch, or the values to change where a patch would not last. Changes nothing."""
        standing = self._read()
        self._require(standing, expected)
        command = self._wanted(standing, new)
        owner = owner_of(standing.item)
        if owner is not None and not self._may_patch(owner):
            return values_text(standing, command, owner.name)
        return patch_text(standing, json_patch(standing, self._words(standing, command)))

    def check(self, trained: Mapping[str, Any] | None = None) -> None:
        """Whether a promotion could be made here, asked long before there is one. Changes nothing.

        `trained`: what config.json of the draft will say that is going to be trained.

        Raises PrerequisiteError if these credentials may not; where a patch is never made they need not. RefusedError if the
        object is paused or scaled to zero, or its engine would read that draft wrongly.
        """
        standing = self._read()
        require_config_read(standing, trained or {}, "a draft as it would be trained")
        owner = owner_of(standing.item)
        if owner is None or self._may_patch(owner):
            self._require_rights()
            require_movable(standing)

    def switch(self, expected: SpecConfig, new: SpecConfig) -> None:
        """See Serving; returns once every pod serves `new`.

        Raises RefusedError if dry, changed or owned by somebody else, PrerequisiteError if it could not work, and
        BackendError if the rollout failed: then the old arguments are back, and serve.
        """
        standing = self._read()
        if canonical(self._seen(standing)) == canonical(new):
            self._finish(standing)
            return
        self._require(standing, expected)
        command = self._wanted(standing, new)
        owner = owner_of(standing.item)
        if owner is not None and not self._may_patch(owner):
            self._leave_to(owner, standing, command)
            return
        require_visible(command.spec_config, standing.mounts(), f"the served container of {standing.name}")
        if not self._allowed:
            raise RefusedError(f"dry run: would patch {self._resource.kind} {self._deploy}", DRY)
        self._require_rights()
        require_movable(standing)
        self._require_room(standing)
        words = self._words(standing, command)
        note = SwitchNote(
            deploy=self._deploy,
            namespace=self._options.namespace,
            uid=standing.item["metadata"]["uid"],
            old=words_of(standing.container),
            new=words,
        )
        write_json(self._file, note)
        self._patch(standing, note.old, words)
        self._follow(note)

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read(self) -> Standing:
        with translated(f"read {self._resource.kind} {self._deploy}"):
            item = self._api.get(self._resource, self._options.namespace, self._deploy)
        return read_standing(item, self._options)

    def _seen(self, standing: Standing) -> SpecConfig:
        return from_containers(standing.command.spec_config, self._options.paths)

    def _require(self, standing: Standing, expected: SpecConfig) -> None:
        if canonical(self._seen(standing)) != canonical(expected):
            raise RefusedError(f"{self._deploy} serves another configuration than the one that was compared", CHANGED)

    def _wanted(self, standing: Standing, new: SpecConfig) -> ContainerCommand:
        require_read(standing, new)
        return standing.command.with_spec(in_containers(new, self._options.paths))

    def _words(self, standing: Standing, command: ContainerCommand) -> Words:
        """The words of the new command; on the way back, exactly those that were there before."""
        note = self._note()
        if note is not None and note.new == words_of(standing.container) and note.state == "done":
            before = read_standing(_with_words(standing, note.old), self._options)
            if canonical(before.command.spec_config) == canonical(command.spec_config):
                return note.old
        return wanted_words(standing.container, command)

    def _note(self) -> SwitchNote | None:
        try:
            note = SwitchNote.model_validate(read_json(self._file))
        except (OSError, ValueError, ValidationError):
            return None
        return note if (note.deploy, note.namespace) == (self._deploy, self._options.namespace) else None

    # -- reasons to refuse -------------------------------------------------------------------------------------------

    def _may_patch(self, owner: Owner) -> bool:
        return self._options.patch_managed and not owner.reverts

    def _leave_to(self, owner: Owner, standing: Standing, command: ContainerCommand) -> None:
        """Write down the values that the owner has to apply; return once they serve, if that is waited for.

        Raises RefusedError with the values if they are not there in time, BackendError if their rollout fails.
        """
        text = values_text(standing, command, owner.name)
        write_atomic(self._file.with_name(f"values-{self._deploy}.yaml"), text)
        why = "it would undo a patch" if owner.reverts else "its next upgrade would undo a patch"
        refused = RefusedError(
            f"{self._deploy} is written by {owner.name}: {why}. Change this instead:\n{text}",
            "apply the values above and run again: what serves then is recognised",
        )
        if not self._allowed or not self._options.wait_for_owner_s:
            raise refused
        try:
            applied = self._watch.applied(command.spec_config, self._options.wait_for_owner_s)
            if applied is None:
                raise refused
            rollout = self._watch.wait(applied)
        except ApiError as error:
            raise explain(error, f"watch {self._resource.kind} {self._deploy}") from error
        if rollout.state != "done":
            raise BackendError(
                f"the rollout of {self._deploy} that {owner.name} applied did not succeed: {rollout.detail or 'changed again'}",
                f"take the values back where {owner.name} keeps them",
            )
        uid = str(standing.item["metadata"]["uid"])
        note = SwitchNote(
            deploy=self._deploy,
            namespace=self._options.namespace,
            uid=uid,
            old=words_of(standing.container),
            new=applied,
            state="done",
        )
        write_json(self._file, note)
        self._tell("Promoted", f"{owner.name} applied {_short(applied)}", note)

    def _require_rights(self) -> None:
        """All of them: with only some, the arguments would be patched and what becomes of them not seen."""
        is_deployment = self._resource == DEPLOYMENTS
        with translated("ask for permissions"):
            missing = [
                str(each)
                for each in (PROMOTE_PERMISSIONS if is_deployment else KSERVE_PERMISSIONS)
                if not self._may(each)
            ]
        if missing:
            raise PrerequisiteError(
                f"these credentials may not {', '.join(missing)} in namespace {self._options.namespace}", RBAC_HINT
            )

    def _may(self, permission: Permission) -> bool:
        name = self._deploy if permission.resource == self._resource else ""
        return self._api.allowed(permission.verb, permission.resource, self._options.namespace, name=name)

    def _require_room(self, standing: Standing) -> None:
        """A rolling update without a spare GPU waits for ever."""
        resource, gpus = standing.accelerator(self._options.gpu_resource)
        if not gpus or not self._options.check_room or "spec" not in standing.item or standing.preset == "kserve":
            return
        if not needs_spare(standing.item):
            return
        with translated("look for a free GPU (list nodes and pods of the cluster)"):
            nodes, pods = self._api.list(NODES, None).items, self._api.list(PODS, None).items
        tolerations = standing.pod_spec.get("tolerations") or ()
        usable = [node for node in nodes if is_usable(node, self._options, tolerations) is None]
        if not any(free_on(node, pods, resource)[0] >= gpus for node in usable if fits_pod(node, standing)):
            raise RefusedError(
                f"no node has {gpus} free {resource}: the rolling update of {self._deploy} would wait for ever",
                "free a GPU, or give the Deployment strategy Recreate or maxUnavailable 1 (then it is away meanwhile)",
            )

    # -- doing ------------------------------------------------------------------------------------------------------

    def _tell(self, reason: str, message: str, note: SwitchNote) -> None:
        """Write an Event on the object, for operators who look at it there. Without the right to create Events nothing is written."""
        now = datetime.fromtimestamp(self._api.clock.unix(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        about = {"apiVersion": self._resource.api_version, "kind": self._resource.kind, "name": self._deploy}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self._deploy}.", "namespace": self._options.namespace},
            "involvedObject": {**about, "namespace": self._options.namespace, "uid": note.uid},
            "reason": f"Draft{reason}",
            "message": message[:1000],
            "type": "Normal" if reason == "Promoted" else "Warning",
            "source": {"component": "draftsmith"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with suppress(ApiError):
            self._api.create(EVENTS, self._options.namespace, event)

    def _patch(self, standing: Standing, old: Words, new: Words) -> None:
        """Put `new` in the place of `old`, and only of `old`. Raises RefusedError if something else is there."""
        for attempt in range(CONFLICTS):
            if words_of(standing.container) == new:
                return
            if words_of(standing.container) != old:
                raise RefusedError(
                    f"{self._deploy} was changed by somebody else meanwhile; nothing was patched", CHANGED
                )
            operations = json_patch(standing, new)
            try:
                self._api.patch(self._resource, self._options.namespace, self._deploy, operations)
                return
            except ApiError as error:
                # A status update moves the version: read again, and try while the words are still the old ones. What
                # is refused for the very version that is there (a policy, a rule of the API) is refused for good.
                if error.status not in (409, 422):
                    raise explain(error, f"patch {self._resource.kind} {self._deploy}") from error
                refused = error
            self._api.clock.sleep(0.2 * 2**attempt)
            before, standing = _version(standing), self._read()
            if refused.status == 422 and _version(standing) == before:
                raise explain(refused, f"patch {self._resource.kind} {self._deploy}") from refused
        raise BackendError(f"{self._deploy} keeps changing; nothing was patched", "run again when it has come to rest")

    def _finish(self, standing: Standing) -> None:
        """`new` is there already: of a switch that was cut off, the rollout is still to be seen through."""
        note = self._note()
        if self._allowed and note and note.state == "intended" and note.new == words_of(standing.container):
            self._follow(note)

    def _follow(self, note: SwitchNote) -> None:
        try:
            rollout = self._watch.wait(note.new)
        except ApiError as error:
            step = "run the same command again: it goes on from here, and takes it back if it fails"
            raise BackendError(explain(error, "follow the rollout").message, step) from error
        if rollout.state == "done":
            write_json(self._file, note.model_copy(update={"state": "done"}))
            self._tell(
                "Promoted",
                f"{self._resource.kind} {self._deploy} serves {_short(note.new)}; before: {_short(note.old)}",
                note,
            )
            return
        if rollout.state == "changed":
            raise RefusedError(
                f"{self._deploy} was changed by somebody else during its rollout; it is left as it is", CHANGED
            )
        self._patch(self._read(), note.new, note.old)
        write_json(self._file, note.model_copy(update={"state": "taken_back"}))
        self._tell("TakenBack", f"the rollout failed ({rollout.detail}): {_short(note.old)} again", note)
        back = self._watch.wait(note.old)
        state = "the old configuration serves" if back.state == "done" else f"the old one is coming back: {back.detail}"
        raise BackendError(
            f"the rollout of {self._deploy} failed and was taken back ({rollout.detail}); {state}",
            "see the logs of the failed pods; the draft may not load in this image",
        )


def _short(words: Words) -> str:
    """Words as one line. What was promoted is public in the object itself; drafts are paths, never traffic."""
    return " ".join(words.get("args") or words.get("command") or ())[-400:]


def _version(standing: Standing) -> str:
    return str(standing.item["metadata"].get("resourceVersion", ""))


def _with_words(standing: Standing, words: Words) -> Object:
    """The object with other words in its container."""
    item = copy.deepcopy(standing.item)
    place: Object = item
    for part in standing.path:
        place = place[part]  # type: ignore[index]
    for key in ("command", "args"):
        place.pop(key, None)
    place.update(words)
    return item
