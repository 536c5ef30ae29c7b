"""Where a comparison may be measured, and how a served pod is copied there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_cluster import Object
from world import ARMS, NGRAM, ClusterWorld, deployment, node

from draftsmith.backends.kubernetes_options import JobOptions
from draftsmith.backends.kubernetes_text import job_manifest
from draftsmith.contract.errors import PrerequisiteError, RefusedError
from draftsmith.contract.job import JobSpec
from draftsmith.engines.vllm.words import read_command
from draftsmith.serving.canary.text import pod_of
from draftsmith.serving.kubernetes.placement import accelerator, affine


def world_of(folder: Path, served: Object, *nodes: Object) -> ClusterWorld:
    world = ClusterWorld(folder, served)
    for each in nodes:
        world.cluster.objects.pop(("nodes", "", each["metadata"]["name"]), None)
        world.cluster.put(each)
    return world


def labelled(name: str, gpus: int = 4, **labels: str) -> Object:
    made = node(name, gpus)
    made["metadata"]["labels"] |= {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return made


def pod_spec(world: ClusterWorld, **changes: Any) -> Object:
    spec: Object = pod_of(world.canaries(allow=False, **changes).plan("r1", ARMS[:1]).arms[0])["spec"]
    return spec


AFFINITY = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}, {"key": "n", "operator": "Gt", "values": ["2"]}]},
    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["special"]}]},
]}}  # fmt: skip


def test_a_node_affinity_is_obeyed(tmp_path: Path) -> None:
    assert affine(labelled("a", gpu="h100", n="3"), AFFINITY)
    assert not affine(labelled("a", gpu="h100", n="2"), AFFINITY)
    assert not affine(labelled("a", gpu="a100", n="3"), AFFINITY)
    assert affine(node("special"), AFFINITY)
    assert affine(node("any"), None)
    served = deployment()
    served["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": AFFINITY}
    world = world_of(tmp_path, served, labelled("node-z", gpu="h100", n="4"))
    try:
        assert world.canaries(allow=False).plan("r1", ARMS).node == "node-z"
    finally:
        world.close()


def test_the_gpu_is_that_of_production_and_whole(tmp_path: Path) -> None:
    key = {"nvidia.com/gpu.product": "H100"}
    nodes = [node("node-a"), node("node-s", 1), node("node-t"), node("node-z")]
    nodes[0]["metadata"]["labels"] |= {"nvidia.com/gpu.product": "A100"}
    nodes[1]["metadata"]["labels"] |= key
    nodes[2]["metadata"]["labels"] |= key | {
        "nvidia.com/gpu.sharing-strategy": "time-slicing",
        "nvidia.com/gpu.replicas": "4",
    }
    nodes[3]["metadata"]["labels"] |= key
    world = world_of(tmp_path, deployment(), *nodes)
    try:
        assert world.canaries(allow=False).plan("r1", ARMS).node == "node-z"
        with pytest.raises(PrerequisiteError, match="node-a has A100, and H100 serves"):
            world.canaries(allow=False, node="node-a").plan("r1", ARMS)
        with pytest.raises(PrerequisiteError, match="node-t shares each GPU among several pods"):
            world.canaries(allow=False, node="node-t").plan("r1", ARMS)
    finally:
        world.close()


def test_every_kind_of_accelerator_is_counted() -> None:
    assert accelerator({"limits": {"nvidia.com/gpu": "2"}}, "nvidia.com/gpu") == ("nvidia.com/gpu", 2)
    assert accelerator({"limits": {"nvidia.com/mig-1g.10gb": 1, "cpu": "8"}}, "nvidia.com/gpu") == (
        "nvidia.com/mig-1g.10gb",
        1,
    )
    assert accelerator({"requests": {"amd.com/gpu": "1", "rdma/ib": 8}}, "nvidia.com/gpu") == ("amd.com/gpu", 1)
    assert accelerator({"limits": {"vpc.amazonaws.com/efa": 4, "habana.ai/gaudi": 8}}, "nvidia.com/gpu") == (
        "habana.ai/gaudi",
        8,
    )
    assert accelerator({"limits": {"cpu": "8"}}, "nvidia.com/gpu") == ("nvidia.com/gpu", 0)


def test_claimed_devices_are_claimed_by_every_arm(tmp_path: Path) -> None:
    served = deployment(resources={"claims": [{"name": "gpu"}]})
    spec = served["spec"]["template"]["spec"]
    spec["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    world = ClusterWorld(tmp_path, served)
    try:
        with world.canaries().up("r1", ARMS) as servers:
            assert len(servers) == 2
        made = pod_spec(world)
        assert made["resourceClaims"] == spec["resourceClaims"]
        assert "podAffinity" in made["affinity"]
        world.cluster.touch("deployments", "chat", lambda item: item["spec"]["template"]["spec"].update(
            resourceClaims=[{"name": "gpu", "resourceClaimName": "mine"}]))  # fmt: skip
        with pytest.raises(RefusedError, match="share one device claim"):
            world.canaries().plan("r1", ARMS)
    finally:
        world.close()


def test_a_later_start_reads_one_node_and_its_pods(world: ClusterWorld) -> None:
    for number in range(20):
        world.cluster.put(node(f"other-{number:02}", 8))
    world.cluster.calls.clear()
    world.canaries(allow=False).plan("r1", ARMS, node="node-a")
    asked = [call for call in world.cluster.calls if call.plural in ("nodes", "pods") and call.verb == "list"]
    assert len(asked) == 2, "not one page of all nodes"


def test_arms_that_do_not_fit_together_are_started_one_after_the_other(tmp_path: Path) -> None:
    world = ClusterWorld(tmp_path, deployment(resources={"limits": {"nvidia.com/gpu": "2"}}))
    try:
        assert world.canaries().fits(2)
        assert not world.canaries().fits(5)
        assert world.canaries(check_node=False).fits(5)
    finally:
        world.close()


def test_pods_without_a_pinned_node_come_up_beside_each_other_and_are_not_moved(world: ClusterWorld) -> None:
    made = world.canaries(allow=False, check_node=False, annotations={"sidecar.istio.io/inject": "false"}).plan(
        "r1", ARMS
    )
    pod = pod_of(made.arms[0])
    [term] = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), (
        "the first one fits itself"
    )
    marks = made.arms[0].workload["spec"]["template"]["metadata"]["annotations"]
    assert marks["karpenter.sh/do-not-disrupt"] == "true"
    assert marks["sidecar.istio.io/inject"] == "false"


HUB = {
    "a folder": ("/models/base", [], "/models", {"HF_HUB_OFFLINE": "1"}),
    "no cache that stays": ("org/name", [], "/data", {"HF_HUB_OFFLINE": None}),
    "a cache in a volume": ("org/name", [{"name": "HF_HOME", "value": "/data/hf"}], "/data", {"HF_HUB_OFFLINE": "1", "HF_HOME": "/data/hf"}),
    "the usual cache": ("org/name", [], "/home/vllm/.cache/huggingface", {"HF_HUB_OFFLINE": "1", "HF_HOME": "/home/vllm/.cache/huggingface"}),
    "a cache that goes": ("org/name", [{"name": "HF_HOME", "value": "/tmp"}], "/data", {"HF_HUB_OFFLINE": None}),
    "said by the site": ("org/name", [{"name": "HF_HUB_OFFLINE", "value": "0"}], "/data", {"HF_HUB_OFFLINE": "0"}),
}  # fmt: skip


@pytest.mark.parametrize("case", HUB)
def test_a_copy_finds_its_model_where_the_served_pod_does(tmp_path: Path, case: str) -> None:
    model, env, mount, wanted = HUB[case]
    served = deployment(
        ["--model", model, "--port=8000"], env=env, volumeMounts=[{"name": "models", "mountPath": mount}]
    )
    world = ClusterWorld(tmp_path, served)
    try:
        found = {item["name"]: item["value"] for item in pod_spec(world)["containers"][0]["env"]}
        assert {key: found.get(key) for key in wanted} == wanted
    finally:
        world.close()


def test_a_sidecar_and_a_shared_cache_do_not_stand_in_the_way(tmp_path: Path) -> None:
    served = deployment(["--model", "/models/base", "--kv-transfer-config", '{"kv_connector":"X"}', "--port=8000"])
    proxy = {"name": "routing-proxy", "image": "proxy", "restartPolicy": "Always"}
    served["spec"]["template"]["spec"]["initContainers"] = [proxy]
    world = ClusterWorld(tmp_path, served)
    try:
        with pytest.raises(RefusedError, match="exchanges its KV cache") as refused:
            world.canaries().plan("r1", ARMS)
        assert "drop_flags" in refused.value.next_step
        with world.canaries(drop_flags=["--kv-transfer-config"]).up("r1", ARMS):
            job = world.cluster.get("jobs", "ds-r1-standing")
            assert job is not None
            assert job["spec"]["template"]["spec"]["containers"][0]["args"] == [
                "--model",
                "/models/base",
                "--port=8000",
            ]
        fetch = {"name": "fetch", "image": "x"}
        world.cluster.touch(
            "deployments", "chat", lambda i: i["spec"]["template"]["spec"]["initContainers"].append(fetch)
        )
        with pytest.raises(RefusedError, match="init containers"):
            world.canaries(drop_flags=["--kv-transfer-config"]).plan("r1", ARMS)
    finally:
        world.close()


def test_flags_are_taken_out_of_a_script_too() -> None:
    read = read_command(
        ["sh", "-c"], ["exec vllm serve /m --kv-transfer-config '{\"a\": 1}' --port 9000"], vllm_image=False
    )
    less = read.without_flags(("--kv-transfer-config",))
    assert less.args == ("exec vllm serve /m --port 9000",)
    assert less.with_spec(NGRAM).spec_config == NGRAM


def test_a_tag_that_has_moved_is_refused(world: ClusterWorld) -> None:
    def digests(served: str, canary: str) -> None:
        def mark(pod: Object) -> None:
            ours = "draftsmith.dev/arm" in pod["metadata"]["labels"]
            name = "server" if ours else "vllm"
            pod["status"]["containerStatuses"][0] |= {"name": name, "imageID": f"x@sha256:{canary if ours else served}"}

        world.cluster.mark = mark
        for (plural, namespace, name), pod in list(world.cluster.objects.items()):
            if plural == "pods" and namespace == "serve" and "draftsmith.dev/arm" not in pod["metadata"]["labels"]:
                world.cluster.touch("pods", name, mark)

    digests("aa", "bb")
    with pytest.raises(RefusedError, match="means another image by now"):
        world.canaries().start("r1", ARMS)
    world.unchanged()
    digests("aa", "aa")
    with world.canaries().up("r1", ARMS):
        pass


def test_what_sites_demand_of_pods(world: ClusterWorld) -> None:
    assert "runAsUser" not in pod_spec(world, run_as_user="cluster", run_as_group="cluster")["securityContext"]
    assert pod_spec(world, service_account="puller")["serviceAccountName"] == "puller"
    slurm = world.canaries(allow=False, scheduler="slurm").plan("r1", ARMS).arms[0].workload["metadata"]["annotations"]
    assert slurm["slurmjob.slinky.slurm.net/exclusive"] == "false"
    given = world.canaries(allow=False, scheduler="slurm", slurm_annotations={"exclusive": "true"})
    assert (
        given.plan("r1", ARMS).arms[0].workload["metadata"]["annotations"]["slurmjob.slinky.slurm.net/exclusive"]
        == "true"
    )

    options = JobOptions.model_validate({
        "image": "i", "volumes": [{"claim": "w", "mount_path": "/w"}], "limit_cpu": True, "storage_gib": 20,
        "phases": {"train": {"launcher": "torchrun", "gpus": 4}},
    })  # fmt: skip
    spec = JobSpec(name="r1.train", argv=("python", "-m", "x"), workdir="/w/r1", cpus=3)
    [container] = job_manifest(spec, options)["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "3"
    assert container["resources"]["limits"]["ephemeral-storage"] == "20480Mi"
    assert "python -m torch.distributed.run --standalone --nproc-per-node=4 -m x" in container["args"][0]


SERVER: dict[str, Any] = {"image": "ghcr.io/llm-d/llm-d-xpu:latest", "args": ["--model", "m/n", "--port=8200"]}


def test_llm_d_images_start_vllm_and_its_simulator_does_not() -> None:
    from draftsmith.contract.errors import InputError
    from draftsmith.serving.kubernetes.options import ServingOptions
    from draftsmith.serving.kubernetes.standing import read_standing

    options = ServingOptions(preset="llm-d")
    assert read_standing(deployment(**SERVER), options).command.port == 8200
    with pytest.raises(InputError, match="does not run vLLM"):
        read_standing(deployment(**SERVER | {"image": "ghcr.io/llm-d/llm-d-inference-sim:latest"}), options)
