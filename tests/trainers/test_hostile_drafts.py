"""Draft folders that were never filled, hold what the engine would read instead, or were made to hurt the reader."""

from __future__ import annotations

import json
import os
import pickle
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


def clean(folder: Path, **tensors: Any) -> Path:
    """As it is packaged: without the trainer's programs, pickles and request for code."""
    write_checkpoint(folder, tensors=draft_tensors() | tensors, auto_map=None)
    for name in ("config.py", "optimizer_state_dict.pt", "train_command.txt"):
        (folder / name).unlink()
    return folder


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


def test_weights_that_were_filled_in_part_or_with_one_value(tmp_path: Path, target: TargetFacts) -> None:
    whole = draft_tensors()
    own, head = whole["embed_tokens.weight"], whole["lm_head.weight"]
    half = own.copy()
    half[len(half) // 2 :] = 0
    for name, values, words in (
        ("half", {"embed_tokens.weight": half}, "not the target's"),
        ("one value", {"lm_head.weight": np.full_like(head, 0.02)}, "one value throughout in lm_head.weight"),
        ("minus zero", {"embed_tokens.weight": np.full_like(own, -0.0)}, "only zeros in embed_tokens.weight"),
        ("norm", {"norm.weight": np.zeros_like(whole["norm.weight"])}, "only zeros in norm.weight"),
    ):
        assert words in errors(lint_draft(changed(tmp_path / name, **values), target)), name


def test_a_nan_of_eight_bits_is_one(tmp_path: Path) -> None:
    from draftsmith.trainers.weights import count_not_finite, read_tensors

    table, body = {}, bytes([0x7F, 0xFF, 0x7E, 0x08])
    for place, dtype in enumerate(("F8_E4M3", "F8_E5M2", "F8_E8M0")):
        table[dtype] = {"dtype": dtype, "shape": [4], "data_offsets": [place * 4, place * 4 + 4]}
    text = json.dumps(table).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body * 3)
    found = read_tensors((tmp_path / "w.safetensors",))
    assert [count_not_finite(found[name]) for name in ("F8_E4M3", "F8_E5M2", "F8_E8M0")] == [2, 3, 1]


def test_weights_larger_than_any_draft_are_not_read(tmp_path: Path, target: TargetFacts) -> None:
    """A file with holes claims any size for nothing: two terabytes here."""
    folder = write_checkpoint(tmp_path / "d")
    path, size = folder / "model.safetensors", 2**41
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    table, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    table["mask_hidden"] = {"dtype": "F16", "shape": [size // 2], "data_offsets": [len(body), len(body) + size]}
    text = json.dumps(table).encode()
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + body)
        out.truncate(8 + len(text) + len(body) + size)
    assert "no draft is so large" in errors(lint_draft(folder, target))


def test_a_file_is_what_its_bytes_are_and_not_what_its_name_says(tmp_path: Path, target: TargetFacts) -> None:
    for number, (name, body, words) in enumerate((
        ("vocab.txt", pickle.dumps(print, protocol=4), "pickles or archives"),
        ("weights.dat", b"PK\x03\x04data.pkl", "pickles or archives"),
        ("NOTICE", b"#!/bin/sh\nexit", "programs: NOTICE"),
        ("README", b"\x7fELF\x02\0", "programs: README"),
        ("x.so.1", b"x", "programs: x.so.1"),
        ("x.PT2", b"x", "pickles or archives"),
    )):  # fmt: skip
        folder = clean(tmp_path / str(number))
        (folder / name).write_bytes(body)
        assert words in errors(lint_draft(folder, target)), name
    folder = clean(tmp_path / "good")
    (folder / "README.md").write_text("# Draft, naïve\n" * 600)
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0e\xff\0")
    (folder / "figure.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    assert not errors(lint_draft(folder, target))
    (folder / "events.out.tfevents.7").write_bytes(b"\x18\0\0\xff")
    warned = [f.sentence for f in lint_draft(folder, target).at("warn")]
    assert any("events.out.tfevents.7" in sentence for sentence in warned)


def test_weights_whose_header_is_as_long_as_a_pickle_s_mark_are_weights(tmp_path: Path, target: TargetFacts) -> None:
    """A length of 1,408 bytes is written 80 05, as protocol 5 of pickle begins."""
    folder = clean(tmp_path / "d")
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    wanted = 0x0580 + 0x10000 * (length >> 16) + (0x10000 if length % 0x10000 > 0x0580 else 0)
    path.write_bytes(struct.pack("<Q", wanted) + raw[8 : 8 + length].ljust(wanted) + raw[8 + length :])
    assert not errors(lint_draft(folder, target))


def test_code_that_another_file_of_the_folder_asks_for(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "d")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["t.T", null]}}')
    assert "tokenizer_config.json asks for code" in errors(lint_draft(folder, target))


def test_values_of_a_foreign_config_forge_no_line_and_flood_nothing(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "d")
    config = json.loads((folder / "config.json").read_text())
    config |= {"dtype": "float16\x1b[2J\nok     files", "eagle_aux_hidden_state_layer_ids": list(range(50_000))}
    (folder / "config.json").write_text(json.dumps(config))
    text = "".join(finding.sentence + finding.next_step for finding in lint_draft(folder, target).findings)
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) < 20_000


PROJECTIONS = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj")  # fmt: skip


def quantised(folder: Path, scheme: str) -> Path:
    """A draft whose projections are written as a scheme writes them."""
    tensors = draft_tensors()
    for name in [f"layers.0.{one}" for one in PROJECTIONS]:
        rows, columns = tensors.pop(f"{name}.weight").shape
        tensors |= {
            "awq": {
                f"{name}.qweight": np.full((columns, rows // 8), 3, np.int32) + np.arange(rows // 8, dtype=np.int32),
                f"{name}.qzeros": np.ones((1, max(1, rows // 8)), np.int32),
                f"{name}.scales": np.ones((1, rows), np.float16),
            },
            "packed": {
                f"{name}.weight_packed": np.arange(rows * columns // 8, dtype=np.int32).reshape(rows, -1),
                f"{name}.weight_scale": np.ones((rows, 1), np.float16),
                f"{name}.weight_shape": np.array([rows, columns]),
            },
            "nvfp4": {
                f"{name}.weight": np.arange(rows * columns // 2, dtype=np.uint32).astype(np.uint8).reshape(rows, -1),
                f"{name}.weight_scale_2": np.ones(1, np.float32),
                f"{name}.input_scale": np.ones(1, np.float32),
            },
            "bitsandbytes": {
                f"{name}.weight": np.arange(rows * columns // 2, dtype=np.uint32).astype(np.uint8).reshape(-1, 1),
                f"{name}.weight.absmax": np.ones(4, np.float32),
                f"{name}.weight.quant_state.bitsandbytes__nf4": np.ones(90, np.uint8),
            },
            "too short": {
                f"{name}.qweight": np.ones((3, 3), np.int32),
                f"{name}.scales": np.ones((1, rows), np.float16),
            },
        }[scheme]
    clean(folder)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": scheme}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("scheme", ["awq", "packed", "nvfp4", "bitsandbytes", "too short"])
def test_drafts_in_the_form_of_every_scheme_that_engines_load(tmp_path: Path, target: TargetFacts, scheme: str) -> None:
    found = errors(lint_draft(quantised(tmp_path / "d", scheme), target))
    assert ("tensors are missing" in found) == (scheme == "too short"), found
    assert bool(found) == (scheme == "too short"), found
    folder = quantised(tmp_path / "plain", scheme)
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    assert errors(lint_draft(folder, target)), "nothing tells the engine that it is quantised"


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
