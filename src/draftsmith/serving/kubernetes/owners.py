"""Who else writes a served object, from the marks that they leave: labels, annotations, owners, and the managers of its fields. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from draftsmith.kit.kube import Object

GITOPS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
    "configsync.gke.io/resource-id": "Config Sync",
    "objectset.rio.cattle.io/id": "Rancher Fleet",
    "kapp.k14s.io/app": "kapp",
}
# Who applies a spec again and again, by the name under which it does so. An application tracked by label alone (Argo CD's
# default until 3.0) has no other sign.
MANAGERS = (
    (r"argocd-(controller|application-controller)|argocd", "Argo CD", True),
    (r"kustomize-controller|helm-controller", "Flux", True),
    (r"fleet-?agent|fleetagent", "Rancher Fleet", True),
    (r"configsync.*|reconciler-manager", "Config Sync", True),
    (r"kapp(-server|-controller)?", "kapp", True),
    (r"crossplane.*|provider-kubernetes.*", "Crossplane", True),
    (r"helm", "Helm", False),
    (r"(?i)terraform.*|hashicorp", "Terraform", False),
    (r"pulumi.*", "Pulumi", False),
)


@dataclass(frozen=True)
class Owner:
    """Who else writes the object. `reverts`: a patch would be undone within minutes."""

    name: str
    reverts: bool


def owner_of(item: Object) -> Owner | None:
    """GitOps, an operator or Helm; None if the object shows no owner."""
    meta = item["metadata"]
    marks = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    for mark, name in GITOPS.items():
        if mark in marks:
            return Owner(f"{name} ({marks[mark]})", reverts=True)
    for reference in meta.get("ownerReferences") or []:
        if reference.get("controller"):
            return Owner(f"{reference['kind']} {reference['name']}", reverts=True)
    release = marks.get("meta.helm.sh/release-name")
    managers = _managers(item)
    for manager in sorted(managers, key=lambda each: not each.reverts):
        if manager.reverts or not release:
            return manager
    return Owner(f"the Helm release {release}", reverts=False) if release else None


def _managers(item: Object) -> list[Owner]:
    """Tools among the managers of the object's spec."""
    owners = []
    for entry in item["metadata"].get("managedFields") or []:
        if "f:spec" not in (entry.get("fieldsV1") or {}) or entry.get("subresource"):
            continue
        name = str(entry.get("manager", ""))
        for pattern, tool, reverts in MANAGERS:
            if re.fullmatch(pattern, name):
                owners.append(Owner(f"{tool} (field manager {name})", reverts=reverts))
    return owners
