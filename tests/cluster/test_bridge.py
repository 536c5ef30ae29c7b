"""Who places the pods of a cluster: asked of its API server, within a time limit, and never fatal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_clock import FakeClock
from fake_cluster import FakeCluster, Fault, Object
from world import ClusterWorld, connect, node

from draftsmith.api.cluster import place_text
from draftsmith.api.places import place_jobs
from draftsmith.backends.detect import choose, look
from draftsmith.backends.kubernetes_detect import find_bridge
from draftsmith.contract.config import parse_config
from draftsmith.serving.kubernetes.nodes import is_usable

TAINT = {"key": "slinky.slurm.net/managed-node", "value": "slurm-bridge-scheduler", "effect": "NoExecute"}


def scheduler() -> Object:
    """The Deployment that slurm-bridge's chart makes."""
    labels = {"app.kubernetes.io/name": "slurm-bridge-scheduler", "app.kubernetes.io/component": "scheduler"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "scheduler", "image": "x"}]}}
    meta = {"name": "slurm-bridge-scheduler", "namespace": "slinky", "labels": labels}
    return {"kind": "Deployment", "metadata": meta, "spec": {"replicas": 1, "template": template}}


def tainted(name: str) -> Object:
    made = node(name)
    made["spec"]["taints"] = [TAINT]
    return made


def operator() -> Object:
    """slurm-operator runs Slurm in pods, and places none."""
    made = scheduler()
    made["metadata"] |= {"name": "slurm-operator", "labels": {"app.kubernetes.io/name": "slurm-operator"}}
    return made


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    made = FakeCluster(clock=FakeClock())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([scheduler(), tainted("a")], ("Deployment slinky/slurm-bridge-scheduler",)),
        ([tainted("a"), tainted("b"), node("c")], ("2 nodes with the taint slinky.slurm.net/managed-node=slurm-bridge-scheduler",)),
        ([operator(), node("c")], ()),
    ],
)  # fmt: skip
def test_its_scheduler_or_its_taint_say_that_it_is_there(
    cluster: FakeCluster, there: list[Object], found: tuple[str, ...]
) -> None:
    for item in there:
        cluster.put(item)

    seen = find_bridge(connect=lambda: connect(cluster, cluster.clock))

    assert (seen.objects, seen.says) == (found, "")
    assert {call.verb for call in cluster.calls} == {"list"}


def test_the_nodes_tell_where_other_namespaces_may_not_be_looked_at(world: ClusterWorld) -> None:
    """Under the Roles of deploy/: nodes may be listed, Deployments of the whole cluster may not."""
    world.cluster.put(scheduler())
    world.cluster.put(tainted("node-b"))

    assert find_bridge(connect=lambda: world.api).objects[0].startswith("1 nodes with the taint")


def kubeconfig(folder: Path, server: str, user: dict[str, Any] | None = None) -> str:
    value = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "sesame"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(value))
    return str(folder / "kubeconfig")


def forbidden(cluster: FakeCluster) -> None:
    cluster.rules = []


def away(cluster: FakeCluster) -> None:
    cluster.faults.append(Fault("list", "deployments", times=50))


def troubled(cluster: FakeCluster) -> None:
    cluster.faults.append(Fault("list", "deployments", 500, "InternalError", "etcd is away", times=50))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (forbidden, "may not list deployments.apps and nodes"),
        (away, "was not answered"),
        (troubled, "etcd is away"),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_said_and_is_not_fatal(
    cluster: FakeCluster, tmp_path: Path, trouble: Callable[[FakeCluster], None], said: str
) -> None:
    trouble(cluster)
    options = {"kubeconfig": kubeconfig(tmp_path, cluster.url)}

    choice = choose("kubernetes", None, ("local", "auto"), lambda: look({}, options))

    assert (choice.kind, choice.scheduler) == ("kubernetes", "kubernetes")
    assert "could not be found out" in choice.why
    assert said in place_text(choice)
    assert "--scheduler slurm-on-kubernetes" in place_text(choice)


def test_one_refusal_that_passes_is_asked_again(cluster: FakeCluster) -> None:
    cluster.put(scheduler())
    cluster.faults.append(Fault("list", "deployments", 429, "TooManyRequests", retry_after=1))

    assert find_bridge(connect=lambda: connect(cluster, cluster.clock)).objects


def test_a_server_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = kubeconfig(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert find_bridge(path, limit_s=0.05).says


def test_a_login_that_waits_for_somebody_is_given_up_in_time() -> None:
    asked = threading.Event()

    def plug_in() -> Any:
        asked.wait(60)
        raise AssertionError("nobody is waiting any more")

    try:
        assert find_bridge(limit_s=0.05, connect=plug_in).says == "the API server did not answer within 0.05 s"
    finally:
        asked.set()


def test_a_kubeconfig_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("")

    assert "no cluster is configured" in find_bridge(str(tmp_path / "kubeconfig")).says


def test_the_jobs_go_where_the_cluster_says(cluster: FakeCluster, tmp_path: Path) -> None:
    """From the command's words to the pods: nobody named a scheduler."""
    from draftsmith import wiring
    from draftsmith.contract.job import JobSpec

    cluster.put(scheduler())
    options = {
        "kubeconfig": kubeconfig(tmp_path, cluster.url), "image": "draftsmith:1",
        "volumes": [{"claim": "ws", "mount_path": str(tmp_path)}],
    }  # fmt: skip
    config = parse_config({"backend": {"kind": "kubernetes", "options": options}})

    config, choice = place_jobs(config, None, None)

    assert choice.scheduler == "slurm-on-kubernetes"
    assert "Deployment slinky/slurm-bridge-scheduler" in place_text(choice)
    backend = wiring.kubernetes_backend(config, tmp_path / "state")
    text = backend.plan_text(JobSpec(name="r1.train", argv=("python",), workdir=str(tmp_path / "r1")))  # type: ignore[attr-defined]
    assert "schedulerName: slurm-bridge-scheduler" in text


def test_the_same_words_are_the_same_request_whatever_is_seen(cluster: FakeCluster, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster.url)
    before = choose("kubernetes", None, ("local", "auto"), lambda: look({}, {"kubeconfig": path}))
    cluster.put(scheduler())
    after = choose("kubernetes", None, ("local", "auto"), lambda: look({}, {"kubeconfig": path}))

    assert before.scheduler != after.scheduler
    assert before.requested == after.requested == ("kubernetes", "auto")


def test_a_node_of_the_bridge_takes_its_pods_and_no_others(world: ClusterWorld) -> None:
    bridged = tainted("b") | {"status": node("b")["status"]}
    other = {"key": "maintenance", "effect": "NoSchedule"}

    assert is_usable(bridged, world.options()) == "has the taint slinky.slurm.net/managed-node"
    assert is_usable(bridged, world.options(scheduler="slurm")) is None
    bridged["spec"]["taints"].append(other)
    assert is_usable(bridged, world.options(scheduler="slurm")) == "has the taint maintenance"
