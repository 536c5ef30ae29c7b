"""An untrained draft has the shape of a trained one: its target's lint finds nothing to stop it for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_folders import CONFIG, write_target
from safetensors.numpy import load_file

from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_folder import read_draft
from draftsmith.trainers.draft_shapes import expected_tensors
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.target import read_target
from draftsmith.trainers.untrained import default_draft_vocab, write_untrained

WIDTHS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 24}


def test_the_folder_is_one_that_the_engine_would_load(tmp_path: Path) -> None:
    target = read_target(write_target(tmp_path / "target", **WIDTHS))
    folder = write_untrained(target, tmp_path / "draft", (2, 6, 9), 10)
    draft = read_draft(folder)
    expected = expected_tensors(draft)
    assert expected is not None
    assert {name: tensor.shape for name, tensor in draft.tensors.items()} == expected[0]
    assert draft.layer_ids == (2, 6, 9)
    report = lint_draft(folder, target, served_tokens=256)
    assert {finding.check for finding in report.findings if finding.level == "error"} == {"filled"}, (
        "it has learned nothing"
    )


def test_its_map_is_sound_and_its_weights_are_not_zeros(tmp_path: Path) -> None:
    target = read_target(write_target(tmp_path / "target", **WIDTHS))
    tensors = load_file(write_untrained(target, tmp_path / "draft", (2, 6, 9), 10) / "model.safetensors")
    assert np.array_equal(np.flatnonzero(tensors["t2d"]), np.arange(10) + tensors["d2t"])
    assert float(np.abs(tensors["fc.weight"]).mean()) > 0.005


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    target = read_target(write_target(tmp_path / "target", **WIDTHS))
    folder = write_untrained(target, tmp_path / "draft", (2, 6, 9), 10)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert write_untrained(target, tmp_path / "draft", (2, 6, 9), 10) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_target_that_does_not_say_its_widths_is_refused_with_a_way_out(tmp_path: Path) -> None:
    assert "num_attention_heads" not in CONFIG
    target = read_target(write_target(tmp_path / "target"))
    with pytest.raises(InputError, match="num_attention_heads") as refused:
        write_untrained(target, tmp_path / "draft", (2, 6, 9), 10)
    assert "--draft" in refused.value.next_step
    assert not (tmp_path / "draft").exists()


def test_without_a_corpus_the_vocabulary_is_a_quarter_of_the_targets(tmp_path: Path) -> None:
    assert default_draft_vocab(read_target(write_target(tmp_path / "target"))) == 10
