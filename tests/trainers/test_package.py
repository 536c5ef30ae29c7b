"""A checkpoint becomes a folder that holds what the engine needs and nothing that could run or tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_folders import DRAFT_LAYERS, IDS, write_checkpoint, write_dflash, write_plain, write_target

from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.package import for_training, package_draft
from draftsmith.trainers.target import read_target


@pytest.fixture
def target(tmp_path: Path) -> TargetFacts:
    return read_target(write_target(tmp_path / "small-llama"))


def package(checkpoint: Path, out: Path, target: TargetFacts, **changed: object) -> DraftManifest:
    return package_draft(checkpoint, out, target=target, trainer="speculators", **changed)  # type: ignore[arg-type]


def test_a_packaged_draft_passes_every_check(tmp_path: Path, target: TargetFacts) -> None:
    manifest = package(write_checkpoint(tmp_path / "c"), tmp_path / "draft", target, epoch=2)
    report = lint_draft(tmp_path / "draft", target)
    assert [f.sentence for f in report.findings if f.level != "ok"] == []
    assert manifest.layer_ids == tuple(DRAFT_LAYERS)
    assert manifest.draft_vocab_size == len(IDS)
    assert manifest.target_sha256 == target.sha256
    assert (manifest.has_own_embeddings, manifest.has_own_lm_head) == (True, True)


def test_nothing_that_runs_and_nothing_of_the_machine_is_kept(tmp_path: Path, target: TargetFacts) -> None:
    draft = tmp_path / "draft"
    package(write_checkpoint(tmp_path / "c"), draft, target)
    assert sorted(path.name for path in draft.iterdir()) == [
        "README.md",
        "config.json",
        "draft-manifest.json",
        "model.safetensors",
    ]
    for path in draft.iterdir():
        raw = path.read_bytes()
        assert b"secret" not in raw
        assert b"auto_map" not in raw
        assert str(tmp_path).encode() not in raw
        assert path.stat().st_mode & 0o077 == 0
    assert draft.stat().st_mode & 0o077 == 0
    config = json.loads((draft / "config.json").read_text())
    assert config["speculators_config"]["verifier"]["name_or_path"] == "small-llama"
    assert config["speculators_config"]["proposal_methods"][0]["speculative_tokens"] == 4


def test_what_trainer_and_engine_read_differently_is_written_out(tmp_path: Path, target: TargetFacts) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", norm_before_residual=None)
    assert any("norm_before_residual" in f.sentence for f in lint_draft(checkpoint, target).at("error"))
    package(checkpoint, tmp_path / "draft", target)
    assert json.loads((tmp_path / "draft/config.json").read_text())["norm_before_residual"] is False


def test_packaging_again_is_harmless_and_another_draft_is_refused(tmp_path: Path, target: TargetFacts) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "c"), tmp_path / "draft"
    first = package(checkpoint, out, target)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert package(checkpoint, out, target) == first
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another draft"):
        package(checkpoint, out, target, epoch=7)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, target: TargetFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("draftsmith.trainers.package.write_json", full)
    with pytest.raises(OSError, match="No space"):
        package(write_checkpoint(tmp_path / "c"), tmp_path / "out" / "draft", target)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"eagle_aux_hidden_state_layer_ids": None}, "names no layers"),
        ({"eagle_aux_hidden_state_layer_ids": [9, 6, 2]}, "not sorted"),
        ({"surprising_switch": True}, "surprising_switch"),
        ({"speculators_model_type": "mtp"}, "no EAGLE3"),
    ],
)
def test_checkpoints_that_cannot_be_served(
    tmp_path: Path, target: TargetFacts, changed: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        package(write_checkpoint(tmp_path / "c", **changed), tmp_path / "draft", target)
    assert not (tmp_path / "draft").exists()


def test_other_layers_than_trained_on_are_refused(tmp_path: Path, target: TargetFacts) -> None:
    with pytest.raises(InputError, match="were expected"):
        package(write_checkpoint(tmp_path / "c"), tmp_path / "draft", target, layer_ids=(1, 5, 8))


def test_a_plain_draft_gets_its_layers_in_the_engines_notation(tmp_path: Path, target: TargetFacts) -> None:
    nested = write_plain(tmp_path / "c", eagle_config={"use_aux_hidden_state": True})
    package(nested, tmp_path / "draft", target, layer_ids=(2, 6, 9))
    config = json.loads((tmp_path / "draft/config.json").read_text())
    assert config["eagle_aux_hidden_state_layer_ids"] == [2, 6, 9]
    assert lint_draft(tmp_path / "draft", target).at("error") == ()


def test_dflash_in_both_forms(tmp_path: Path, target: TargetFacts) -> None:
    for form in (False, True):
        out = tmp_path / f"draft-{form}"
        manifest = package(write_dflash(tmp_path / f"c-{form}", plain=form), out, target)
        assert manifest.layer_ids == (2, 6, 9), "id k = after k layers, whatever the file says"
        assert (manifest.has_own_embeddings, manifest.has_own_lm_head) == (False, False)
        assert [f.sentence for f in lint_draft(out, target).findings if f.level == "error"] == []


def test_dflash_with_full_attention_is_served_in_both_directions(tmp_path: Path, target: TargetFacts) -> None:
    for written in (None, False):  # the trainer's default says false, and means sliding layers only
        out = tmp_path / f"draft-{written}"
        package(write_dflash(tmp_path / f"c-{written}", sliding_window_non_causal=written), out, target)
        assert json.loads((out / "config.json").read_text())["sliding_window_non_causal"] is True


def test_a_new_training_finds_the_target_again(tmp_path: Path, target: TargetFacts) -> None:
    package(write_checkpoint(tmp_path / "c"), tmp_path / "draft", target)
    again = for_training(tmp_path / "draft", tmp_path / "warm", Path(target.path))
    config = json.loads((again / "config.json").read_text())
    assert config["speculators_config"]["verifier"]["name_or_path"] == target.path
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "draft/model.safetensors").read_bytes()
    kept = json.loads((tmp_path / "draft/config.json").read_text())
    assert kept["speculators_config"]["verifier"]["name_or_path"] == "small-llama", "the draft itself is unchanged"
