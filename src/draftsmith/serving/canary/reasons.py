"""Why a canary is not there, or not yet: what Jobs, events and quotas say of it. Reads only; a right that is missing costs a reason, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.kit.kube import EVENTS, QUOTAS, ApiError, KubeApi, Object, Selection

QUEUE = "kueue.x-k8s.io/queue-name"
# Of a pod that is on its node: what keeps it from starting there.
HELD = frozenset({"FailedAttachVolume", "FailedMount", "FailedCreatePodSandBox", "FailedMapVolume"})


def told_by_events(api: KubeApi, namespace: str, name: str, only: frozenset[str] | None = None) -> str:
    """`reason: message` of the last warning about an object, or the news that it was preempted. Empty if there is none."""
    with suppress(ApiError):
        result = api.list(EVENTS, namespace, Selection(fields=f"involvedObject.name={name}")).items
        events = [e for e in result if e.get("type") == "Warning" or e.get("reason") == "Preempted"]
        events = [e for e in events if only is None or e.get("reason") in only]
        if events:
            last = max(events, key=_when)
            return f"{last.get('reason', '')}: {last.get('message', '')}".strip(": ")
    return ""


def _when(event: Object) -> str:
    last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return str(last or "")


def why_no_pod(api: KubeApi, namespace: str, job: Object) -> str:
    """Why a Job has no pod: suspended by a queue, refused by a quota or by an admission rule."""
    name = str(job["metadata"]["name"])
    if job["spec"].get("suspend"):
        queue = (job["metadata"].get("labels") or {}).get(QUEUE)
        return f"its Job is suspended: queue {queue} has not admitted it" if queue else "its Job is suspended"
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Failed", "FailureTarget") and condition.get("status") == "True":
            return f"its Job failed: {condition.get('reason', '')}: {condition.get('message', '')}".rstrip(": ")
    return (
        told_by_events(api, namespace, name)
        or "no pod of it has appeared: a quota or an admission rule may hold it back"
    )


def require_quota(api: KubeApi, namespace: str, pods: Sequence[Object]) -> None:
    """Raise PrerequisiteError if a ResourceQuota has no room for all of these pods together, although it has for each."""
    quotas: Sequence[Object] = ()
    with suppress(ApiError):
        quotas = api.list(QUOTAS, namespace).items
    wanted = _sums(pods)
    for quota in quotas:
        if (quota.get("spec") or {}).get("scopes") or (quota.get("spec") or {}).get("scopeSelector"):
            continue  # of some pods only; the server's own dry run asks for each
        status = quota.get("status") or {}
        used = status.get("used") or {}
        for key, hard in (status.get("hard") or {}).items():
            left = _amount(hard) - _amount(used.get(key, 0))
            if wanted.get(key, Decimal(0)) > left:
                raise PrerequisiteError(
                    f"quota {quota['metadata']['name']} has {left} of {key} left, and the arms need {wanted[key]} together",
                    'compare fewer arms at a time (compare.resident = "no" starts one after the other), or have it raised',
                )


def _sums(pods: Sequence[Object]) -> Mapping[str, Decimal]:
    """What pods ask for, under the names that a ResourceQuota uses."""
    sums: dict[str, Decimal] = {"pods": Decimal(len(pods)), "count/pods": Decimal(len(pods))}
    for pod in pods:
        for container in pod["spec"]["containers"]:
            resources = container.get("resources") or {}
            limits = resources.get("limits") or {}
            requests = limits | (resources.get("requests") or {})
            for kind, amounts in (("requests", requests), ("limits", limits)):
                for name, amount in amounts.items():
                    keys = [f"{kind}.{name}", *([name] if kind == "requests" else [])]
                    for key in keys:
                        sums[key] = sums.get(key, Decimal(0)) + _amount(amount)
    return sums


def _amount(text: object) -> Decimal:
    from kubernetes.utils.quantity import parse_quantity

    amount: Decimal = parse_quantity(str(text))
    return amount
