"""Commands as operators of such services type them, word for word: they parse, and mean what they say."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from draftsmith import api
from draftsmith.backends.detect import choose
from draftsmith.cli import spelled
from draftsmith.cli.app import app
from draftsmith.contract.cluster import ClusterOptions, labels_of, plain_slug


class SeenError(Exception):
    def __init__(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.name, self.given, self.named = name, given, named


@pytest.fixture(autouse=True)
def nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            raise SeenError(name, given, named)

        return call

    for name in ("run", "scaffold", "profile", "report"):
        monkeypatch.setattr(api, name, stop(name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def typed(line: str) -> SeenError:
    done = CliRunner().invoke(app, spelled(shlex.split(line)))
    assert isinstance(done.exception, SeenError), done.output
    return done.exception


def test_the_service_as_it_is_called() -> None:
    seen = typed("run --target /models/base --served glm-5-1 --profile access.jsonl --mode oneshot")
    config = seen.given[0]
    assert (config.target, config.serving.deploy, config.serving.kind) == ("/models/base", "glm-5-1", "local")
    assert seen.given[1] == ["access.jsonl"]
    assert seen.named["mode"] == "oneshot"


def test_what_serves_is_in_the_cluster_of_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubeconfig").write_text("")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert typed("run --target /m --served glm-5-1 --profile a.jsonl").given[0].serving.kind == "kubernetes"
    assert typed("run --target /m --profile a.jsonl").given[0].serving.kind == "local"


@pytest.mark.parametrize("method", ["eagle3", "dflash", "deepseek_mtp", "ngram", "predicted_outputs", "suffix"])
def test_every_method_has_its_word(method: str) -> None:
    for command in ("run", "train"):
        config = typed(f"{command} --target /models/base --profile a.jsonl --method {method}").given[0]
        assert config.method == method
        assert config.trainer.method == (method if method in ("eagle3", "dflash") else "eagle3")


def test_a_method_that_is_none_is_an_error() -> None:
    done = CliRunner().invoke(app, ["run", "--target", "/m", "--profile", "a", "--method", "magic"])
    assert "eagle3" in str(done.exception)


def test_the_training_as_it_is_called() -> None:
    seen = typed("scaffold --target /models/base --method eagle3 --chat-template llama3")
    assert (seen.named["method"], seen.named["chat_template"]) == ("eagle3", "llama3")
    assert str(seen.given[1]) == "spec-decode"


@pytest.mark.parametrize(
    ("line", "shapes"),
    [
        ("profile --aa-shapes", "default"),
        ("profile --aa-shapes --out p.json", "default"),
        ("profile --aa-shapes default", "default"),
        ("profile --aa-shapes 1000:1000,10000:1500", "1000:1000,10000:1500"),
    ],
)
def test_bench_shapes_with_and_without_a_value(line: str, shapes: str) -> None:
    assert typed(line).named["aa_shapes"] == shapes


def test_a_log_by_option_or_by_place() -> None:
    for line in ("profile --in access.jsonl --tokenizer t.json", "profile access.jsonl --tokenizer t.json"):
        assert typed(line).given[1] == ["access.jsonl"]


def test_a_strict_report_is_known() -> None:
    assert typed("report --strict").name == "report"


def test_the_scheduler_of_plain_kubernetes() -> None:
    choice = choose(None, "default", ("local", "auto"), lambda: pytest.fail("nothing is looked for"))
    assert (choice.kind, choice.scheduler) == ("kubernetes", "kubernetes")


def test_objects_are_found_by_the_plain_label_too() -> None:
    labels = labels_of(ClusterOptions(), "canary", "minimax-m2-7-20261127")
    assert labels["experiment"] == labels["draftsmith.dev/experiment"] == "minimax-m2-7-20261127"


@pytest.mark.parametrize(
    ("name", "slug"), [("MiniMax-M2.7", "minimax-m2-7"), ("GLM-5.1-FP8", "glm-5-1-fp8"), ("...", "target")]
)
def test_a_folder_of_the_users_own_has_a_plain_name(name: str, slug: str) -> None:
    assert plain_slug(name) == slug
