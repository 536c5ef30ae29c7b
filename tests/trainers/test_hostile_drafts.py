"""Draft folders that were never filled, hold what the engine would read instead, or were made to hurt the reader."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import draft_tensors, write_checkpoint, write_target
from safetensors.numpy import save_file

from draftsmith.contract.draft import LintReport, TargetFacts
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.target import read_target

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


@pytest.fixture
def target(tmp_path: Path) -> TargetFacts:
    return read_target(write_target(tmp_path / "target"))


def errors(report: LintReport) -> str:
    return " ".join(finding.sentence for finding in report.findings if finding.level == "error")


def changed(folder: Path, **tensors: Any) -> Path:
    return write_checkpoint(folder, tensors=draft_tensors() | tensors)


def test_weights_that_were_never_filled(tmp_path: Path, target: TargetFacts) -> None:
    whole = draft_tensors()
    good = lint_draft(write_checkpoint(tmp_path / "good"), target)
    assert not [f for f in good.findings if f.check == "filled" and f.level != "ok"]
    random = np.random.default_rng(99).standard_normal(whole["embed_tokens.weight"].shape).astype(np.float16)
    for name, values, words in (
        ("random", {"embed_tokens.weight": random}, "not the target's"),
        ("head", {"lm_head.weight": np.zeros_like(whole["lm_head.weight"])}, "only zeros in lm_head.weight"),
        ("all", {k: np.zeros_like(v) for k, v in whole.items() if v.dtype == np.float16}, "only zeros in"),
    ):
        assert words in errors(lint_draft(changed(tmp_path / name, **values), target)), name


def test_embeddings_that_were_trained_on_are_a_warning(tmp_path: Path, target: TargetFacts) -> None:
    whole = draft_tensors()["embed_tokens.weight"]
    moved = (whole + 0.4 * np.random.default_rng(1).standard_normal(whole.shape)).astype(np.float16)
    found = [
        f
        for f in lint_draft(changed(tmp_path / "d", **{"embed_tokens.weight": moved}), target).findings
        if f.check == "filled"
    ]
    assert [f.level for f in found] == ["warn"]


def test_files_beside_the_weights_are_what_an_engine_may_load(tmp_path: Path, target: TargetFacts) -> None:
    for name in ("consolidated.safetensors", "model-00002-of-00002.safetensors"):
        folder = write_checkpoint(tmp_path / name)
        before = weights_sha256(folder)
        save_file({"lm_head.weight": np.full((10, 16), np.nan, np.float16)}, folder / name)
        assert name in errors(lint_draft(folder, target))
        assert weights_sha256(folder) != before, "another file is other weights"


def test_a_pipe_does_not_hang_the_reader(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "d")
    os.mkfifo(folder / "extra.safetensors")
    assert "extra.safetensors" in errors(lint_draft(folder, target))


def test_a_header_that_overlaps_leaves_gaps_or_bytes_behind(tmp_path: Path, target: TargetFacts) -> None:
    def header(folder: Path, spans: list[tuple[int, int]], tail: int = 0, dtype: str = "F16") -> Path:
        write_checkpoint(folder)
        table = {
            f"t{i}": {"dtype": dtype, "shape": [(b - a) // 2], "data_offsets": [a, b]} for i, (a, b) in enumerate(spans)
        }
        text = json.dumps(table).encode()
        end = max(b for _, b in spans)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * (end + tail))
        return folder

    assert "overlap or leave gaps" in errors(lint_draft(header(tmp_path / "a", [(0, 8), (4, 12)]), target))
    assert "overlap or leave gaps" in errors(lint_draft(header(tmp_path / "b", [(0, 8), (12, 16)]), target))
    assert "behind its last tensor" in errors(lint_draft(header(tmp_path / "c", [(0, 8)], tail=3), target))
    assert "unknown type" in errors(lint_draft(header(tmp_path / "d", [(0, 8)], dtype="X9"), target))


def test_programs_pickles_and_links_under_any_spelling(tmp_path: Path, target: TargetFacts) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number, name in enumerate(("x.PKL", "x.dill", "run.PY")):
        folder = write_checkpoint(tmp_path / str(number))
        (folder / name).write_bytes(b"x")
        assert name in errors(lint_draft(folder, target))
    folder = write_checkpoint(tmp_path / "link")
    (folder / "code").symlink_to(outside)
    assert "code" in errors(lint_draft(folder, target))


def test_names_from_a_foreign_file_forge_no_line(tmp_path: Path, target: TargetFacts) -> None:
    folder = changed(tmp_path / "d", **{"evil\x1b[2J\nok     finite": np.ones((2, 2), np.float16)})
    text = errors(lint_draft(folder, target))
    assert "\n" not in text
    assert "\x1b" not in text
    assert r"evil\x1b[2J\nok" in text


def test_a_map_of_a_hundred_gigabytes_is_not_read(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "d")
    path = folder / "model.safetensors"
    size = 2**34 * 8
    table = {"d2t": {"dtype": "I64", "shape": [2**34], "data_offsets": [0, size]}}
    text = json.dumps(table).encode()
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + size)
    assert not lint_draft(folder, target).passed


def test_a_head_count_of_zero_is_a_finding(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "d")
    config = json.loads((folder / "config.json").read_text())
    config["transformer_layer_config"] |= {"num_attention_heads": 0, "head_dim": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert not lint_draft(folder, target).passed


@pytest.mark.skipif(not CASES.is_dir(), reason="the collection of cases is not beside this repository")
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("drafts/B01_random_embed", "not the target's"),
        ("drafts/B01c_zero_lm_head", "only zeros"),
        ("drafts/B17_quantised_drafter", ""),
        ("drafts/B25_d2t_float", ""),
        ("drafts/B48_all_zero", "only zeros"),
        ("attack/03-lint-other-file/consolidated", "beside the weights"),
        ("attack/03-lint-other-file/extra_shard_noindex", "beside the weights"),
    ],
)
def test_drafts_that_others_made(case: str, words: str) -> None:
    folder = CASES / case
    found = errors(lint_draft(folder, read_target(folder.parent / "target"), served_tokens=512))
    assert words in found
    assert bool(found) == bool(words)
