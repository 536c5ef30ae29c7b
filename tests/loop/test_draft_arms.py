"""Which arms a draft becomes."""

from __future__ import annotations

import json
from pathlib import Path

from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.measure import Arm
from draftsmith.phases.base import PhaseContext
from draftsmith.phases.compare import draft_lengths, free_name, other_draft
from draftsmith.phases.identity import path_names
from draftsmith.store.scrub import Scrubber, from_names, to_names
from draftsmith.work.compare.pinning import with_weights


def lengths(**trainer: object) -> tuple[int, ...]:
    return draft_lengths(Config.model_validate({"trainer": trainer, "compare": {"k_values": [2, 3]}}))


def test_a_block_draft_is_tried_with_its_whole_block() -> None:
    assert lengths(method="dflash", block_size=8) == (3, 7)
    assert lengths(method="dflash", block_size=4) == (3,)
    assert lengths(method="eagle3") == (2, 3)


def test_a_further_draft_is_served_as_its_own_files_say(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"speculators_model_type": "dflash", "block_size": 16}))
    assert other_draft(tmp_path, "eagle3", 3).config == {"method": "dflash", "num_speculative_tokens": 15}
    (tmp_path / "config.json").write_text(json.dumps({"speculators_model_type": "peagle"}))
    assert other_draft(tmp_path, "eagle3", 3).rest["parallel_drafting"] is True
    (tmp_path / "draft-manifest.json").write_text(json.dumps({"method": "eagle3"}))
    assert other_draft(tmp_path, "dflash", 3).config == {"method": "eagle3", "num_speculative_tokens": 3}
    assert other_draft(tmp_path / "nowhere", "eagle3", 2).config == {"method": "eagle3", "num_speculative_tokens": 2}


def test_drafts_anywhere_on_the_machine_are_names_in_the_evidence(tmp_path: Path) -> None:
    """Otherwise the plan is refused when it is to be frozen, after the training."""
    standing = {"method": "eagle3", "model": "/home/somebody/drafts/one", "num_speculative_tokens": 2}
    further = "/home/another/drafts/two"
    context = PhaseContext(
        run_id="r", folder=tmp_path / "w" / "runs" / "r", workspace=tmp_path / "w",
        config=Config.model_validate({"compare": {"drafts": [further]}}), target=TargetFacts.model_construct(path="/models/m"),
        sources=(), standing=standing, layer_ids=(), versions={},
    )  # fmt: skip
    names = path_names(context)
    arms = to_names([standing, {"model": further}, {"model": str(tmp_path / "w" / "drafts" / "three")}], names)
    assert Scrubber.of(names).finds(arms) == []
    assert arms[2]["model"] == "{workspace}/drafts/three"
    assert from_names(arms, names)[0] == standing


def test_logs_and_interpreters_are_names_in_the_evidence(tmp_path: Path) -> None:
    """Job plans and command lines are part of it."""
    given = {"engine": {"python": "/opt/own/bin/python"}, "profile": "/srv/logs/access.jsonl"}
    context = PhaseContext(
        run_id="r", folder=tmp_path / "r", workspace=tmp_path, config=Config.model_validate(given),
        target=TargetFacts.model_construct(path="/models/m"), sources=("/srv/logs/access.jsonl", "s3://b/log"), standing=None,
        layer_ids=(), versions={},
    )  # fmt: skip
    names = path_names(context)
    shown = to_names(["/opt/own/bin/python", "-m", "vllm", "/srv/logs/access.jsonl"], names)
    assert shown == ["{engine_python}", "-m", "vllm", "{log1}"]


def test_further_drafts_of_one_name_are_told_apart() -> None:
    arms = [Arm(name="standing", role="standing"), Arm(name="mine", role="other")]
    assert free_name("/a/mine", arms) == "mine-2"
    assert free_name("/a/other/draft", arms) == "other"
    assert free_name("/a/new#1/", arms) == "new-1"


def test_a_drafts_weights_are_part_of_its_arm(tmp_path: Path) -> None:
    arm = Arm(name="mine", role="other", spec_config={"method": "eagle3", "model": str(tmp_path)})
    assert with_weights(arm) == arm
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = with_weights(arm)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert first.draft_sha256
    assert with_weights(arm) != first
    assert with_weights(first) == first, "what the training said of its draft stays"
