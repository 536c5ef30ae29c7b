"""Canaries come up beside the standing deployment and leave nothing behind, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal

import pytest
from fake_cluster import Fault
from world import ARMS, DRAFT, ClusterWorld, busy_pod, deployment, fate_of, service

from draftsmith.contract.errors import (
    BackendError,
    DraftsmithError,
    EngineLostError,
    EngineStartError,
    InputError,
    PrerequisiteError,
    RefusedError,
    RunInterruptedError,
)
from draftsmith.serving.canary.canaries import Canaries
from draftsmith.serving.canary.text import ArmPlan
from draftsmith.serving.kubernetes.serving import KubernetesServing


def test_arms_come_up_on_one_idle_node_and_are_gone_afterwards(world: ClusterWorld) -> None:
    with world.canaries().up("r1", ARMS) as servers:
        assert {name: server.node for name, server in servers.items()} == {"standing": "node-a", "eagle3-k3": "node-a"}
        assert servers["standing"].url == "http://ds-r1-standing.serve.svc:8000"
        assert servers["standing"].model == "target"
        job = world.cluster.get("jobs", "ds-r1-eagle3-k3")
        assert job is not None
        args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args[:5] == ["--model", "/models/base", "--port=8000", "--served-model-name", "target"]
        assert json.loads(args[6]) == DRAFT
        world.canaries().require_alive(servers)
        assert world.canaries().log(servers["standing"]) == "the engine said this\n"
    world.unchanged()
    assert not list(world.folder.glob("canaries/*"))


def test_a_dry_run_shows_the_yaml_and_writes_nothing(world: ClusterWorld) -> None:
    dry = world.canaries(allow=False)
    text = dry.plan("r1", ARMS).text()

    assert "ds-r1-standing" in text
    assert "app.kubernetes.io/managed-by: draftsmith" in text
    for act in (lambda: dry.start("r1", ARMS), lambda: dry.down("r1"), dry.sweep):
        with pytest.raises(RefusedError, match="dry run"):
            act()
    assert world.writes() == []


FATES = [
    ("pull", PrerequisiteError, "image cannot be pulled"),
    ("unplaced", PrerequisiteError, "no GPU"),
    ("crash", EngineStartError, "the engine said this"),
    ("evicted", BackendError, "low on memory"),
]


@pytest.mark.parametrize(("fate", "kind", "said"), FATES, ids=[fate for fate, _, _ in FATES])
def test_a_canary_that_does_not_come_up_is_explained_and_removed(
    world: ClusterWorld, fate: str, kind: type[DraftsmithError], said: str
) -> None:
    world.cluster.behaviour = fate_of("eagle3-k3", fate)
    canaries = world.canaries()

    def use() -> None:
        with canaries.up("r1", ARMS) as servers:
            world.cluster.step()
            canaries.require_alive(servers)  # evicted after it had been ready

    with pytest.raises((kind, EngineLostError), match=said):
        use()
    world.unchanged()


FAULTS = {
    "asked for patience": Fault("create", "jobs", 429, "TooManyRequests", "slow down", retry_after=7),
    "the answer to a create is lost": Fault("create", "jobs", late=True),
    "the answer to the Service is lost": Fault("create", "services", late=True),
    "the connection breaks": Fault("list", "services", times=2),
    "a watch is cut off": Fault("watch", "pods", times=3),
    "a watch is refused": Fault("watch", "pods", 500, "InternalError", times=2),
    "a removal is asked to wait": Fault("delete", "jobs", 429, "TooManyRequests", retry_after=1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_server_changes_nothing_of_the_end(world: ClusterWorld, fault: Fault) -> None:
    world.cluster.faults.append(fault)
    with world.canaries().up("r1", ARMS) as servers:
        assert len(servers) == 2
        assert len([key for key in world.cluster.objects if key[0] == "jobs"]) == 2
    assert fault.times == 0
    assert fault.retry_after is None or fault.retry_after in world.clock.slept
    world.unchanged()


def test_a_watch_whose_place_has_expired_begins_again(world: ClusterWorld) -> None:
    world.cluster.expired_watches = 2
    with world.canaries().up("r1", ARMS):
        assert world.cluster.expired_watches == 0
    world.unchanged()


def test_without_permission_nothing_begins(world: ClusterWorld) -> None:
    assert world.cluster.rules is not None
    world.cluster.rules = [rule for rule in world.cluster.rules if "services" not in rule["resources"]]
    with pytest.raises(PrerequisiteError, match="services") as refused:
        world.canaries().start("r1", ARMS)
    assert "deploy/kubernetes" in refused.value.next_step
    assert world.writes() == []
    world.unchanged()


def test_permission_to_create_that_is_missing_is_named_before_anything_begins(world: ClusterWorld) -> None:
    assert world.cluster.rules is not None
    world.cluster.rules = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]} for rule in world.cluster.rules
    ]
    with pytest.raises(PrerequisiteError, match=r"create jobs.batch, create pods, create services in namespace serve"):
        world.canaries().start("r1", ARMS)
    assert world.writes() == []
    world.unchanged()


def test_a_used_up_quota_is_found_by_the_dry_run(world: ClusterWorld) -> None:
    world.cluster.quota = "exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8"
    with pytest.raises(PrerequisiteError, match="exceeded quota"):
        world.canaries().start("r1", ARMS)
    assert world.writes() == []
    world.unchanged()


def test_a_quota_used_up_in_between_is_named_after_the_time_limit(world: ClusterWorld) -> None:
    def fill() -> None:
        world.cluster.quota = "exceeded quota: gpu"

    world.cluster.faults.append(Fault("create", "jobs", do=fill))
    with pytest.raises(PrerequisiteError, match="no pod of r1 appeared") as refused:
        world.canaries(start_timeout_s=60).start("r1", ARMS)
    assert "quota" in refused.value.next_step
    world.unchanged()


def test_no_idle_node_means_no_canary(world: ClusterWorld) -> None:
    world.cluster.put(busy_pod("training", "node-a", 1))
    with pytest.raises(PrerequisiteError, match=r"node-a is not idle: 1 of 4 GPUs are in use; node-s has 1 GPUs"):
        world.canaries().start("r1", ARMS)
    with pytest.raises(PrerequisiteError, match="there is no node node-z"):
        world.canaries(node="node-z").start("r1", ARMS)
    assert world.writes() == []


def test_a_label_that_the_standing_service_selects_is_refused(world: ClusterWorld) -> None:
    with pytest.raises(RefusedError, match="Service chat selects"):
        world.canaries(labels={"app": "chat"}).start("r1", ARMS)
    world.cluster.put(service("everything", {"app.kubernetes.io/managed-by": "draftsmith"}))
    with pytest.raises(RefusedError, match="Service everything selects"):
        world.canaries().start("r1", ARMS)
    assert world.writes() == []


@pytest.mark.parametrize(
    ("flags", "refused"),
    [([], True), (["--k8s-label-selector", "release=x"], False), (["--k8s-label-selector=team=a"], True)],
)
def test_a_router_that_finds_pods_by_itself_must_not_find_a_canary(
    world: ClusterWorld, flags: list[str], refused: bool
) -> None:
    router = deployment(["--service-discovery", "k8s", *flags], image="lmcache/router", command=["router"])
    router["metadata"]["name"] = "router"
    router["spec"]["selector"]["matchLabels"] = {"app": "router"}
    world.cluster.put(router)
    canaries = world.canaries(labels={"team": "a"})
    if refused:
        with pytest.raises(RefusedError, match="the router router selects"):
            canaries.plan("r1", ARMS)
    else:
        canaries.plan("r1", ARMS)


BAD = {
    "not vLLM": (deployment(["--port", "80"], image="nginx:1"), InputError, "does not run vLLM"),
    "host network": (None, RefusedError, "host's network"),
    "several pods a server": (deployment(["--model", "/models/base", "--nnodes", "2"]), RefusedError, "several pods"),
    "connected caches": (
        deployment(["--model", "/models/base", "--kv-transfer-config", "{}"]),
        RefusedError,
        "exchanges its KV cache",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_deployment_that_cannot_be_copied_is_refused_before_anything_begins(world: ClusterWorld, name: str) -> None:
    served, kind, said = BAD[name]

    def serve(item: dict[str, object]) -> None:
        if served is not None:
            item["spec"] = served["spec"]
        else:
            item["spec"]["template"]["spec"]["hostNetwork"] = True  # type: ignore[index]

    world.cluster.touch("deployments", "chat", serve)
    with pytest.raises(kind, match=said):
        world.canaries().start("r1", ARMS)
    assert world.writes() == []


def test_a_draft_that_no_volume_holds_is_found_first(world: ClusterWorld) -> None:
    arms = (ARMS[0], ArmPlan("eagle3", {**DRAFT, "model": "/home/me/draft"}))
    with pytest.raises(PrerequisiteError, match="cannot see the draft at /home/me/draft"):
        world.canaries().start("r1", arms)
    with pytest.raises(PrerequisiteError, match="cannot see the draft at /tmp/draft"):  # empty in every new pod
        world.canaries(paths={"/home/me": "/tmp"}).start("r1", arms)
    mapped = world.canaries(paths={"/home/me": "/models/drafts"}).plan("r1", arms)
    assert "/models/drafts/draft" in mapped.text()


@pytest.mark.parametrize("name", ["Chat", "chat_1", "-x", "x" * 300])
def test_a_name_that_is_none_is_refused_without_asking(world: ClusterWorld, name: str) -> None:
    with pytest.raises(InputError, match="not a name in Kubernetes"):
        world.canaries(namespace=name)
    for kind in (Canaries, KubernetesServing):
        with pytest.raises(InputError, match="not a name in Kubernetes"):
            kind(world.api, world.options(), name, world.folder)
    assert world.cluster.calls == []


def test_a_signal_removes_everything_too(world: ClusterWorld) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunInterruptedError, match="SIGTERM"), world.canaries().up("r1", ARMS):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    world.unchanged()


def test_a_signal_while_they_come_up_removes_them(world: ClusterWorld) -> None:
    def ask_to_stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    world.cluster.faults.append(Fault("watch", "pods", do=ask_to_stop))
    with pytest.raises(RunInterruptedError):
        world.canaries().start("r1", ARMS)
    world.unchanged()


def test_what_a_killed_process_left_is_swept_by_the_next(world: ClusterWorld) -> None:
    world.canaries().start("r1", ARMS)  # never taken down: as if the process had been killed
    [note] = world.folder.glob("canaries/*.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "pid": 2**22 + 1}))
    with world.canaries().up("r2", ARMS):
        assert world.cluster.get("jobs", "ds-r1-standing") is None
    world.unchanged()


def test_canaries_of_another_living_run_are_left_alone_until_their_lifetime_ends(world: ClusterWorld) -> None:
    world.canaries().start("r1", ARMS)
    assert world.canaries().sweep() == []
    assert world.cluster.get("jobs", "ds-r1-standing") is not None
    world.clock.advance(4 * 3600 + 1)
    assert "Job/ds-r1-standing" in world.canaries().sweep()
    world.unchanged()


def test_a_removal_that_hangs_is_reported_and_remembered(world: ClusterWorld) -> None:
    canaries = world.canaries(removal_timeout_s=60)
    canaries.start("r1", ARMS)
    for (plural, _, name), item in list(world.cluster.objects.items()):
        if plural == "pods" and name.startswith("ds-"):
            item["metadata"]["finalizers"] = ["example.com/wait"]
    with pytest.raises(BackendError, match="could not be removed within 60 s"):
        canaries.down("r1")
    assert list(world.folder.glob("canaries/r1.json"))
    for item in world.cluster.objects.values():
        item["metadata"].pop("finalizers", None)
    world.canaries().down("r1")
    world.unchanged()


def test_the_volume_claim_goes_last_and_only_on_request(world: ClusterWorld) -> None:
    assert world.cluster.rules is not None
    claims = {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "list", "delete"]}
    world.cluster.rules.append(claims)
    canaries = world.canaries(staging_gib=10)
    with canaries.up("r1", ARMS):
        pass
    assert world.cluster.get("persistentvolumeclaims", "ds-r1-staging") is not None
    assert canaries.down("r1", volumes=True) == ["PersistentVolumeClaim/ds-r1-staging"]
    world.unchanged()


def test_bare_pods_for_a_cluster_that_slurm_schedules(world: ClusterWorld) -> None:
    options = {"workload": "pod", "scheduler": "slurm", "slurm_annotations": {"partition": "gpu"}}
    with world.canaries(**options).up("r1", ARMS):
        pod = world.cluster.get("pods", "ds-r1-standing")
        assert pod is not None
        assert pod["spec"]["schedulerName"] == "slurm-bridge-scheduler"
        marks = pod["metadata"]["annotations"]
        assert marks["slurmjob.slinky.slurm.net/partition"] == "gpu"
        assert marks["slurmjob.slinky.slurm.net/timelimit"] == "240"
    world.unchanged()
