"""Each way a draft ruins acceptance behind a healthy server, broken on purpose and found in its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from depth import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from model_folders import (
    HIDDEN,
    IDS,
    VOCAB,
    draft_tensors,
    vocabulary_tensors,
    write_checkpoint,
    write_dflash,
    write_plain,
    write_target,
)
from safetensors.numpy import save_file

from draftsmith.contract.draft import LintReport, TargetFacts
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.package import package_draft
from draftsmith.trainers.target import read_target
from draftsmith.trainers.weights import read_tensors


@pytest.fixture
def target(tmp_path: Path) -> TargetFacts:
    return read_target(write_target(tmp_path / "target"))


@pytest.fixture
def draft(tmp_path: Path, target: TargetFacts) -> Path:
    package_draft(write_checkpoint(tmp_path / "c"), tmp_path / "draft", target=target, trainer="speculators")
    return tmp_path / "draft"


def edit(folder: Path, change: Callable[[dict[str, object]], object], name: str = "config.json") -> Path:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))
    return folder


def errors(report: LintReport, check: str) -> str:
    found = [f for f in report.at("error") if f.check == check]
    assert found, f"no error of {check} in {[(f.level, f.check, f.sentence) for f in report.findings]}"
    assert all(f.next_step for f in found)
    assert not report.passed
    return " / ".join(f.sentence for f in found)


LAYERS = "eagle_aux_hidden_state_layer_ids"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 5, 8], "SpecForge's notation"),
        ([3, 7, 10], "moved up by one"),
        ([9, 6, 2], "not sorted"),
        ([2, 2, 9], "not sorted and unique"),
        ([2, 6, 13], "beyond the target"),
        ([-1, 6, 9], "beyond the target"),
        (None, "names no layers"),
        ([2, 7, 9], "the manifest"),
        (["2", 6], "no list of layer ids"),
    ],
)
def test_layers(draft: Path, target: TargetFacts, ids: list[int] | None, words: str) -> None:
    report = lint_draft(edit(draft, lambda c: c.update({LAYERS: ids})), target)
    assert words in errors(report, "readable" if words.startswith("no list") else "layers")


def test_layers_of_a_plain_draft(tmp_path: Path, target: TargetFacts) -> None:
    unsaid = lint_draft(write_plain(tmp_path / "a"), target)
    assert any("takes its default" in f.sentence for f in unsaid.at("warn"))
    nested = lint_draft(write_plain(tmp_path / "b", eagle_config={LAYERS: [2, 6, 9]}), target)
    assert "inside eagle_config" in errors(nested, "layers")
    foreign = lint_draft(write_plain(tmp_path / "c", **{LAYERS: [2, 5, 9]}), target)
    assert any("not the usual" in f.sentence for f in foreign.at("warn"))


def test_more_layers_than_the_engine_will_expect(tmp_path: Path, target: TargetFacts) -> None:
    checkpoint = write_checkpoint(tmp_path / "four", tensors=draft_tensors(4), **{LAYERS: [2, 5, 7, 9]})
    assert "features of 3 layers, and 4" in errors(lint_draft(checkpoint, target), "sizes")
    package_draft(checkpoint, tmp_path / "out", target=target, trainer="speculators")
    assert lint_draft(tmp_path / "out", target).passed, "packaging writes the count out"


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ({"d2t": np.arange(len(IDS))}, "counts up by one"),
        ({"d2t": np.zeros(len(IDS), np.int64)}, "all zeros"),
        ({"d2t": IDS.astype(np.int64)}, "target ids where offsets"),
        ({"d2t": np.array([0, 0, 1, 4, 4, 7, 14, 14, 22, 99])}, "outside the vocabulary"),
        ({"d2t": np.array([0, 0, 0, 4, 4, 7, 14, 14, 22, -9])}, "same token twice"),
        (vocabulary_tensors(IDS) | {"t2d": vocabulary_tensors(IDS + (IDS < 39))["t2d"]}, "different tokens"),
        ({"d2t": None, "t2d": None}, "no d2t"),
    ],
)
def test_vocabulary_maps(tmp_path: Path, target: TargetFacts, maps: dict[str, np.ndarray | None], words: str) -> None:
    tensors = {name: t for name, t in (draft_tensors() | maps).items() if t is not None}
    report = lint_draft(write_checkpoint(tmp_path / "c", tensors=tensors), target)
    assert words in errors(report, "vocabulary map")


def test_a_warm_start_keeps_vocabulary_and_layers(tmp_path: Path, target: TargetFacts, draft: Path) -> None:
    other = draft_tensors() | vocabulary_tensors(np.array([0, 1, 3, 7, 8, 12, 20, 21, 30, 38]))
    child = write_checkpoint(tmp_path / "child", tensors=other, **{LAYERS: [2, 7, 9]})
    report = lint_draft(child, target, parent=draft)
    assert "every output row means another token" in errors(report, "vocabulary map")
    assert "layer_ids" in errors(report, "parent")
    same = lint_draft(draft, target, parent=draft)
    assert same.passed
    assert any(f.check == "parent" for f in same.at("ok"))


def test_positions(draft: Path, target: TargetFacts) -> None:
    assert "400" not in str(lint_draft(draft, target, served_tokens=400).at("error"))
    assert "600 tokens are served" in errors(lint_draft(draft, target, served_tokens=600), "rope")
    edit(draft, lambda c: c["transformer_layer_config"].update(max_position_embeddings=256))  # type: ignore[attr-defined]
    assert any("max_position_embeddings is 256" in f.sentence for f in lint_draft(draft, target).at("warn"))


def test_rope_settings_lost_in_conversion(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0}
    target = read_target(write_target(tmp_path / "scaled", rope_scaling=scaling))
    foreign = write_checkpoint(tmp_path / "c")
    assert any(
        "rope_type is default, the target has llama3" in f.sentence for f in lint_draft(foreign, target).at("warn")
    )
    package_draft(foreign, tmp_path / "draft", target=target, trainer="speculators")
    assert "factor is not written" in errors(lint_draft(tmp_path / "draft", target), "rope")
    told = {"rope_parameters": {**scaling, "rope_theta": 10000}}
    good = write_checkpoint(tmp_path / "good", layer=told)
    assert not [f for f in lint_draft(good, target).findings if f.check == "rope" and f.level != "ok"]


def test_sizes_of_another_target(tmp_path: Path, draft: Path) -> None:
    larger = read_target(write_target(tmp_path / "larger", vocab_size=VOCAB + 8))
    said = lint_draft(draft, larger)
    assert "vocabulary of 40 tokens, the target has 48" in errors(said, "sizes")
    assert "another target" in errors(said, "manifest")
    wider = read_target(write_target(tmp_path / "wider", hidden_size=HIDDEN * 2))
    assert "width 16" in errors(lint_draft(draft, wider), "sizes")


def test_an_absurd_number_of_layers(tmp_path: Path, target: TargetFacts) -> None:
    report = lint_draft(write_checkpoint(tmp_path / "c", layer={"num_hidden_layers": 2**70}), target)
    assert "a few layers" in errors(report, "shapes")


def test_weights_that_do_not_fit(tmp_path: Path, target: TargetFacts) -> None:
    tensors = draft_tensors()
    tensors["fc.weight"] = tensors["fc.weight"][:, :-1].copy()
    tensors["extra.weight"] = tensors["norm.weight"]
    del tensors["layers.0.hidden_norm.weight"]
    said = errors(lint_draft(write_checkpoint(tmp_path / "c", tensors=tensors), target), "shapes")
    assert "fc.weight is [16, 47], expected [16, 48]" in said
    assert "missing: layers.0.hidden_norm.weight" in said
    assert "no place for: extra.weight" in said


def test_heads_and_embeddings(tmp_path: Path, target: TargetFacts, draft: Path) -> None:
    tensors = draft_tensors()
    del tensors["lm_head.weight"]
    headless = write_checkpoint(tmp_path / "c", tensors=tensors)
    assert "other rows" in errors(lint_draft(headless, target), "sharing")
    edit(draft, lambda m: m.update(has_own_embeddings=False), "draft-manifest.json")
    assert "the target's embeddings, the weights say otherwise" in errors(lint_draft(draft, target), "sharing")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, target: TargetFacts, value: float) -> None:
    tensors = draft_tensors()
    tensors["lm_head.weight"][3, 5] = value
    said = errors(lint_draft(write_checkpoint(tmp_path / "c", tensors=tensors), target), "finite")
    assert "lm_head.weight (1)" in said


def test_bfloat16_is_looked_at_by_its_bits(tmp_path: Path, target: TargetFacts) -> None:
    folder = write_checkpoint(tmp_path / "c", dtype="bfloat16")
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    assert raw.count(b'"F16"') == 15
    as_bf16 = raw.replace(b'"F16"', b'"BF16"')
    header = int.from_bytes(raw[:8], "little") + 15
    ones = np.full((len(raw) - 8 - (header - 15)) // 2, 0x3F80, "<u2").tobytes()
    file.write_bytes(header.to_bytes(8, "little") + as_bf16[8 : 8 + header] + ones)
    assert [f.level for f in lint_draft(folder, target).findings if f.check in ("finite", "dtype")] == ["ok", "ok"]
    (head,) = (t for t in read_tensors((file,)).values() if t.name == "lm_head.weight")
    for bits, level in ((0x7F7F, "ok"), (0x7F80, "error"), (0xFFC1, "error")):  # largest number, infinity, NaN
        broken = bytearray(file.read_bytes())
        broken[head.start + 6 : head.start + 8] = bits.to_bytes(2, "little")
        file.write_bytes(bytes(broken))
        assert [f.level for f in lint_draft(folder, target).findings if f.check == "finite"] == [level]


def test_programs_and_pickles(tmp_path: Path, target: TargetFacts) -> None:
    said = errors(lint_draft(write_checkpoint(tmp_path / "c"), target), "files")
    for words in ("config.py", "optimizer_state_dict.pt", "auto_map"):
        assert words in said


def test_a_manifest_of_other_weights(draft: Path, target: TargetFacts) -> None:
    tensors = draft_tensors()
    tensors["norm.weight"] += 1
    save_file(tensors, draft / "model.safetensors")
    assert "weights in the manifest" in errors(lint_draft(draft, target), "manifest")
    (draft / "draft-manifest.json").write_text('{"schema": "another"}')
    assert "schema" in errors(lint_draft(draft, target), "manifest")


def test_another_tokenizer(tmp_path: Path, draft: Path) -> None:
    changed = write_target(tmp_path / "changed")
    (changed / "tokenizer.json").write_text((changed / "tokenizer.json").read_text() + "\n")
    assert "another tokenizer" in errors(lint_draft(draft, read_target(changed)), "manifest")


def test_dflash_needs_its_mask_token(tmp_path: Path, target: TargetFacts) -> None:
    assert "mask_token_id" in errors(lint_draft(write_dflash(tmp_path / "a", mask_token_id=None), target), "switches")
    assert "names no layers" in errors(
        lint_draft(write_dflash(tmp_path / "b", aux_hidden_state_layer_ids=None), target), "layers"
    )


def test_dflash_has_one_causality_in_the_engine(tmp_path: Path, target: TargetFacts) -> None:
    backwards = lint_draft(write_dflash(tmp_path / "a", sliding_window_non_causal=False), target)
    assert "see backwards only" in errors(backwards, "switches")
    found = lint_draft(write_dflash(tmp_path / "b", sliding_window_non_causal=True), target).at("error")
    assert [f.check for f in found] == ["files"], "only the programs that a checkpoint comes with"


def test_folders_that_are_no_drafts(tmp_path: Path, target: TargetFacts) -> None:
    assert "no folder" in errors(lint_draft(tmp_path / "nowhere", target), "files")
    assert "no EAGLE3" in errors(lint_draft(Path(target.path), target), "readable")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in errors(lint_draft(tmp_path / "empty", target), "readable")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    "architectures", "draft_vocab_size", LAYERS, "speculators_config", "speculators_model_type", "dtype",
    "transformer_layer_config", "target_hidden_size", "norm_before_fc", "fc_norm", "eagle_config", "dflash_config",
]  # fmt: skip
LAYER_KEYS = [
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "vocab_size", "rope_parameters", "rope_scaling", "layer_types", "sliding_window", "max_position_embeddings",
    "num_aux_hidden_states",
]  # fmt: skip


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=st.dictionaries(st.sampled_from(KEYS), json_values, max_size=2),
    layer=st.dictionaries(st.sampled_from(LAYER_KEYS), json_values, max_size=2),
)
def test_no_configuration_is_answered_with_a_traceback(
    draft: Path, target: TargetFacts, top: dict[str, object], layer: dict[str, object]
) -> None:
    kept = (draft / "config.json").read_text()
    config = json.loads(kept)
    config["transformer_layer_config"].update(layer)
    config.update(top)
    try:
        (draft / "config.json").write_text(json.dumps(config))
        assert lint_draft(draft, target).findings
    finally:
        (draft / "config.json").write_text(kept)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1500), junk=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_no_weights_are_answered_with_a_traceback(
    draft: Path, target: TargetFacts, at: int, junk: bytes, cut: bool
) -> None:
    file = draft / "model.safetensors"
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[:at] + junk + (b"" if cut else kept[at + len(junk) :]))
        assert lint_draft(draft, target).findings
    finally:
        file.write_bytes(kept)
