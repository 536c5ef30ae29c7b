"""A run whose method needs no training: nothing is captured or trained, and what is compared can be promoted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loop_world import World
from tiny_target import write_target

from draftsmith.api import checks
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.contract.job import JobResult
from draftsmith.phases.base import PhaseContext, RunOptions
from draftsmith.phases.way import configurations, way
from draftsmith.trainers.target import read_target


def test_a_method_without_training_is_compared_and_nothing_is_trained(world: World) -> None:
    world.call("run", "--yes", "--method", "ngram")
    assert "recommended: eagle3" in world.done("profile")["headline"]
    for phase in ("capture", "train"):
        result = world.done(phase)["result"]
        assert result["outputs"] == {"sentence": "ngram was asked for and needs no training"}
        assert world.done(phase)["headline"].startswith("not needed: ")
        assert not (world.folder() / "phases" / phase).exists()
    assert not [event for event in world.events() if event.get("kind") == "submitted" and event.get("phase") == "train"]
    outputs = world.done("compare")["result"]["outputs"]
    plan, verdict = (json.loads(Path(outputs[name]).read_text()) for name in ("plan", "verdict"))
    candidates = {arm["name"]: arm["spec_config"]["method"] for arm in plan["arms"] if arm["role"] == "candidate"}
    assert set(candidates.values()) == {"ngram"}
    assert not [arm for arm in plan["arms"] if arm["role"] == "trainless"], "n-gram is no arm beside itself"
    [source] = (world.folder() / "bundle").rglob("SOURCE.md")
    assert "ngram was asked for and needs no training" in source.read_text()
    done = world.call("report", "--strict", code=None)
    assert (done.returncode == 0) == (verdict["tier"] == "verdict")


def test_heads_that_the_target_has_not_are_refused_before_anything_starts(tmp_path: Path) -> None:
    target = str(write_target(tmp_path / "target"))
    found = checks.examine(Config(target=target, method="deepseek_mtp"), measure=False)
    assert [f.sentence for f in found if f.name == "method" and f.level == "missing"] == [
        "target has no prediction heads (MTP) of its own"
    ]


@pytest.mark.parametrize(
    ("recommended", "asked", "mtp", "suffix", "method", "trains"),
    [
        ("eagle3", None, False, None, "eagle3", True),
        ("none", None, False, None, "eagle3", True),
        ("ngram", None, False, None, "ngram", False),
        ("suffix", None, False, True, "suffix", False),
        ("suffix", None, False, False, "eagle3", True),
        ("deepseek_mtp", None, True, None, "deepseek_mtp", False),
        ("deepseek_mtp", None, False, None, "eagle3", True),
        ("predicted_outputs", None, False, None, "predicted_outputs", False),
        ("ngram", "eagle3", False, None, "eagle3", True),
        ("eagle3", "ngram", False, None, "ngram", False),
    ],
)
def test_the_recommendation_is_followed_unless_somebody_says_otherwise(
    recommended: str, asked: Any, mtp: bool, suffix: bool | None, method: str, trains: bool
) -> None:
    chosen = way(context(recommended, asked, mtp=mtp, suffix=suffix))
    assert (chosen.method, chosen.trains) == (method, trains)
    if recommended in ("suffix", "deepseek_mtp") and trains:
        assert f"{recommended} is recommended, but" in chosen.sentence


def context(recommended: str, asked: Any, *, mtp: bool = False, suffix: bool | None = None) -> PhaseContext:
    target = TargetFacts(
        path="/t", architecture="A", model_type="a", num_layers=8, hidden_size=8, vocab_size=8, max_position_embeddings=8,
        dtype="bfloat16", weight_bytes=8, sha256="0", tokenizer_sha256="0", has_mtp=mtp,
    )  # fmt: skip
    profile = JobResult(
        ok=True, outputs={"profile": "p", "profile_sha256": "0"}, figures={"method": recommended, "n_requests": 1}
    )
    return PhaseContext(
        run_id="r", folder=Path("/r"), workspace=Path("/w"), config=Config(method=asked), target=target, sources=(),
        standing=None, layer_ids=(2, 4, 5), versions={}, results={"profile": profile}, options=RunOptions(suffix=suffix),
    )  # fmt: skip


def test_candidates_of_methods_without_training() -> None:
    ks = Config()
    assert [name for name, _ in configurations(ks, "ngram")] == ["ngram-k2", "ngram-k3"]
    assert [name for name, _ in configurations(ks, "predicted_outputs")] == ["copy-k2", "copy-k3", "copy-k8"]
    assert configurations(ks, "deepseek_mtp")[0] == ("mtp-k1", {"method": "mtp", "num_speculative_tokens": 1})
    assert [config["method"] for _, config in configurations(ks, "suffix")] == ["suffix"]


def test_a_target_that_cannot_be_trained_for_can_be_compared(tmp_path: Path) -> None:
    """No hidden states of Mixtral: a draft is refused, n-gram is not."""
    target = write_target(tmp_path / "mixtral", architectures=["MixtralForCausalLM"], model_type="mixtral")
    with pytest.raises(InputError, match="no hidden states") as refused:
        read_target(target)
    assert "--method" in refused.value.next_step
    assert read_target(target, training=False).architecture == "MixtralForCausalLM"
