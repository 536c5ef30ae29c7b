"""Whatever is created is a valid object in every supported version of Kubernetes, hardened, and labelled as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from world import ARMS, DEPLOY, ROLE_FILES, ClusterWorld

from draftsmith.backends.kubernetes_options import JobOptions, PhaseOptions
from draftsmith.backends.kubernetes_text import job_manifest
from draftsmith.contract import cluster as contract
from draftsmith.contract.errors import ConfigError
from draftsmith.contract.job import JobSpec
from draftsmith.kit.kube import Object
from draftsmith.serving.kubernetes.manifests import to_yaml

VERSIONS = ("1.29", "1.33", "1.37")
SPEC = JobSpec(
    name="r1.train", argv=("python", "-m", "draftsmith.work.train"), workdir="/ws/r1/train", env={"KEY": "v"}, gpus=1
)
JOBS = JobOptions(image="draftsmith:1", namespace="serve", volumes=({"claim": "ws", "mount_path": "/ws"},))  # type: ignore[arg-type]


@pytest.fixture
def made(world: ClusterWorld) -> list[Object]:
    """Every kind of object that is ever created."""
    options: list[dict[str, Any]] = [
        {}, {"workload": "pod"}, {"staging_gib": 5, "scheduler": "slurm"}, {"mounts": ({"claim": "d", "mount_path": "/d"},)},
    ]  # fmt: skip
    found = [job_manifest(SPEC, JOBS)]
    for changes in options:
        found += list(yaml.safe_load_all(world.canaries(allow=False, **changes).plan("r1", ARMS).text()))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(made: list[Object], version: str) -> None:
    for item in made:
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", "kserve", "staging"])
def test_the_kustomize_base_is_valid_and_whole(folder: str, version: str) -> None:
    place = DEPLOY / folder
    listed = yaml.safe_load((place / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in place.glob("*.yaml") if p.name != "kustomization.yaml")
    items = [item for name in listed for item in yaml.safe_load_all((place / name).read_text())]
    for item in items:
        kubernetes_validate.validate(item, version, strict=True)
    roles = {(item["kind"], item["metadata"]["name"]) for item in items if "rules" in item}
    bound = {(item["roleRef"]["kind"], item["roleRef"]["name"]) for item in items if "roleRef" in item}
    assert roles == bound


def test_pods_are_hardened(made: list[Object]) -> None:
    pods = [
        i["spec"] if i["kind"] == "Pod" else i["spec"]["template"]["spec"] for i in made if i["kind"] in ("Pod", "Job")
    ]
    assert pods
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["restartPolicy"] == "Never"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
        kinds = {v["name"]: v for v in pod["volumes"]}
        for mount in container["volumeMounts"]:
            if mount["mountPath"] in writable and mount["mountPath"] != "/ws":
                assert "emptyDir" in kinds[mount["name"]]


def test_everything_ends_by_itself_and_is_found_by_its_labels(made: list[Object]) -> None:
    for item in made:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "draftsmith"
        assert labels["draftsmith.dev/experiment"] == "r1"
        assert "app" not in labels
        if item["kind"] == "Job":
            assert item["spec"]["ttlSecondsAfterFinished"] > 0
            assert item["spec"]["template"]["metadata"]["labels"] == labels
        if labels["app.kubernetes.io/component"] == "canary" and item["kind"] == "Pod":
            assert item["spec"]["activeDeadlineSeconds"] == 4 * 3600


def test_a_canary_has_probes_and_the_resources_of_the_standing_container(made: list[Object]) -> None:
    jobs = [
        i for i in made if i["kind"] == "Job" and i["metadata"]["labels"]["app.kubernetes.io/component"] == "canary"
    ]
    for job in jobs:
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_a_job_shows_no_value_of_a_variable() -> None:
    secret = SPEC.model_copy(update={"env": {"HF_TOKEN": "sesame"}})
    assert "sesame" not in to_yaml([job_manifest(secret, JOBS)])


def test_what_a_phase_wants_differently() -> None:
    options = JOBS.model_copy(update={"phases": {"train": PhaseOptions(gpus=4, image="trainer:2", time_limit_s=600)}})
    job = job_manifest(SPEC, options)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "trainer:2"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert job["spec"]["activeDeadlineSeconds"] == 600


@pytest.mark.parametrize("changes", [{"image": ""}, {"volumes": ()}])
def test_a_job_that_cannot_work_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        job_manifest(SPEC, JOBS.model_copy(update=changes))


def _rights(path: Path) -> set[tuple[str, str, str]]:
    rules = [rule for item in yaml.safe_load_all(path.read_text()) for rule in item.get("rules") or ()]
    return {(v, g, r) for rule in rules for v in rule["verbs"] for g in rule["apiGroups"] for r in rule["resources"]}


NEEDED = {
    "base/role-canary.yaml": (*contract.CANARY_PERMISSIONS, *contract.TELLING_PERMISSIONS),
    "base/role-jobs.yaml": contract.JOB_PERMISSIONS,
    "base/role-promote.yaml": (*contract.PROMOTE_PERMISSIONS, *contract.RECORD_PERMISSIONS),
    "base/role-nodes.yaml": (*contract.NODE_PERMISSIONS, *contract.PRIORITY_PERMISSIONS),
    "kserve/role-promote.yaml": (*contract.KSERVE_PERMISSIONS, *contract.RECORD_PERMISSIONS),
    "staging/role-staging.yaml": contract.VOLUME_PERMISSIONS,
}


@pytest.mark.parametrize("file", NEEDED)
def test_the_roles_are_what_is_asked_for_in_advance(file: str) -> None:
    asked = {(p.verb, p.resource.group, p.resource.plural + (f"/{p.sub}" if p.sub else "")) for p in NEEDED[file]}
    assert _rights(DEPLOY / file) == asked
    assert file.split("/")[1] in ROLE_FILES or file.split("/")[0] != "base" or file.endswith("jobs.yaml")


def test_a_label_and_a_name_are_made_of_any_run_id() -> None:
    assert contract.slug("r1") == "r1"
    odd = {contract.slug(text) for text in ("My Run!", "my-run", "My Run?", "x" * 80, "..", "")}
    assert len(odd) == 6
    for text in odd:
        contract.require_name(text, "name")
