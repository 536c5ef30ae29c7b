"""What was met on a real control plane: each ends as it should, with the reason, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Fault, Object
from world import ARMS, DRAFT, ClusterWorld, deployment

from draftsmith.backends.kubernetes_judge import Evidence, judge, living
from draftsmith.contract.errors import EngineLostError, InputError, PrerequisiteError, RefusedError
from draftsmith.contract.pods import view
from draftsmith.kit.kube import JOBS, PODS, ApiError, Selection
from draftsmith.serving.canary.canaries import Canaries

NO_ROLES = 'pods is forbidden: User "x" cannot list: RBAC: clusterrole.rbac.authorization.k8s.io "draftsmith" not found'


def event(about: str, reason: str, message: str, kind: str = "Warning") -> Object:
    meta = {"name": f"{about}.{reason.lower()}", "namespace": "serve"}
    return {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": {"name": about, "namespace": "serve"},
            "reason": reason, "message": message, "type": kind, "lastTimestamp": "2026-01-01T00:00:00Z"}  # fmt: skip


@pytest.mark.parametrize("verb", ["list", "delete"])
def test_a_server_that_has_not_read_its_roles_leaves_no_canary_on_a_gpu(world: ClusterWorld, verb: str) -> None:
    with world.canaries().up("r1", ARMS):
        for plural in ("jobs", "pods"):
            world.cluster.faults.append(Fault(verb, plural, 403, "Forbidden", NO_ROLES, times=4))
    world.unchanged()


def test_it_is_waited_for_in_a_watch_and_in_a_review_too(world: ClusterWorld) -> None:
    world.cluster.faults.append(Fault("watch", "pods", 403, "Forbidden", NO_ROLES, times=2))
    with world.canaries().up("r1", ARMS) as servers:
        assert len(servers) == 2


def test_a_refusal_without_a_word_of_roles_passes_where_the_server_was_just_away(world: ClusterWorld) -> None:
    world.cluster.faults += [Fault("get", "deployments"), Fault("get", "deployments", 403, "Forbidden", "no")]
    assert world.serving().current() is None


def test_a_right_that_was_taken_away_is_said_after_a_while_and_remembered(world: ClusterWorld) -> None:
    with pytest.raises(PrerequisiteError, match="cannot remove the canaries"), world.canaries().up("r1", ARMS):
        world.cluster.faults.append(Fault("delete", "jobs", 403, "Forbidden", "no", times=1000))
    assert list(world.folder.glob("canaries/*.json"))


POLICIES = {
    "a policy": (422, "Invalid", "ValidatingAdmissionPolicy 'freeze' with binding 'b' denied request: change freeze until Monday"),
    "a rule of the API": (422, "Invalid", 'Deployment.apps "chat" is invalid: spec.template: too long'),
    "a webhook": (403, "Forbidden", 'admission webhook "x.example.com" denied the request: change freeze until Monday'),
}  # fmt: skip


@pytest.mark.parametrize("case", POLICIES)
def test_what_refuses_a_patch_is_quoted_and_not_called_a_conflict(world: ClusterWorld, case: str) -> None:
    status, reason, message = POLICIES[case]
    world.cluster.faults.append(Fault("patch", "deployments", status, reason, message, times=99))
    with pytest.raises((InputError, PrerequisiteError)) as refused:
        world.serving().switch(None, DRAFT)
    assert message in refused.value.message
    assert "keeps changing" not in refused.value.message
    assert world.cluster.faults[0].times >= 98
    world.unchanged()


def test_another_workspace_keeps_its_canaries_of_the_same_name(world: ClusterWorld, tmp_path: Path) -> None:
    second = Canaries(world.api, world.options(), "chat", tmp_path / "second", allow_cluster=True)
    with world.canaries().up("canary", ARMS) as servers:
        before = world.cluster.holds()
        with pytest.raises(RefusedError, match="another workspace"):
            second.start("canary", ARMS)
        assert second.down("canary") == []
        assert world.settled() == before
        world.canaries().require_alive(servers)
    world.unchanged()


def test_only_what_is_past_its_lifetime_is_swept(world: ClusterWorld, tmp_path: Path) -> None:
    second = Canaries(world.api, world.options(lifetime_s=60), "chat", tmp_path / "second", allow_cluster=True)
    second.start("other", ARMS)
    free = {"check_node": False, "node": "node-a"}
    with world.canaries(**free).up("r1", ARMS) as servers:
        world.clock.advance(120)
        assert any("other" in name for name in world.canaries().sweep())
        world.canaries().require_alive(servers)
    world.unchanged()


def test_a_preempted_canary_is_told_as_preempted(world: ClusterWorld) -> None:
    canaries = world.canaries()
    with canaries.up("r1", ARMS) as servers:
        pod = servers["standing"].pod
        world.cluster.put(event(pod, "Preempted", "Preempted by pod chat-2 on node node-a", "Normal"))
        world.cluster.touch("pods", pod, lambda item: item["metadata"].update(labels={}))
        with pytest.raises(EngineLostError, match="Preempted by pod chat-2"):
            canaries.require_alive(servers)
    said = view({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                                            "message": "to accommodate a higher priority pod"}]}})  # fmt: skip
    assert "PreemptionByScheduler: to accommodate" in said.detail


def test_canaries_give_way_to_everything_where_the_class_is_there(world: ClusterWorld) -> None:
    def spec() -> Object:
        return dict(world.canaries(allow=False).plan("r1", ARMS).arms[0].workload["spec"]["template"]["spec"])

    assert "priorityClassName" not in spec()
    meta = {"name": "draftsmith-canary"}
    world.cluster.put({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": meta, "value": -10})
    assert spec()["priorityClassName"] == "draftsmith-canary"
    with world.canaries().up("r1", ARMS):
        pass
    with pytest.raises(PrerequisiteError, match="no PriorityClass with name nowhere"):
        world.canaries(priority_class="nowhere").start("r1", ARMS)


def test_a_queue_that_holds_a_job_back_is_named(world: ClusterWorld) -> None:
    world.cluster.suspends = True
    queue = {"kueue.x-k8s.io/queue-name": "research"}
    with pytest.raises(PrerequisiteError, match="queue research has not admitted it"):
        world.canaries(labels=queue).start("r1", ARMS)
    assert sum(world.clock.slept) < 400, "not the whole start_timeout_s"
    world.unchanged()


def test_a_quota_without_room_for_both_arms_is_found_before_anything_starts(world: ClusterWorld) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team", "namespace": "serve"},
             "spec": {"hard": {"requests.nvidia.com/gpu": "3"}},
             "status": {"hard": {"requests.nvidia.com/gpu": "3"}, "used": {"requests.nvidia.com/gpu": "2"}}}  # fmt: skip
    world.cluster.put(quota)
    with pytest.raises(
        PrerequisiteError, match=r"quota team has 1 of requests.nvidia.com/gpu left, and the arms need 2"
    ):
        world.canaries().start("r1", ARMS)
    assert world.writes() == []


def test_a_volume_that_cannot_be_attached_is_named(world: ClusterWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cluster.behaviour = lambda pod: "attach"
    world.cluster.on_pod = lambda pod: event(
        pod["metadata"]["name"], "FailedAttachVolume", "Multi-Attach error for pvc-1"
    )
    with pytest.raises(PrerequisiteError, match="Multi-Attach error"):
        world.canaries().start("r1", ARMS)
    assert sum(world.clock.slept) < 400


STILL: dict[str, tuple[Callable[[Object], Any], str]] = {
    "paused": (lambda item: item["spec"].update(paused=True), "paused"),
    "scaled to zero": (lambda item: item["spec"].update(replicas=0), "scaled to zero"),
}


@pytest.mark.parametrize("case", STILL)
def test_an_object_that_would_start_no_pod_is_not_patched(tmp_path: Path, case: str) -> None:
    change, said = STILL[case]
    served = deployment()
    change(served)
    world = ClusterWorld(tmp_path, served)
    try:
        for act in (world.serving().check, lambda: world.serving().switch(None, DRAFT)):
            with pytest.raises(RefusedError, match=said):
                act()
        assert world.writes() == []
    finally:
        world.close()


def test_a_job_removed_by_somebody_is_lost_and_a_suspended_one_waits() -> None:
    gone = judge(Evidence(None, None, None, -15, cancelled=False, settled=True))
    assert (gone.state, "removed by somebody" in gone.detail) == ("LOST", True)
    job = {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}, "spec": {"suspend": True}}
    assert "queue q has not admitted it" in living(job, None, 10.0, 300.0).detail


WRONG: dict[str, tuple[Any, Callable[[Object], Any], int]] = {
    "restartPolicy Always": (JOBS, lambda i: i["spec"]["template"]["spec"].update(restartPolicy="Always"), 422),
    "an unknown field": (JOBS, lambda i: i["spec"].update(nonsense=1), 400),
    "numbers as arguments": (PODS, lambda i: i["spec"]["containers"][0].update(args=[1]), 400),
    "an undefined claim": (PODS, lambda i: i["spec"]["containers"][0]["resources"].update(claims=[{"name": "g"}]), 422),
    "a request without a limit": (PODS, lambda i: i["spec"]["containers"][0].update(resources={"requests": {"nvidia.com/gpu": "1"}}), 422),
    "a long label": (PODS, lambda i: i["metadata"]["labels"].update(x="y " * 40), 422),
    "a volume that is not there": (PODS, lambda i: i["spec"]["containers"][0]["volumeMounts"].append({"name": "no", "mountPath": "/x"}), 422),
    "a privileged pod": (PODS, lambda i: i["spec"]["containers"][0]["securityContext"].update(privileged=True), 403),
    "a namespace that is not there": (PODS, lambda i: i["metadata"].update(namespace="nowhere"), 404),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_the_tests_server_refuses_what_a_real_one_refuses(world: ClusterWorld, case: str) -> None:
    resource, change, status = WRONG[case]
    world.cluster.restricted = frozenset({"serve"})
    arm = world.canaries(allow=False).plan("r1", ARMS).arms[0]
    from draftsmith.serving.canary.text import pod_of

    body = pod_of(arm) if resource == PODS else arm.workload
    world.api.create(resource, "serve", body, dry_run=True)
    change(body)
    world.cluster.rules = None
    with pytest.raises(ApiError) as refused:
        world.api.create(resource, body["metadata"]["namespace"], body)
    assert refused.value.status == status
    world.unchanged()


PATCHES = {
    "the selector": ("/spec/selector/matchLabels", {"app": "x"}),
    "labels that do not match": ("/spec/template/metadata/labels", {"app": "x"}),
    "the uid": ("/metadata/uid", "other"),
    "numbers as arguments": ("/spec/template/spec/containers/0/args", [1]),
}


@pytest.mark.parametrize("case", PATCHES)
def test_the_tests_server_refuses_patches_that_a_real_one_refuses(world: ClusterWorld, case: str) -> None:
    from draftsmith.kit.kube import DEPLOYMENTS

    path, value = PATCHES[case]
    with pytest.raises(ApiError) as refused:
        world.api.patch(DEPLOYMENTS, "serve", "chat", [{"op": "replace", "path": path, "value": value}])
    assert refused.value.status in (400, 422)
    world.unchanged()


def test_the_tests_server_reads_selectors_as_a_real_one(world: ClusterWorld) -> None:
    from draftsmith.kit.kube import DEPLOYMENTS, NODES

    def names(resource: Any, namespace: str | None, **select: str) -> list[str]:
        return [i["metadata"]["name"] for i in world.api.list(resource, namespace, Selection(**select)).items]

    world.cluster.rules = None
    assert names(DEPLOYMENTS, "serve", labels="app in (chat, other)") == ["chat"]
    assert names(DEPLOYMENTS, "serve", labels="app notin (chat),!x") == []
    assert names(DEPLOYMENTS, "serve", labels="app") == ["chat"]
    assert names(NODES, None, labels="kubernetes.io/hostname!=node-a") == ["node-s"]
    assert len(names(PODS, None, fields="status.phase!=Failed")) == len(names(PODS, None))
    for select in ({"fields": "nonsense=1"}, {"labels": "a in b"}):
        with pytest.raises(ApiError) as refused:
            names(DEPLOYMENTS, "serve", **select)
        assert refused.value.status == 400
    with world.canaries().up("r1", ARMS) as servers, pytest.raises(ApiError) as missing:
        world.api.log("serve", servers["standing"].pod, "nobody")
    assert missing.value.status == 400
