"""Published configurations through the chain without weights: what is accepted can be trained, packaged, linted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import NAMES, TARGETS, published

from draftsmith.contract.errors import InputError
from draftsmith.engines.models import shipped
from draftsmith.trainers.draft_shape import SERVED_HEADS, DraftShape, draft_shape
from draftsmith.trainers.layers import default_layers, to_specforge
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.specforge_config import eagle3_config
from draftsmith.trainers.stand_in import find_ends, write_stand_in
from draftsmith.trainers.target import read_target
from draftsmith.trainers.target_config import text_config
from draftsmith.trainers.untrained import write_untrained
from draftsmith.trainers.weights import read_tensors, weight_files

needs_collection = pytest.mark.skipif(not NAMES, reason="the published configurations are not beside this repository")
REFUSED = {
    "DeepSeek-V3.2": "after the last layer",
    "GLM-5": "after the last layer",
    "GLM-5.1": "after the last layer",
    "GLM-5.1-FP8": "after the last layer",
    "GLM-5.2": "after the last layer",
    "GLM-5.1-NVFP4": "NVFP4",
    "Kimi-K2.5": "pack-quantized",
    "Kimi-K2.6-NVFP4": "NVFP4",
    "Kimi-K3": "mxfp4",
    "MiMo-7B-Base": "model_type mimo",
    "MiniMax-M2.7-NVFP4": "NVFP4",
    "MiniMax-M3": "not one that",
    "Mixtral-8x7B-v0.1": "no hidden states",
    "Qwen3-235B-A22B-NVFP4": "NVFP4",
    "Qwen3.6-35B-A3B-NVFP4": "MIXED_PRECISION",
}
ENDS = {
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight"),
    "Qwen3-VL-2B-Instruct": ("model.language_model.embed_tokens.weight", "model.language_model.norm.weight", None),
    "gemma-4-26B-A4B": ("model.language_model.embed_tokens.weight", "model.language_model.norm.weight", None),
}
USUAL = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def folder_of(name: str, place: Path) -> Path:
    """A target as published, but for its weights: the right names and shapes over holes in the file."""
    config = published(name)
    text = text_config(config)
    size, vocab = text["hidden_size"], text.get("vocab_size", config.get("vocab_size"))
    embed, norm, head = ENDS.get(name, USUAL)
    shapes = {embed: (vocab, size), norm: (size,), **({head: (vocab, size)} if head else {})}
    shapes["model.layers.0.self_attn.q_norm.weight"] = (4,)
    if text.get("num_nextn_predict_layers"):  # as DeepSeek ships its MTP layer: with a second set of both ends
        shapes |= {
            "model.layers.99.embed_tokens.weight": (vocab, size),
            "model.layers.99.shared_head.head.weight": (vocab, size),
        }
    folder = place / name
    folder.mkdir()
    for path in (TARGETS / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    header, at = {}, 0
    for key, shape in shapes.items():
        bytes_ = 2 * int(np.prod(shape))
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + bytes_]}
        at += bytes_
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(raw)) + raw)
        out.truncate(8 + len(raw) + at)
    ends = text.get("eos_token_id", config.get("eos_token_id"))
    top = max([end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)] + [1])
    vocabulary = {"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": top, "content": "<end>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    return folder


@needs_collection
@pytest.mark.parametrize("name", NAMES)
def test_a_published_model_is_accepted_or_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path)
    if name in REFUSED:
        with pytest.raises(InputError) as refused:
            read_target(folder)
        assert REFUSED[name] in refused.value.message
        assert refused.value.next_step
        return
    facts = read_target(folder)
    assert facts.architecture in published(name)["architectures"]
    ids = default_layers(facts.num_layers)
    assert to_specforge(ids) == tuple(layer - 1 for layer in ids)


ACCEPTED = [name for name in NAMES if name not in REFUSED]


@needs_collection
@pytest.mark.parametrize("name", ACCEPTED)
def test_one_shape_for_plan_trainer_recipe_and_lint(name: str, tmp_path: Path) -> None:
    """An untrained draft of the shape passes lint against its target: nothing that config.json shows fails afterwards."""
    folder = folder_of(name, tmp_path)
    facts, shape = read_target(folder), draft_shape(published(name))
    assert shape.head_dim in SERVED_HEADS
    assert shape.num_attention_heads % shape.num_key_value_heads == 0
    assert shape.cache_bytes_per_token <= 8192, "a draft's cache stays small beside the target's"
    recipe = eagle3_config(published(name), 32_000, default_layers(facts.num_layers))
    widths = set(DraftShape.model_fields) - {"rope", "rms_norm_eps"}
    assert {key: recipe[key] for key in widths} == {key: getattr(shape, key) for key in widths}
    small = facts.model_copy(update={"path": str(_narrow(folder, tmp_path / "narrow"))})
    small = small.model_copy(update={"hidden_size": 256, "vocab_size": 512})
    draft = write_untrained(small, tmp_path / "draft", default_layers(facts.num_layers), 64)
    report = lint_draft(draft, small, served_tokens=2048)
    errors = [found.sentence for found in report.findings if found.level == "error"]
    assert errors == []
    assert not [found.sentence for found in report.findings if found.check == "rope" and found.level != "ok"]


def _narrow(folder: Path, out: Path) -> Path:
    """The same configuration with a small width and vocabulary, so that a draft of it is a few megabytes."""
    out.mkdir()
    config = json.loads((folder / "config.json").read_text())
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key, value in (("hidden_size", 256), ("vocab_size", 512), ("intermediate_size", 768)):
            if key in part:
                part[key] = value
        if "num_attention_heads" in part:
            part["num_attention_heads"], part["num_key_value_heads"] = 8, 4
    (out / "config.json").write_text(json.dumps(config))
    return out


@needs_collection
@pytest.mark.parametrize("name", ACCEPTED)
def test_the_two_ends_of_a_target_are_found(name: str, tmp_path: Path) -> None:
    ends = find_ends(read_tensors(weight_files(folder_of(name, tmp_path))))
    embed, norm, head = ENDS.get(name, USUAL)
    assert (ends.embeddings.name, ends.norm.name) == (embed, norm)
    assert (ends.head.name if ends.head else None) == head


@pytest.mark.foreign
@needs_collection
def test_the_trainer_builds_its_model_for_every_accepted_target(tmp_path: Path) -> None:
    """speculators' own resolution and model class, from the stand-in and the decoder it is told."""
    pytest.importorskip("speculators")
    from speculators.train.cli import load_draft_transformer_layer_config
    from transformers import AutoConfig

    for name in ACCEPTED:
        folder = folder_of(name, tmp_path)
        narrow = _narrow(folder, tmp_path / f"{name}-narrow")
        _fill(narrow, name)
        place = write_stand_in(narrow, tmp_path / f"{name}-stand-in")
        config = AutoConfig.from_pretrained(place)
        assert (config.hidden_size, config.vocab_size) == (256, 512)
        told = tmp_path / f"{name}.json"
        told.write_text(json.dumps(draft_shape(json.loads((narrow / "config.json").read_text())).layer_config()))
        layer = load_draft_transformer_layer_config(str(told), str(place))
        assert layer.num_hidden_layers == 1
        assert layer.hidden_size == 256


def _fill(folder: Path, name: str) -> None:
    from safetensors.numpy import save_file

    embed, norm, head = ENDS.get(name, USUAL)
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        embed: random.standard_normal((512, 256)).astype(np.float16),
        norm: np.ones(256, np.float16),
    }
    if head:
        values[head] = random.standard_normal((512, 256)).astype(np.float16)
    save_file(values, folder / "model.safetensors")


def test_a_norm_that_counts_from_one_is_written_as_it_multiplies(tmp_path: Path) -> None:
    from model_folders import HIDDEN, write_target
    from safetensors.numpy import load_file

    for kind, expected in (("llama", 1.0), ("qwen3_next", 2.0)):
        target = write_target(tmp_path / kind, model_type=kind, num_attention_heads=4, intermediate_size=40)
        place = write_stand_in(target, tmp_path / f"{kind}-stand-in")
        weights = load_file(place / "model.safetensors")
        assert weights["model.norm.weight"].tolist() == [expected] * HIDDEN
        assert set(weights) == {"model.embed_tokens.weight", "model.norm.weight"}, "tied: the embeddings are the head"
        assert (place / "model.safetensors").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": -4}, "hidden_size"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"max_position_embeddings": True}, "max_position_embeddings"),
    ],
)
def test_contradictory_widths_are_refused(config: dict[str, Any], words: str) -> None:
    whole = {"hidden_size": 512, "vocab_size": 100, "max_position_embeddings": 64, "num_attention_heads": 8}
    with pytest.raises(InputError, match=words):
        draft_shape(whole | config)


def test_the_list_for_machines_without_an_engine_is_of_a_release() -> None:
    known = shipped()
    assert known.models["LlamaForCausalLM"].hidden_states
    assert not known.models["MixtralForCausalLM"].hidden_states
    assert not known.models["GlmMoeDsaForCausalLM"].last_state
    assert {"llama", "qwen3", "glm_moe_dsa"} <= known.model_types
