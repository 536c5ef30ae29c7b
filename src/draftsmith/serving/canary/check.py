"""Whether canaries may be started: would a router find them, is there an idle node. Pure decisions over listed objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from draftsmith.contract.cluster import MANAGED_BY, ClusterOptions
from draftsmith.contract.errors import PrerequisiteError, RefusedError
from draftsmith.kit.kube import Object
from draftsmith.serving.kubernetes.nodes import fits_pod, free_on, is_usable
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.placement import holds, product, products_of, shared
from draftsmith.serving.kubernetes.standing import Standing

HOSTNAME = "kubernetes.io/hostname"


def require_unrouted(labels: Mapping[str, str], services: Iterable[Object], deployments: Iterable[Object]) -> None:
    """Raise RefusedError if a Service would send traffic to pods with these labels, or a controller adopt them."""
    for service in services:
        wanted = (service.get("spec") or {}).get("selector") or {}
        if wanted and not _is_ours(service) and wanted.items() <= labels.items():
            raise _routed(f"Service {service['metadata']['name']}")
    for deployment in deployments:
        if _matches((deployment.get("spec") or {}).get("selector") or {}, labels):
            raise _routed(f"Deployment {deployment['metadata']['name']}")
        selects = _router_selector(deployment)
        if selects is not None and _matches({"matchLabels": selects}, labels, empty=True):
            raise _routed(f"the router {deployment['metadata']['name']}")


def _routed(selector: str) -> RefusedError:
    return RefusedError(
        f"{selector} selects the labels of a canary: it would get live traffic, or be adopted",
        "remove that label from serving.options.labels, or use another serving.options.namespace",
    )


def _is_ours(item: Object) -> bool:
    return (item["metadata"].get("labels") or {}).get(MANAGED_BY) == "draftsmith"


def _matches(wanted: Mapping[str, Any], labels: Mapping[str, str], *, empty: bool = False) -> bool:
    exact = wanted.get("matchLabels") or {}
    expressions = wanted.get("matchExpressions") or []
    if not exact and not expressions:
        return empty
    return exact.items() <= labels.items() and all(holds(each, labels) for each in expressions)


def _router_selector(deployment: Object) -> dict[str, str] | None:
    """What a router that discovers pods by itself selects; {} = every pod of its namespace; None = no such router."""
    containers = ((deployment["spec"].get("template") or {}).get("spec") or {}).get("containers") or []
    for container in containers:
        words = [part for word in [*(container.get("command") or []), *(container.get("args") or [])]
                 for part in str(word).split("=", 1 if str(word).startswith("--") else 0)]  # fmt: skip
        if "--service-discovery" not in words or "k8s" not in words:
            continue
        if "--k8s-label-selector" not in words:
            return {}
        text = words[words.index("--k8s-label-selector") + 1]
        return dict(item.strip().split("=", 1) for item in text.split(",") if "=" in item)
    return None


def choose_node(
    nodes: Sequence[Object],
    pods: Sequence[Object],
    options: ServingOptions,
    *,
    standing: Standing,
    named: str | None,
    arms: int,
) -> str:
    """The hostname label of an idle node with GPUs for `arms` copies, all of them free, of the product that serves.

    `named` = only this one.

    Raises PrerequisiteError, which says of each node why it is none.
    """
    reasons: list[str] = []
    gpu_resource, each = standing.accelerator(options.gpu_resource)
    gpus = arms * each
    served = products_of(nodes, pods, standing.selector, options.namespace) if gpus else set()
    for node in sorted(nodes, key=lambda item: str(item["metadata"]["name"])):
        name = str(node["metadata"]["name"])
        labels = node["metadata"].get("labels") or {}
        if named not in (None, name, labels.get(HOSTNAME)):
            continue
        reason = _unfit(node, pods, options, standing, gpu_resource, gpus, served)
        if reason is None:
            return str(labels.get(HOSTNAME, name))
        reasons.append(f"{name} {reason}")
    reasons_shown = "; ".join(reasons[:5]) or (f"there is no node {named}" if named else "there is no node")
    raise PrerequisiteError(
        f"no idle node with {gpus} free {gpu_resource} for the arms: {reasons_shown}",
        'wait until one is free, compare fewer arms, set compare.resident = "no", or name one in serving.options.node',
    )


def _unfit(
    node: Object,
    pods: Sequence[Object],
    options: ClusterOptions,
    standing: Standing,
    gpu_resource: str,
    gpus: int,
    served: set[str],
) -> str | None:
    unusable = is_usable(node, options, standing.pod_spec.get("tolerations") or ())
    if unusable is not None:
        return unusable
    if not options.node_selector.items() <= (node["metadata"].get("labels") or {}).items() or not fits_pod(
        node, standing
    ):
        return "does not have the labels asked for"
    if gpus and (why := shared(node)):
        return why
    if served and product(node) and product(node) not in served:
        return f"has {product(node)}, and {', '.join(sorted(served))} serves"
    free, total = free_on(node, pods, gpu_resource)
    if total < gpus:
        return f"has {total} GPUs"
    if free < total:
        return f"is not idle: {total - free} of {total} GPUs are in use"
    return None
