"""The `canary` command and the wiring beneath it, with a kubeconfig as an operator has one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from world import NGRAM, ClusterWorld

from draftsmith import wiring
from draftsmith.cli.canary import Action, canary
from draftsmith.contract.config import parse_config
from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError, RefusedError
from draftsmith.serving.kubernetes.serving import KubernetesServing


@pytest.fixture
def settings(world: ClusterWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags that lead to the world's cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("draftsmith.kit.clock.time.sleep", world.clock.sleep)
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": world.cluster.url}}],
        "users": [{"name": "u", "user": {"token": "sesame"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    return [f'serving.options.kubeconfig="{tmp_path / "kubeconfig"}"', 'serving.options.namespace="serve"']


ARM = [f"ngram={json.dumps(NGRAM)}"]


def test_plan_and_a_dry_up_only_show(
    world: ClusterWorld, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for action in (Action.PLAN, Action.UP):
        canary(action, deployment="chat", arm=ARM, settings=settings)
        text, _, note = capsys.readouterr().out.partition("dry run")
        names = [item["metadata"]["name"] for item in yaml.safe_load_all(text) if item]
        assert names == ["ds-canary-standing"] * 2 + ["ds-canary-ngram"] * 2
        assert "nothing was created" in note
    canary(Action.PATCH, deployment="chat", arm=ARM, settings=settings)
    assert "op: test" in capsys.readouterr().out
    assert world.writes() == []


def test_up_stays_until_down(world: ClusterWorld, settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    canary(Action.UP, deployment="chat", arm=ARM, detach=True, understood=True, settings=settings)
    assert "ngram: http://ds-canary-ngram.serve.svc:8000 (model target, on node-a)" in capsys.readouterr().out
    with pytest.raises(RefusedError, match="dry run"):
        canary(Action.DOWN, deployment="chat", settings=settings)
    canary(Action.SWEEP, deployment="chat", understood=True, settings=settings)
    assert "nothing was left over" in capsys.readouterr().out
    canary(Action.DOWN, deployment="chat", understood=True, settings=settings)
    assert "Service/ds-canary-ngram" in capsys.readouterr().out
    world.unchanged()


@pytest.mark.parametrize("arm", ["ngram", "ngram=3", "=none", "x={"])
def test_an_arm_that_is_none_is_refused(settings: list[str], arm: str) -> None:
    with pytest.raises(InputError, match="NAME=JSON"):
        canary(Action.PLAN, deployment="chat", arm=[arm], settings=settings)


def test_the_configuration_leads_to_the_adapters(world: ClusterWorld, settings: list[str], tmp_path: Path) -> None:
    options = {"kubeconfig": str(tmp_path / "kubeconfig"), "namespace": "serve"}
    config = parse_config({"serving": {"kind": "kubernetes", "deploy": "chat", "options": options}})
    serving = wiring.serving(config, tmp_path)
    assert isinstance(serving, KubernetesServing)
    assert serving.current() is None
    jobs = parse_config({"backend": {"kind": "kubernetes", "scheduler": "slurm-on-kubernetes", "options": options}})
    assert wiring.kubernetes_backend(jobs, tmp_path).find("r1.train") is None


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"namespaces": "x"}, ConfigError, "namespaces"),
        ({"labels": {"a": "no such label value!"}}, ConfigError, "not a label value"),
        ({"kubeconfig": "nowhere"}, PrerequisiteError, "no cluster is configured"),
    ],
)
def test_options_that_cannot_be_are_named(
    tmp_path: Path, options: dict[str, object], kind: type[Exception], said: str
) -> None:
    config = parse_config({"serving": {"kind": "kubernetes", "deploy": "chat", "options": options}})
    with pytest.raises(kind, match=said):
        wiring.serving(config, tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"labels": {"team": "no such value!"}}, "not a label value"),
        ({"labels": {"two words": "x"}}, "not the key of a label"),
        ({"labels": {"example.com/": "x"}}, "not the key of a label"),
        ({"node_selector": {"Example.com/gpu": "a"}}, "not the key of a label"),
    ],
)
def test_what_is_no_label_is_named_for_canaries_and_for_jobs(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    canaries = parse_config({"serving": {"kind": "kubernetes", "deploy": "chat", "options": options}})
    with pytest.raises(ConfigError, match=said):
        wiring.serving(canaries, tmp_path)
    jobs = parse_config({"backend": {"kind": "kubernetes", "options": options | {"image": "x"}}})
    with pytest.raises(ConfigError, match=said):
        wiring.check_backend_options(jobs)
