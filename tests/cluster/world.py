"""A cluster with a served model in it, and an operator's client."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fake_clock import FakeClock
from fake_cluster import FakeCluster, Object
from kubernetes import client

from draftsmith.kit.clock import Clock
from draftsmith.kit.kube import KubeApi
from draftsmith.serving.canary.canaries import Canaries
from draftsmith.serving.canary.text import ArmPlan
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.serving import KubernetesServing

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
NGRAM = {"method": "ngram", "num_speculative_tokens": 3}
DRAFT = {"method": "eagle3", "model": "/models/drafts/r1", "num_speculative_tokens": 3}
ARMS = (ArmPlan("standing", None), ArmPlan("eagle3-k3", DRAFT))
ROLE_FILES = {"role-canary.yaml": False, "role-promote.yaml": False, "role-nodes.yaml": True}


def deployment(args: list[str] | None = None, **container: Any) -> Object:
    """A served model: vLLM's own image, a volume claim with models, one GPU, a label its Service selects."""
    server = {
        "name": "vllm", "image": "vllm/vllm-openai:v0.32.0",
        "args": args or ["--model", "/models/base", "--port=8000", "--served-model-name", "target"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}}, "ports": [{"containerPort": 8000}],
        "env": [{"name": "HF_HOME", "value": "/models/hf"}], "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    } | container  # fmt: skip
    labels = {"app": "chat"}
    spec = {"containers": [server], "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": "serve", "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
                 "template": {"metadata": {"labels": labels}, "spec": spec}},
    }  # fmt: skip


def service(name: str = "chat", selector: dict[str, str] | None = None) -> Object:
    ports = [{"port": 80, "targetPort": 8000}]
    spec = {"selector": selector or {"app": "chat"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "serve"}, "spec": spec}


def node(name: str, gpus: int = 4) -> Object:
    return {
        "apiVersion": "v1", "kind": "Node", "spec": {},
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}, "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def busy_pod(name: str, on: str, gpus: int) -> Object:
    container = {"name": "x", "image": "x", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "other"},
        "spec": {"nodeName": on, "containers": [container]}, "status": {"phase": "Running"},
    }  # fmt: skip


@cache
def rules() -> tuple[Object, ...]:
    """The rules of deploy/kubernetes; those that hold in all namespaces are marked."""
    found = []
    for name, everywhere in ROLE_FILES.items():
        for item in yaml.safe_load_all((DEPLOY / "base" / name).read_text()):
            for rule in item.get("rules") or ():
                names = [n.replace("SERVED-DEPLOYMENT", "chat") for n in rule.get("resourceNames", ())]
                found.append(rule | {"cluster": everywhere} | ({"resourceNames": names} if names else {}))
    return tuple(found)


def connect(cluster: FakeCluster, clock: Clock) -> KubeApi:
    """A client as `kit.kube.connect` makes it, without a kubeconfig."""
    configuration = client.Configuration()
    configuration.host = cluster.url
    return KubeApi(client.ApiClient(configuration), clock=clock, timeout_s=10)


class ClusterWorld:
    """One served deployment `chat` in namespace `serve`, two nodes, the Roles of deploy/ in force."""

    def __init__(self, folder: Path, served: Object | None = None) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.cluster = FakeCluster(clock=self.clock, rules=list(rules()))
        for item in (node("node-a"), node("node-s", 1), service(), served or deployment()):
            self.cluster.put(copy.deepcopy(item))
        self.api = connect(self.cluster, self.clock)
        self.before = self.cluster.holds()

    def options(self, **changes: Any) -> ServingOptions:
        return ServingOptions.model_validate({"namespace": "serve"} | changes)

    def canaries(self, *, allow: bool = True, **changes: Any) -> Canaries:
        return Canaries(self.api, self.options(**changes), "chat", self.folder, allow_cluster=allow)

    def serving(self, *, allow: bool = True, **changes: Any) -> KubernetesServing:
        return KubernetesServing(self.api, self.options(**changes), "chat", self.folder, allow_cluster=allow)

    def args(self) -> list[str]:
        found = self.cluster.get("deployments", "chat")
        assert found is not None
        args: list[str] = found["spec"]["template"]["spec"]["containers"][0]["args"]
        return args

    def unchanged(self) -> None:
        """The cluster holds exactly what it held before."""
        assert self.settled() == self.before

    def only_args_differ(self, args: list[str]) -> None:
        """The cluster holds what it held before, but for the arguments of the served container and of its pods."""
        assert self.settled() == served_with(self.before, lambda spec: spec["containers"][0].update(args=args))

    def settled(self) -> dict[str, Any]:
        """What the cluster holds, once what is on its way out had the time to go."""
        for _ in range(6):
            self.cluster.step()
        return self.cluster.holds()

    def writes(self) -> list[str]:
        return [f"{c.verb} {c.plural}" for c in self.cluster.calls
                if c.verb in ("create", "patch", "delete") and not c.dry and c.plural != "selfsubjectaccessreviews"]  # fmt: skip

    def close(self) -> None:
        self.cluster.close()


def served_with(held: dict[str, Any], change: Callable[[Object], object]) -> dict[str, Any]:
    """What a cluster held, with another pod spec of the served deployment, which its pods follow."""
    expected = copy.deepcopy(held)
    for spec in (expected["deployments/serve/chat"]["template"]["spec"], *expected["pods/serve/of Deployment chat"]):
        change(spec)
    return expected


def fate_of(arm: str, fate: str) -> Callable[[Object], str]:
    """The pods of one arm come to this end, all others are well."""
    return lambda pod: fate if pod["metadata"]["labels"].get("draftsmith.dev/arm", "").startswith(arm) else "ready"
