"""A promotion changes the arguments of one container, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cluster import Fault, Object
from world import ARMS, DEPLOY, DRAFT, NGRAM, ClusterWorld, busy_pod, deployment, node

from draftsmith.contract.errors import BackendError, InputError, PrerequisiteError, RefusedError
from draftsmith.serving.canary.text import ArmPlan


@pytest.fixture
def spare(world: ClusterWorld) -> ClusterWorld:
    """There is a GPU free for a rolling update: node-a has four."""
    return world


def new_args(world: ClusterWorld, config: dict[str, Any] | None) -> list[str]:
    before: list[str] = world.before["deployments/serve/chat"]["template"]["spec"]["containers"][0]["args"]
    if config is None:
        return before
    return [*before, "--speculative-config", json.dumps(config, sort_keys=True, separators=(",", ":"))]


def test_a_switch_patches_the_arguments_and_waits_for_the_new_pods(spare: ClusterWorld) -> None:
    serving = spare.serving()
    assert serving.current() is None

    serving.switch(None, DRAFT)

    assert serving.current() == DRAFT
    spare.only_args_differ(new_args(spare, DRAFT))
    found = spare.cluster.get("deployments", "chat")
    assert found is not None
    assert found["status"]["availableReplicas"] == 1
    serving.switch(None, DRAFT)  # again: it is there
    assert spare.writes() == ["patch deployments", "create events"]
    [told] = [item for key, item in spare.cluster.objects.items() if key[0] == "events"]
    assert (told["reason"], told["involvedObject"]["name"]) == ("DraftPromoted", "chat")


def test_a_rollback_puts_back_the_very_words(tmp_path: Path) -> None:
    odd = [
        "--model=/models/base",
        "--speculative_config",
        '{"num_speculative_tokens": 3,  "method": "ngram"}',
        "--port",
        "8000",
    ]
    world = ClusterWorld(tmp_path / "state", deployment(odd))
    serving = world.serving()
    serving.switch(NGRAM, DRAFT)
    assert world.args() == ["--model=/models/base", "--port", "8000", "--speculative-config", world.args()[-1]]

    serving.switch(DRAFT, NGRAM)

    assert world.args() == odd
    world.unchanged()
    world.close()


def normed_draft(folder: Path, says: bool) -> dict[str, Any]:
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLMEagle3"], "norm_before_residual": says})
    )
    return {"method": "eagle3", "model": str(folder), "num_speculative_tokens": 3}


def test_a_draft_that_sglang_reads_wrongly_is_refused_before_it_is_trained_copied_or_promoted(tmp_path: Path) -> None:
    words = ["python3", "-m", "sglang.launch_server", "--model-path", "/models/base", "--port", "8000"]
    world = ClusterWorld(tmp_path / "state", deployment(words, image="lmsysorg/sglang:v0.5.17"))
    draft, plain = normed_draft(tmp_path / "d", True), normed_draft(tmp_path / "p", False)
    arms = [ArmPlan("standing", None), ArmPlan("draft", draft)]
    for refused in (
        lambda: world.serving().check({"norm_before_residual": True}),
        lambda: world.serving().switch(None, draft),
        lambda: world.serving().plan_text(None, draft),
        lambda: world.canaries().plan("r1", arms, check=False),
    ):
        with pytest.raises(RefusedError, match="SGLANG_EXTERNAL_MODEL_PACKAGE") as told:
            refused()
        assert "trainer.norm_before_residual = false" in (told.value.next_step or "")
    world.unchanged()
    world.serving().check({"norm_before_residual": False})
    assert "/p" in world.serving().plan_text(None, plain)
    world.close()


@pytest.mark.parametrize("how", ["env", "script", "vllm"])
def test_a_deployment_that_names_a_model_class_may_have_such_a_draft(tmp_path: Path, how: str) -> None:
    server = "python3 -m sglang.launch_server --model-path /models/base --port 8000"
    words = {
        "env": server.split(),
        "script": [f"SGLANG_EXTERNAL_MODEL_PACKAGE=ours {server}"],
        "vllm": ["vllm", "serve", "/models/base", "--port", "8000"],
    }[how]
    item = deployment(words, image="lmsysorg/sglang:v0.5.17")
    container = item["spec"]["template"]["spec"]["containers"][0]
    if how == "script":
        container["command"] = ["sh", "-c"]
    if how == "env":
        container["env"] = [*(container.get("env") or []), {"name": "SGLANG_EXTERNAL_MODEL_PACKAGE", "value": "ours"}]
    world = ClusterWorld(tmp_path / "state", item)
    world.serving().check({"norm_before_residual": True})
    assert str(tmp_path / "d") in world.serving().plan_text(None, normed_draft(tmp_path / "d", True))
    world.close()


def test_sglang_is_copied_patched_and_rolled_back_in_its_own_flags(tmp_path: Path) -> None:
    words = ["python3", "-m", "sglang.launch_server", "--model-path", "/models/base", "--port", "8000"]
    world = ClusterWorld(tmp_path / "state", deployment(words, image="lmsysorg/sglang:v0.5.17"))
    drafted = ["--speculative-algorithm", "EAGLE3", "--speculative-draft-model-path", DRAFT["model"]]
    drafted += ["--speculative-num-steps", "3", "--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", "4"]
    with world.canaries().up("r1", ARMS) as servers:
        assert {server.engine for server in servers.values()} == {"sglang"}
        job = world.cluster.get("jobs", "ds-r1-eagle3-k3")
        assert job is not None
        args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args == [*words, *drafted, "--enable-metrics"], "a copy is counted, whether what serves is or not"
    serving = world.serving()
    serving.switch(None, DRAFT)
    assert world.args() == [*words, *drafted]
    assert serving.current() == DRAFT
    serving.switch(DRAFT, None)
    world.unchanged()
    world.close()


def test_a_dry_run_shows_the_patch_with_the_old_value_as_its_condition(world: ClusterWorld) -> None:
    dry = world.serving(allow=False)
    [operations] = yaml.safe_load_all(dry.plan_text(None, DRAFT))

    assert [op["op"] for op in operations] == ["test", "test", "replace"]
    assert operations[1]["value"] == world.args()
    assert operations[2]["path"] == "/spec/template/spec/containers/0/args"
    with pytest.raises(RefusedError, match="dry run"):
        dry.switch(None, DRAFT)
    world.unchanged()


@pytest.mark.parametrize("fate", ["pull", "unplaced", "late", "never"])
def test_a_rollout_that_fails_is_taken_back(spare: ClusterWorld, fate: str) -> None:
    def rollout(item: Object) -> str:
        return fate if "--speculative-config" in item["spec"]["template"]["spec"]["containers"][0]["args"] else "ready"

    spare.cluster.rollout = rollout
    with pytest.raises(BackendError, match=r"taken back .*; the old configuration serves"):
        spare.serving(rollout_timeout_s=100).switch(None, DRAFT)

    spare.unchanged()
    assert spare.serving().current() is None


def test_a_status_update_in_between_is_no_change(spare: ClusterWorld) -> None:
    def touch() -> None:
        spare.cluster.touch("deployments", "chat", lambda item: item.setdefault("status", {}).update(note=1))

    spare.cluster.faults.append(Fault("patch", "deployments", do=touch, times=2))
    spare.cluster.faults.append(Fault("patch", "deployments", 409, "Conflict", "the object has been modified"))
    spare.serving().switch(None, DRAFT)
    assert [fault.times for fault in spare.cluster.faults] == [0, 0]
    spare.only_args_differ(new_args(spare, DRAFT))


def test_a_deployment_changed_behind_our_back_is_left_alone(spare: ClusterWorld) -> None:
    def add_flag(item: Object) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["args"].append("--enforce-eager")

    spare.cluster.faults.append(
        Fault("patch", "deployments", do=lambda: spare.cluster.touch("deployments", "chat", add_flag))
    )
    with pytest.raises(RefusedError, match="changed by somebody else"):
        spare.serving().switch(None, DRAFT)
    spare.only_args_differ([*new_args(spare, None), "--enforce-eager"])


def test_something_else_serving_than_was_compared_is_refused(world: ClusterWorld) -> None:
    with pytest.raises(RefusedError, match="another configuration"):
        world.serving().switch(NGRAM, DRAFT)
    world.unchanged()
    assert world.writes() == []


LOST = {
    "the answer to the patch is lost": Fault("patch", "deployments", late=True),
    "asked for patience": Fault("patch", "deployments", 429, "TooManyRequests", retry_after=3),
    "watches are cut off": Fault("watch", "deployments", times=3),
    "the server is away for a while": Fault("list", "deployments", 503, "ServiceUnavailable", times=9),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_fault_of_the_server_changes_nothing_of_the_end(spare: ClusterWorld, fault: Fault) -> None:
    spare.cluster.faults.append(fault)
    spare.serving().switch(None, DRAFT)
    assert fault.times == 0
    spare.only_args_differ(new_args(spare, DRAFT))


def test_killed_during_the_rollout_the_next_start_sees_it_through(spare: ClusterWorld) -> None:
    spare.cluster.rollout = lambda item: "never"
    spare.cluster.faults.append(Fault("list", "deployments", 403, "Forbidden", "no", times=1))
    with pytest.raises(BackendError, match="follow the rollout"):
        spare.serving().switch(None, DRAFT)
    with pytest.raises(BackendError, match="taken back"):
        spare.serving(rollout_timeout_s=50).switch(None, DRAFT)
    assert spare.args() == new_args(spare, None)


@pytest.mark.parametrize(("verb", "plural"), [("patch", "deployments"), ("watch", "deployments"), ("list", "pods")])
def test_with_a_right_missing_nothing_is_patched(world: ClusterWorld, verb: str, plural: str) -> None:
    assert world.cluster.rules is not None
    world.cluster.rules = [
        rule | {"verbs": [each for each in rule["verbs"] if each != verb]}
        for rule in world.cluster.rules
        if not rule["cluster"] and plural in rule["resources"]
    ] + [rule for rule in world.cluster.rules if rule["cluster"] or plural not in rule["resources"]]
    if plural == "pods":  # a right in all namespaces is one in this
        world.cluster.rules = [rule for rule in world.cluster.rules if not rule["cluster"]]
    with pytest.raises(PrerequisiteError, match=f"may not {verb} {plural}") as refused:
        world.serving(check_room=False).switch(None, DRAFT)
    assert "deploy/kubernetes" in refused.value.next_step
    assert world.writes() == []
    world.unchanged()


def test_a_rolling_update_without_a_spare_gpu_is_refused(world: ClusterWorld) -> None:
    world.cluster.put(busy_pod("training", "node-a", 4))
    with pytest.raises(RefusedError, match="would wait for ever") as refused:
        world.serving().switch(None, DRAFT)
    assert "Recreate" in refused.value.next_step
    assert world.writes() == []

    def allow_one_down(item: Object) -> None:
        item["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 1}}

    world.cluster.touch("deployments", "chat", allow_one_down)
    world.serving().switch(None, DRAFT)
    assert world.args() == new_args(world, DRAFT)


def test_a_draft_that_the_served_container_cannot_see_is_refused(world: ClusterWorld) -> None:
    with pytest.raises(PrerequisiteError, match="served container of chat cannot see"):
        world.serving().switch(None, {**DRAFT, "model": "/home/me/draft"})
    world.serving(paths={"/home/me": "/models/d"}).switch(None, {**DRAFT, "model": "/home/me/draft"})
    assert '"model":"/models/d/draft"' in world.args()[-1]
    assert world.serving(paths={"/home/me": "/models/d"}).current() == {**DRAFT, "model": "/home/me/draft"}


OWNERS = {
    "Argo CD": ({"annotations": {"argocd.argoproj.io/tracking-id": "chat:apps"}}, "deployment", "containers"),
    "Flux": ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "deployment", "containers"),
    "the Helm release llm": (
        {"annotations": {"meta.helm.sh/release-name": "llm"}, "labels": {"model": "chat"}},
        "production-stack",
        "servingEngineSpec",
    ),
    "ModelService chat": (
        {"ownerReferences": [{"kind": "ModelService", "name": "chat", "controller": True, "uid": "u"}]},
        "llm-d",
        "decode",
    ),
}


@pytest.mark.parametrize("owner", OWNERS)
def test_where_a_patch_would_not_last_the_values_are_given(world: ClusterWorld, owner: str) -> None:
    marks, preset, key = OWNERS[owner]
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(marks))
    before = world.settled()
    serving = world.serving(preset=preset)

    with pytest.raises(RefusedError, match=owner) as refused:
        serving.switch(None, DRAFT)

    text = (world.folder / "values-chat.yaml").read_text()
    assert text in refused.value.message
    assert text == serving.plan_text(None, DRAFT)
    [values] = yaml.safe_load_all(text)
    assert key in json.dumps(values)
    assert "speculative-config" in json.dumps(values)
    assert world.settled() == before


def test_helm_may_be_patched_on_request_and_gitops_never(world: ClusterWorld) -> None:
    release = {"annotations": {"meta.helm.sh/release-name": "llm"}}
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(release))
    world.serving(patch_managed=True).switch(None, DRAFT)
    assert world.args() == new_args(world, DRAFT)
    world.cluster.touch(
        "deployments",
        "chat",
        lambda item: item["metadata"]["annotations"].update({"argocd.argoproj.io/tracking-id": "x"}),
    )
    with pytest.raises(RefusedError, match="Argo CD"):
        world.serving(patch_managed=True).switch(DRAFT, None)


def inference_service() -> Object:
    model = {"modelFormat": {"name": "huggingface"}, "args": ["--max-model-len=4096"], "runtime": "kserve-vllm"}
    meta = {"name": "chat", "namespace": "serve"}
    status = {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"predictor": {"model": model | {"volumeMounts": [{"name": "m", "mountPath": "/models"}]}}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta,
        "spec": spec,
        "status": status,
    }


def test_kserve_is_patched_at_its_own_object(world: ClusterWorld) -> None:
    [role, _] = yaml.safe_load_all((DEPLOY / "kserve" / "role-promote.yaml").read_text())
    assert world.cluster.rules is not None
    world.cluster.rules += [
        rule | ({"resourceNames": ["chat"]} if "resourceNames" in rule else {}) for rule in role["rules"]
    ]
    world.cluster.put(inference_service())
    serving = world.serving(preset="kserve")
    assert serving.current() is None
    serving.switch(None, NGRAM)
    found = world.cluster.get("inferenceservices", "chat")
    assert found is not None
    assert found["spec"]["predictor"]["model"]["args"][:2] == ["--max-model-len=4096", "--speculative-config"]
    assert serving.current() == NGRAM
    pods = [item for key, item in world.cluster.objects.items() if "predictor" in key[2]]
    assert [pod["status"]["conditions"][1]["status"] for pod in pods] == ["True"], "it was waited for"
    serving.switch(NGRAM, None)
    assert serving.current() is None


def test_a_predictor_that_crashes_is_taken_back_although_kserve_says_ready(world: ClusterWorld) -> None:
    world.cluster.rules = None
    world.cluster.put(inference_service())
    world.cluster.step()
    for _ in range(4):
        world.cluster.step()
    world.cluster.rollout = lambda item: "crash" if "--speculative-config" in str(item["spec"]) else "ready"
    serving = world.serving(preset="kserve")
    with pytest.raises(BackendError, match=r"taken back .*exit code 1.*the old configuration serves"):
        serving.switch(None, NGRAM)
    assert serving.current() is None


OWNED = {
    "argocd-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "fleetagent": "Rancher Fleet",
    "Terraform": "Terraform",
}


@pytest.mark.parametrize("manager", OWNED)
def test_an_owner_is_known_by_the_fields_that_it_manages(world: ClusterWorld, manager: str) -> None:
    entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}}
    seen = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {}}}
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(managedFields=[seen, entry]))
    with pytest.raises(RefusedError, match=f"is written by {OWNED[manager]}"):
        world.serving().switch(None, DRAFT)
    status = {"manager": "argocd-controller", "subresource": "status", "fieldsV1": {"f:spec": {}}}
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(managedFields=[seen, status]))
    world.serving().switch(None, DRAFT)


def test_a_model_that_loads_longer_than_the_progress_deadline_is_waited_for(world: ClusterWorld) -> None:
    from draftsmith.serving.kubernetes.rollout import has_words, hopeless, loading

    new = {"args": ["--x"]}
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"args": ["--x"]}]},
           "status": {"containerStatuses": [{"state": {"running": {}}}]}}  # fmt: skip
    assert loading([pod], has_words(new))
    assert not loading([{**pod, "spec": {"containers": [{"args": ["--x"]}]}, "status": {}}], has_words(new))
    assert not loading([pod], has_words({"args": ["--y"]}))
    stuck = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    old = {**pod, "spec": {"containers": [{"command": ["sh", "-c", "vllm serve old"]}]}, "status": stuck}
    assert hopeless([old], has_words({"command": ["sh", "-c", "vllm serve new"]})) is None, "an old pod says nothing"
    assert hopeless([old], has_words({"command": ["sh", "-c", "vllm serve old"]}))


def test_arguments_that_are_not_understood_are_refused_before_anything(tmp_path: Path) -> None:
    world = ClusterWorld(tmp_path / "state", deployment(["--model", "m", "--speculative-config", "$(SPEC)"]))
    with pytest.raises(InputError, match="is a variable"):
        world.serving().switch(None, DRAFT)
    assert world.writes() == []
    world.unchanged()
    world.close()


def test_a_second_node_is_room_enough(world: ClusterWorld) -> None:
    world.cluster.put(busy_pod("training", "node-a", 4))
    world.cluster.put(node("node-b", 1))
    world.serving().switch(None, DRAFT)
    assert world.args() == new_args(world, DRAFT)


def applied_by_gitops(world: ClusterWorld, config: dict[str, Any]) -> None:
    """Somebody merges the values, and Argo CD applies them, at the third look."""

    def merge() -> None:
        world.cluster.touch("deployments", "chat", lambda item: item["spec"]["template"]["spec"]["containers"][0].update(
            args=new_args(world, config)))  # fmt: skip

    world.cluster.faults.append(Fault("watch", "deployments", after=2, do=merge))


def test_what_gitops_applies_is_waited_for_and_followed(world: ClusterWorld) -> None:
    mark = {"argocd.argoproj.io/tracking-id": "chat"}
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(annotations=mark))
    with pytest.raises(RefusedError, match="Argo CD"):
        world.serving(wait_for_owner_s=60).switch(None, DRAFT)
    assert 40 <= sum(world.clock.slept) <= 90, "it waited as long as it was told to"
    applied_by_gitops(world, DRAFT)
    serving = world.serving(wait_for_owner_s=3600)
    serving.switch(None, DRAFT)
    assert serving.current() == DRAFT
    assert "patch deployments" not in world.writes()
    assert list(world.folder.glob("values-chat.yaml"))


def test_a_rollout_of_gitops_that_fails_is_told_and_not_patched(world: ClusterWorld) -> None:
    mark = {"argocd.argoproj.io/tracking-id": "chat"}
    world.cluster.touch("deployments", "chat", lambda item: item["metadata"].update(annotations=mark))
    applied_by_gitops(world, DRAFT)
    world.cluster.rollout = lambda item: "pull"
    with pytest.raises(BackendError, match=r"Argo CD .* applied did not succeed: .*cannot be pulled"):
        world.serving(wait_for_owner_s=3600).switch(None, DRAFT)
    assert "patch deployments" not in world.writes()
