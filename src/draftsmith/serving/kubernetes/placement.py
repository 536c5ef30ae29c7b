"""Which node the pods of a comparison may use: node affinity, the product of a GPU, and whether a GPU is shared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from draftsmith.kit.kube import Object

# Labels in which device plugins and feature discovery name the product of a node's accelerators.
PRODUCTS = (
    "nvidia.com/gpu.product", "amd.com/gpu.product-name", "gpu.intel.com/product", "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator", "habana.ai/product",
)  # fmt: skip
SHARING = ("nvidia.com/gpu.sharing-strategy", "nvidia.com/gpu.replicas")
# Countable resources that are no accelerators.
NO_GPU = re.compile(
    r"(rdma|hugepages|vpc\.amazonaws\.com|openshift\.io|smarter-devices|devices\.kubevirt\.io)[/-]|.*/(rdma|hca|roce|efa|ib)[\w-]*$"
)


def accelerator(resources: Mapping[str, Any], preferred: str) -> tuple[str, int]:
    """(resource, amount) of the accelerators that a container asks for; `preferred` with 0 if there are none.

    A site's own name of a GPU, a partition of one (`nvidia.com/mig-1g.5gb`) and another vendor's are found by themselves.
    """
    requested = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    if int(requested.get(preferred) or 0):
        return preferred, int(requested[preferred])
    products = {
        k: int(v) for k, v in requested.items() if "/" in k and not NO_GPU.match(k) and str(v).isdigit() and int(v)
    }
    return max(products.items(), key=lambda item: item[1]) if products else (preferred, 0)


def affine(node: Object, affinity: Mapping[str, Any] | None) -> bool:
    """Whether a required node affinity takes a node: one of its terms, with all of that term's requirements."""
    required = (affinity or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    labels = node["metadata"].get("labels") or {}
    name = {"metadata.name": str(node["metadata"]["name"])}
    return not terms or any(_term(term, labels, name) for term in terms)


def _term(term: Mapping[str, Any], labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    wanted = [(each, labels) for each in term.get("matchExpressions") or []]
    wanted += [(each, fields) for each in term.get("matchFields") or []]
    return bool(wanted) and all(holds(each, values) for each, values in wanted)


def holds(wanted: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One requirement of a selector or an affinity."""
    value, values = labels.get(wanted["key"]), wanted.get("values") or []
    if wanted["operator"] in ("Gt", "Lt"):
        if value is None or not value.lstrip("-").isdigit():
            return False
        return (int(value) > int(values[0])) == (wanted["operator"] == "Gt") and int(value) != int(values[0])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(wanted["operator"], True)


def product(node: Object) -> str:
    """What accelerators a node has; empty where it does not say."""
    labels = node["metadata"].get("labels") or {}
    return next((str(labels[key]) for key in PRODUCTS if labels.get(key)), "")


def products_of(
    nodes: Iterable[Object], pods: Sequence[Object], selector: Mapping[str, str], namespace: str
) -> set[str]:
    """Products of the nodes where pods with these labels run: what a comparison has to be measured on."""
    names = {
        pod["spec"]["nodeName"]
        for pod in pods
        if pod["metadata"].get("namespace") == namespace
        and pod["spec"].get("nodeName")
        and selector
        and selector.items() <= (pod["metadata"].get("labels") or {}).items()
    }
    return {product(node) for node in nodes if node["metadata"]["name"] in names} - {""}


def shared(node: Object) -> str | None:
    """Why one GPU of a node is not one GPU; None if it is."""
    labels = node["metadata"].get("labels") or {}
    strategy, replicas = (str(labels.get(key, "")) for key in SHARING)
    if strategy not in ("", "none") or (replicas.isdigit() and int(replicas) > 1) or product(node).endswith("-SHARED"):
        return f"shares each GPU among several pods ({strategy if strategy not in ('', 'none') else 'time-slicing'})"
    return None
