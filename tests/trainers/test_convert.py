"""A draft in the notations of both engines: the same draft there and back, and refusals that say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from material import shared
from safetensors.numpy import load_file, save_file

from draftsmith.contract.errors import InputError
from draftsmith.engines.sglang.command import require_own_notation
from draftsmith.trainers.convert import convert_draft, notation
from draftsmith.trainers.draft_folder import AUX, Draft, read_draft

LAYER: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
    "num_hidden_layers": 1, "head_dim": 4, "vocab_size": 12, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    "hidden_act": "silu", "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
NESTED: dict[str, Any] = {
    "architectures": ["Eagle3DraftModel"], "speculators_model_type": "eagle3", "speculators_config": {},
    "transformer_layer_config": LAYER, AUX: [2, 15, 27], "draft_vocab_size": 6, "norm_before_residual": False,
    "norm_before_fc": True, "target_hidden_size": None, "dtype": "bfloat16",
}  # fmt: skip


def folder(place: Path, config: dict[str, Any], *, head: bool = True, mapped: bool = True) -> Path:
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    tensors = {"fc.weight": np.ones((8, 24), np.float32)}
    tensors |= {"lm_head.weight": np.ones((6, 8), np.float32)} if head else {}
    tensors |= {"d2t": np.zeros(6, np.int64)} if mapped else {}
    save_file(tensors, place / "model.safetensors")
    return place


def same(left: Draft, right: Draft) -> None:
    for name in ("method", "layer_ids", "hidden_size", "target_hidden_size", "vocab_size", "draft_vocab_size"):
        assert getattr(left, name) == getattr(right, name), name
    for name in ("norm_before_fc", "norm_before_residual", "norm_output", "fc_norm", "rope_parameters", "rms_norm_eps"):
        assert (left.option(name) or False) == (right.option(name) or False), name
    weights = [load_file(draft.folder / "model.safetensors") for draft in (left, right)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_there_and_back_is_the_same_draft(tmp_path: Path) -> None:
    source = folder(tmp_path / "v", NESTED)
    there = convert_draft(source, tmp_path / "s", "sglang")
    back = convert_draft(tmp_path / "s", tmp_path / "b", "vllm")
    assert (notation(source), notation(tmp_path / "s"), notation(tmp_path / "b")) == ("vllm", "sglang", "vllm")
    same(read_draft(source), there)
    same(read_draft(source), back)
    require_own_notation(tmp_path / "s")
    with pytest.raises(InputError, match="vLLM's notation"):
        require_own_notation(source)


def test_what_is_written_is_what_served_on_a_gpu(tmp_path: Path) -> None:
    """Key by key against the config of the draft that a real SGLang 0.5.17 served."""
    served = json.loads(shared("gpu-host", "sglang", "draft-sglang.config.json").read_text())
    layer = {key: served[key] for key in LAYER} | {"bos_token_id": 1, "eos_token_id": 2}
    ids = [k + 1 for k in served["eagle_config"][AUX]]
    switches = {name: served[name] for name in ("norm_before_fc", "norm_output", "fc_norm", "norm_before_residual")}
    nested = {
        **NESTED,
        "transformer_layer_config": layer,
        AUX: ids,
        "draft_vocab_size": served["draft_vocab_size"],
    } | switches
    convert_draft(folder(tmp_path / "v", nested), tmp_path / "s", "sglang")
    written = json.loads((tmp_path / "s" / "config.json").read_text())
    assert {key: served[key] for key in written} == written
    assert set(served) - set(written) <= {
        "attention_bias", "attention_dropout", "initializer_range", "mlp_bias", "use_cache"
    }  # fmt: skip


def test_a_draft_without_a_head_takes_the_targets(tmp_path: Path) -> None:
    whole = {**NESTED, "draft_vocab_size": 12}
    convert_draft(folder(tmp_path / "v", whole, head=False, mapped=False), tmp_path / "s", "sglang")
    assert json.loads((tmp_path / "s" / "config.json").read_text())["draft_vocab_size"] is None
    back = convert_draft(tmp_path / "s", tmp_path / "b", "vllm")
    assert back.draft_vocab_size == 12


@pytest.mark.parametrize("to", ["vllm", "sglang"])
def test_a_published_draft_that_names_no_layers_goes_to_either_engine(
    tmp_path: Path, to: Literal["vllm", "sglang"]
) -> None:
    """SpecForge writes a flat config without layers: both engines then read the same three."""
    flat = {key: value for key, value in LAYER.items() if key != "rope_parameters"} | {"rope_theta": 10000.0}
    source = folder(tmp_path / "f", flat | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 6})
    assert convert_draft(source, tmp_path / "out", to).layer_ids is None
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert AUX not in written
    assert AUX not in written.get("eagle_config", {})
    assert "num_aux_hidden_states" not in written, "three, unless it is said"
    assert written["norm_before_residual"] is False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({AUX: [0, 3, 5]}, "embedding"),
        ({AUX: None, "speculators_model_type": "dflash"}, "names no layers"),
        ({"speculators_model_type": "peagle"}, "P-EAGLE"),
        ({"embed_requires_grad": True}, "embeddings were trained"),
        ({"transformer_layer_config": LAYER | {"model_type": "qwen3"}}, "qwen3"),
        ({"speculators_model_type": "dflash"}, "vocabulary of its own"),
    ],
)
def test_what_sglang_cannot_serve_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    source = folder(tmp_path / "v", NESTED | changes)
    with pytest.raises(InputError, match=why):
        convert_draft(source, tmp_path / "s", "sglang")
    assert not (tmp_path / "s").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match="exists"):
        convert_draft(folder(tmp_path / "v", NESTED), tmp_path / "s", "sglang")
