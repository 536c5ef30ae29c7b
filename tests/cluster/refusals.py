"""What a real API server refuses of an object, a patch or a selector, with its status, its reason and its words.

The words are those of kube-apiserver 1.36, as far as a client may read them. Rules that no object here can break are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import kubernetes_validate
from kubernetes_validate import utils

utils.schema_contents = cache(utils.schema_contents)  # it reads its files anew for each object
Object = dict[str, Any]
SCHEMA = "1.36"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
FIELDS = {
    "pods": {"metadata.name", "metadata.namespace", "spec.nodeName", "spec.restartPolicy", "spec.schedulerName",
             "spec.serviceAccountName", "status.phase", "status.podIP", "status.nominatedNodeName"},
    "events": {"metadata.name", "metadata.namespace", "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
               "involvedObject.uid", "reason", "type"},
    "jobs": {"metadata.name", "metadata.namespace", "status.successful"},
    "nodes": {"metadata.name", "spec.unschedulable"},
}  # fmt: skip


class RefusedCallError(Exception):
    def __init__(self, status: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.retry_after = status, reason, message, retry_after


def invalid(item: Object, told: str) -> RefusedCallError:
    return RefusedCallError(422, "Invalid", f'{item.get("kind")} "{item["metadata"].get("name")}" is invalid: {told}')


def require_valid(item: Object, *, strict: bool) -> None:
    """Schema and rules. `strict`: unknown fields are refused, as `fieldValidation=Strict` has it."""
    if item.get("kind") in ("InferenceService",):
        return  # its webhook is another program
    try:
        kubernetes_validate.validate(item, SCHEMA, strict=strict)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(part) for part in error.path)
        unknown = re.match(r"Additional properties are not allowed \('([^']+)'", error.message)
        if unknown and not strict:
            return  # left out in silence
        if unknown:
            told = f'strict decoding error: unknown field "{f"{place}." if place else ""}{unknown[1]}"'
            raise RefusedCallError(400, "BadRequest", f"{item['kind']} in version cannot be handled: {told}") from None
        if "is not of type" in error.message:
            told = f"json: cannot unmarshal into Go struct field {place}: {error.message}"
            raise RefusedCallError(400, "BadRequest", told) from None
        raise invalid(item, f"{place}: {error.message}") from None
    for told in _wrong(item):
        raise invalid(item, told)


def _wrong(item: Object) -> Iterator[str]:
    meta, kind, spec = item["metadata"], item.get("kind"), item.get("spec") or {}
    if not NAME.fullmatch(meta["name"]) or len(meta["name"]) > 253:
        yield f'metadata.name: Invalid value: "{meta["name"]}": a lowercase RFC 1123 subdomain must consist of ...'
    yield from _labels("metadata.labels", meta.get("labels") or {})
    if kind == "Pod":
        yield from _pod("spec", spec)
    if kind in ("Job", "Deployment"):
        template = spec["template"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        yield from _labels("spec.template.metadata.labels", labels)
        yield from _pod("spec.template.spec", template["spec"])
        if kind == "Job" and template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
            word = template["spec"].get("restartPolicy", "Always")
            yield f'spec.template.spec.restartPolicy: Unsupported value: "{word}": supported values: "OnFailure", "Never"'
        if kind == "Deployment" and not (spec["selector"].get("matchLabels") or {}).items() <= labels.items():
            yield "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"


def _labels(place: str, labels: Mapping[str, str]) -> Iterator[str]:
    for value in labels.values():
        if len(value) > 63 or not LABEL.fullmatch(value):
            yield f'{place}: Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric characters'


def _pod(place: str, spec: Object) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    claims = {claim["name"] for claim in spec.get("resourceClaims") or ()}
    for index, container in enumerate(spec.get("containers") or ()):
        here = f"{place}.containers[{index}]"
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            if mount["name"] not in volumes:
                yield f'{here}.volumeMounts[{number}].name: Not found: "{mount["name"]}"'
        resources = container.get("resources") or {}
        for number, claim in enumerate(resources.get("claims") or ()):
            if claim["name"] not in claims:
                yield f'{here}.resources.claims[{number}]: Not found: "{claim["name"]}"'
        limits = resources.get("limits") or {}
        for name, amount in (resources.get("requests") or {}).items():
            if "/" in name and name not in limits:
                yield f"{here}.resources.limits: Required value: Limit must be set for non overcommitable resources"
            elif "/" in name and str(amount) != str(limits[name]):
                yield f'{here}.resources.requests: Invalid value: "{amount}": must be equal to {name} limit of {limits[name]}'
    words = spec.get("priorityClassName")
    if words is not None and not NAME.fullmatch(words):
        yield f'{place}.priorityClassName: Invalid value: "{words}"'


def require_same(before: Object, after: Object) -> None:
    """What an update may not change."""
    for key in ("uid", "name", "namespace", "creationTimestamp"):
        if before["metadata"].get(key) != after["metadata"].get(key):
            raise invalid(before, f'metadata.{key}: Invalid value: "{after["metadata"].get(key)}": field is immutable')
    places = {"Deployment": ("selector",), "Job": ("selector", "template", "completions")}.get(before["kind"], ())
    for key in places:
        if (before.get("spec") or {}).get(key) != (after.get("spec") or {}).get(key):
            raise invalid(before, f"spec.{key}: Invalid value: field is immutable")


def require_restricted(pod: Object) -> None:
    """The Pod Security Standard `restricted`, as its admission says it."""
    spec, wrong = pod["spec"], []
    of_pod = spec.get("securityContext") or {}
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        wrong.append("host namespaces")
    if any("hostPath" in volume for volume in spec.get("volumes") or ()):
        wrong.append("restricted volume types (hostPath)")
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        own, name = container.get("securityContext") or {}, container["name"]
        if own.get("privileged"):
            wrong.append(f'privileged (container "{name}" must not set securityContext.privileged=true)')
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append(f'allowPrivilegeEscalation != false (container "{name}")')
        if "ALL" not in ((own.get("capabilities") or {}).get("drop") or ()):
            wrong.append(
                f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
            )
        if not (own.get("runAsNonRoot") or of_pod.get("runAsNonRoot")):
            wrong.append("runAsNonRoot != true")
        if (own.get("seccompProfile") or of_pod.get("seccompProfile") or {}).get("type") not in (
            "RuntimeDefault",
            "Localhost",
        ):
            wrong.append("seccompProfile")
    if wrong:
        told = f'violates PodSecurity "restricted:latest": {", ".join(wrong)}'
        raise RefusedCallError(403, "Forbidden", f'pods "{pod["metadata"]["name"]}" is forbidden: {told}')


# -- selectors ------------------------------------------------------------------------------------------------------


def by_labels(text: str, labels: Mapping[str, str]) -> bool:
    """A label selector, equality and sets. 400 for what is none."""
    for part in filter(None, re.split(r",(?![^(]*\))", text)):
        one = part.strip()
        among = re.fullmatch(r"([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)", one)
        pair = re.fullmatch(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)", one)
        alone = re.fullmatch(r"(!?)([\w./-]+)", one)
        if among:
            held = labels.get(among[1]) in [word.strip() for word in among[3].split(",")]
            held = held if among[2] == "in" else not held
        elif pair:
            held = (labels.get(pair[1]) == pair[3]) == (pair[2] != "!=")
        elif alone:
            held = (alone[2] in labels) == (not alone[1])
        else:
            raise RefusedCallError(400, "BadRequest", f"unable to parse requirement: {one}")
        if not held:
            return False
    return True


def by_fields(text: str, plural: str, item: Object) -> bool:
    """A field selector; 400 for a field that the kind does not offer."""
    known = FIELDS.get(plural, {"metadata.name", "metadata.namespace"})
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", part)
        if match is None or match[1] not in known:
            raise RefusedCallError(400, "BadRequest", f"field label not supported: {match[1] if match else part}")
        place: Any = item
        for key in match[1].split("."):
            place = (place or {}).get(key)
        if (str(place or "") == match[3]) != (match[2] != "!="):
            return False
    return True
