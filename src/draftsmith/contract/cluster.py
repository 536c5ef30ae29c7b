"""What Draftsmith's objects in a Kubernetes cluster have in common: names, labels, hardening, permissions, refusals.

An object of Draftsmith is known by its labels alone. They are chosen so that no router or Service of a standing
deployment selects it, and they are never copied from one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, DraftsmithError, InputError, PrerequisiteError
from draftsmith.kit import kube
from draftsmith.kit.kube import ApiError, Resource

DOMAIN = "draftsmith.dev"
EXPERIMENT = f"{DOMAIN}/experiment"
ARM = f"{DOMAIN}/arm"
WORKSPACE = f"{DOMAIN}/workspace"  # whose canary it is: an experiment of the same name may be somebody else's
JOB_NAME = f"{DOMAIN}/job"  # annotation: the whole name, which a label cannot hold
WORKDIR = f"{DOMAIN}/workdir"
EXPIRES = f"{DOMAIN}/expires-unix"  # annotation: nothing needs the object after this moment
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
OURS = f"{MANAGED_BY}=draftsmith"

PRIORITY_CLASS = "draftsmith-canary"  # deploy/kubernetes/base: below zero, so that production takes the GPUs back

Scheduler = Literal["default", "slurm"]
SLURM_SCHEDULER = "slurm-bridge-scheduler"
BRIDGE_TAINT = (
    "slinky.slurm.net/managed-node"  # of nodes that Slurm places pods on; slurm-bridge has its pods tolerate it
)

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class ClusterOptions(Frozen):
    """How the cluster is reached, and what every object of Draftsmith in it is given."""

    namespace: str = Field("default", description="namespace of everything that is created")
    kubeconfig: str | None = Field(None, description="kubeconfig file; default: KUBECONFIG, ~/.kube/config, in-cluster")
    context: str | None = Field(None, description="context of the kubeconfig; default: its current one")
    request_timeout_s: float = Field(30.0, gt=0, description="limit for one answer of the API server")
    scheduler: Scheduler = Field("default", description="slurm: pods are scheduled by Slurm (slurm-bridge)")
    scheduler_name: str | None = Field(None, description="schedulerName of pods, where it is not the usual one")
    slurm_annotations: dict[str, str] = Field(
        default_factory=dict, description="slurmjob.slinky.slurm.net/... annotations, such as partition"
    )
    tolerations: tuple[dict[str, Any], ...] = Field((), description="further tolerations of pods")
    node_selector: dict[str, str] = Field(default_factory=dict, description="nodes that pods may run on")
    labels: dict[str, str] = Field(
        default_factory=dict, description="further labels of everything created, such as kueue.x-k8s.io/queue-name"
    )
    priority_class: str | None = Field(
        None, description="priorityClassName of pods; canaries: draftsmith-canary where the cluster has it"
    )
    run_as_user: Annotated[int, Field(ge=1)] | Literal["cluster"] = Field(
        1000, description='user id of containers, never 0; "cluster": the namespace assigns one (OpenShift)'
    )
    run_as_group: Annotated[int, Field(ge=1)] | Literal["cluster"] = Field(
        1000, description='group id of containers; "cluster" as above'
    )

    @field_validator("labels", "node_selector")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            prefix, _, name = key.rpartition("/")
            if not name or not _LABEL.fullmatch(name) or (prefix and not _DNS_NAME.fullmatch(prefix)):
                raise ValueError(
                    f"{key!r} is not the key of a label: a name of at most 63 letters, digits, '-', '_' and '.'"
                )
            if not _LABEL.fullmatch(value):
                raise ValueError(f"{value!r} is not a label value: at most 63 letters, digits, '-', '_' and '.'")
        return labels


def slug(text: str, limit: int = 63) -> str:
    """`text` as a DNS label of at most `limit` characters; what had to be changed gets a hash, so names stay apart."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]+", "-", text.lower())).strip("-")
    if plain == text and len(plain) <= limit and _DNS_LABEL.fullmatch(plain):
        return plain
    tail = hashlib.sha256(text.encode()).hexdigest()[:6]
    head = plain[: limit - len(tail) - 1].strip("-") or "x"
    return f"{head}-{tail}"


def plain_slug(text: str, limit: int = 40) -> str:
    """`text` in lower-case letters, digits and '-', without a hash: for folders that the user names apart."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "target"


def require_name(name: str, text: str, *, dotted: bool = False) -> str:
    """`name` if the API takes it as a name. Raises InputError."""
    if not (_DNS_NAME if dotted else _DNS_LABEL).fullmatch(name):
        raise InputError(
            f"{text} {name!r} is not a name in Kubernetes",
            "use lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit",
        )
    return name


def labels_of(
    options: ClusterOptions, component: str, experiment: str, arm: str | None = None, workspace: str = ""
) -> dict[str, str]:
    """Labels of an object. The own ones win over the options'."""
    own = {MANAGED_BY: "draftsmith", COMPONENT: component, EXPERIMENT: slug(experiment), "experiment": slug(experiment)}
    owner = {WORKSPACE: workspace} if workspace else {}
    return {**options.labels, **own, **({ARM: slug(arm)} if arm else {}), **owner}


def selector(**wanted: str) -> str:
    """A label selector for Draftsmith's objects: `component`, `experiment`, `arm`."""
    names = {"component": COMPONENT, "experiment": EXPERIMENT, "arm": ARM}
    return ",".join([OURS, *(f"{names[key]}={slug(value)}" for key, value in wanted.items())])


def pod_placement(options: ClusterOptions) -> dict[str, Any]:
    """Scheduler, tolerations, nodes and priority of a pod. slurm-bridge adds its own toleration."""
    default = SLURM_SCHEDULER if options.scheduler == "slurm" else None
    placed: dict[str, Any] = {
        "schedulerName": options.scheduler_name or default,
        "tolerations": list(options.tolerations),
        "nodeSelector": dict(options.node_selector),
        "priorityClassName": options.priority_class,
    }
    return {key: value for key, value in placed.items() if value}


def slurm_annotations(options: ClusterOptions, limit_s: int | None, *, shared: bool = False) -> dict[str, str]:
    """Annotations of the top object for slurm-bridge; the time limit is in minutes there.

    `shared`: several pods have to fit on one node. By default it gives every pod a whole node of its own.
    """
    if options.scheduler != "slurm":
        return {}
    prefix = "slurmjob.slinky.slurm.net/"
    limit = {f"{prefix}timelimit": str(max(1, -(-limit_s // 60)))} if limit_s else {}
    limit |= {f"{prefix}exclusive": "false"} if shared else {}
    given = {key if "/" in key else prefix + key: value for key, value in options.slurm_annotations.items()}
    return limit | given


def pod_security(options: ClusterOptions) -> dict[str, Any]:
    """securityContext of a pod: the `restricted` Pod Security Standard."""
    user = {"runAsUser": options.run_as_user, "runAsGroup": options.run_as_group}
    ids = {key: value for key, value in user.items() if value != "cluster"}
    return {"runAsNonRoot": True, **ids, "seccompProfile": {"type": "RuntimeDefault"}}


def container_security() -> dict[str, Any]:
    """securityContext of a container: the `restricted` Pod Security Standard, and a root that cannot be written."""
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@dataclass(frozen=True)
class Permission:
    """One verb on one resource. `cluster`: asked for in all namespaces. `sub` such as `log`."""

    verb: str
    resource: Resource
    sub: str = ""
    cluster: bool = False

    def __str__(self) -> str:
        label = f"{self.resource.plural}{'/' + self.sub if self.sub else ''}"
        return f"{self.verb} {label}" + (f".{self.resource.group}" if self.resource.group else "")


def _each(resource: Resource, verbs: str) -> tuple[Permission, ...]:
    return tuple(Permission(verb, resource) for verb in verbs.split())


# Rights that make reasons clearer. A comparison works without them, with less detail.
TELLING_PERMISSIONS = (*_each(kube.EVENTS, "list"), *_each(kube.QUOTAS, "list"))
PRIORITY_PERMISSIONS = (Permission("get", kube.PRIORITY_CLASSES, cluster=True),)
CANARY_PERMISSIONS = (
    *_each(kube.DEPLOYMENTS, "get list"),
    *_each(kube.JOBS, "create list delete"),
    *_each(kube.PODS, "create list watch delete"),
    Permission("get", kube.PODS, "log"),
    *_each(kube.SERVICES, "create list delete"),
)
VOLUME_PERMISSIONS = _each(kube.CLAIMS, "create list delete")
NODE_PERMISSIONS = (
    Permission("list", kube.NODES, cluster=True),
    Permission("list", kube.PODS, cluster=True),
)
PROMOTE_PERMISSIONS = (*_each(kube.DEPLOYMENTS, "get list watch patch"), *_each(kube.PODS, "list"))
KSERVE_PERMISSIONS = (*_each(kube.INFERENCE_SERVICES, "get list watch patch"), *_each(kube.PODS, "list"))
RECORD_PERMISSIONS = _each(kube.EVENTS, "create")  # a promotion is noted as an Event where that is allowed
JOB_PERMISSIONS = (*_each(kube.JOBS, "create get list watch delete"), *_each(kube.PODS, "create list"))

RBAC_HINT = "apply deploy/kubernetes, or have the permission granted; docs/kubernetes.md lists them all"


def explain(error: ApiError, doing: str) -> DraftsmithError:
    """The error for a refusal of the API server. `doing` is a phrase such as `create the canary`."""
    sentence = f"cannot {doing}: {error.message}" if error.message else f"cannot {doing}"
    text = error.message.lower()
    if error.reason == "NoConfiguration":
        return PrerequisiteError(error.message, "give a kubeconfig, or run in a pod with a service account")
    if error.status == 0:
        return BackendError(sentence, "see whether the API server answers (kubectl get --raw /readyz), then run again")
    if error.status == 401:
        return PrerequisiteError(sentence or "not logged in", "renew the credentials of the kubeconfig")
    if error.status == 403 and "quota" in text:
        return PrerequisiteError(
            sentence, "wait for other work to end, lower what is asked for, or have the quota raised"
        )
    if error.status == 403 and "podsecurity" in text:
        return PrerequisiteError(sentence, "use a namespace whose Pod Security Standard allows it; docs/kubernetes.md")
    if "admissionpolicy" in text or "admission webhook" in text:
        return PrerequisiteError(sentence, "a rule of this cluster refuses it now: ask who keeps it, and run again")
    if error.status == 403 and "priorityclass" in text:
        return PrerequisiteError(sentence, "apply deploy/kubernetes/base, or name another one in priority_class")
    if error.status == 403:
        return PrerequisiteError(sentence, RBAC_HINT)
    if error.status == 404:
        return InputError(sentence, "correct the name or the namespace")
    if error.status in (400, 422):
        return InputError(sentence, "correct what the message names")
    if error.status == 409:
        return BackendError(sentence, "somebody else changed it at the same time; run again")
    return BackendError(sentence, "run again later; finished work is kept")
