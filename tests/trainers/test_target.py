"""A target is read from its folder, or refused with the reason, before anything is spent on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folders import HIDDEN, LAYERS, VOCAB, write_target
from safetensors.numpy import save_file

from draftsmith.contract.errors import InputError
from draftsmith.trainers.layers import default_layers, stored, to_specforge
from draftsmith.trainers.target import read_target


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_target(folder)
    assert caught.value.next_step, "a refusal says what to do"
    return caught.value.message


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    facts = read_target(write_target(tmp_path / "m"))
    assert (facts.num_layers, facts.hidden_size, facts.vocab_size) == (LAYERS, HIDDEN, VOCAB)
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.dtype == "float16"
    assert facts.tied_embeddings
    assert not facts.has_mtp
    assert facts.quantization is None
    assert facts.weight_bytes == (VOCAB + 1) * HIDDEN * 2
    assert facts.rope == {"rope_theta": 10000.0, "rope_type": "default"}


def test_a_fine_tune_of_the_same_shape_is_another_target(tmp_path: Path) -> None:
    one, same, other = (read_target(write_target(tmp_path / n, seed=s)) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert one.sha256 == same.sha256 != other.sha256
    assert one.tokenizer_sha256 == other.tokenizer_sha256


def test_a_multimodal_model_is_read_by_its_text_part(tmp_path: Path) -> None:
    text = {
        "model_type": "qwen3_vl_text",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "vocab_size": VOCAB,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_theta": 5e6, "rope_type": "yarn", "factor": 2.0},
        "num_nextn_predict_layers": 1,
        "dtype": "bfloat16",
    }
    gone = dict.fromkeys(["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings", "rope_theta"])
    folder = write_target(
        tmp_path, **gone, architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl", text_config=text
    )
    facts = read_target(folder)
    assert facts.num_layers == LAYERS
    assert facts.model_type == "qwen3_vl_text"
    assert facts.has_mtp
    assert facts.rope == {"factor": 2.0, "rope_theta": 5e6, "rope_type": "yarn"}
    assert facts.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
            },
            "fp8",
        ),
        ({"quant_method": "awq", "bits": 4}, None),
        ({"quant_method": "gptq", "bits": 4}, None),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None),
        ({"quant_method": "mxfp4"}, None),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 4}}},
            },
            None,
        ),
    ],
)
def test_an_fp8_base_is_accepted_and_a_serving_copy_refused(
    tmp_path: Path, declared: dict[str, object], expected: str | None
) -> None:
    folder = write_target(tmp_path, quantization_config=declared)
    if expected:
        assert read_target(folder).quantization == expected
    else:
        assert "quantised serving copy" in refused(folder)
        assert str(declared["quant_method"]) in refused(folder)


def test_serving_copies_are_found_without_a_declaration(tmp_path: Path) -> None:
    exported = write_target(tmp_path / "nvfp4")
    (exported / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "NVFP4"}}))
    assert "NVFP4" in refused(exported)
    packed = write_target(tmp_path / "packed")
    save_file({"model.layers.0.mlp.up_proj.qweight": np.zeros((4, 4), np.int32)}, packed / "model.safetensors")
    assert "packed weights" in refused(packed)


def test_gpt_oss_is_released_in_mxfp4(tmp_path: Path) -> None:
    folder = write_target(tmp_path, architectures=["GptOssForCausalLM"], quantization_config={"quant_method": "mxfp4"})
    assert read_target(folder).quantization == "mxfp4"


def test_incomplete_folders(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "nowhere")
    for missing, words in (
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no *.safetensors"),
    ):
        folder = write_target(tmp_path / missing)
        (folder / missing).unlink()
        assert words in refused(folder)
    assert "hidden_size" in refused(write_target(tmp_path / "no-hidden", hidden_size=None))


def test_weights_that_could_run_code_or_are_quantised(tmp_path: Path) -> None:
    for name, words in (("pytorch_model.bin", "pickle"), ("model.gguf", "GGUF")):
        folder = write_target(tmp_path / name)
        (folder / "model.safetensors").rename(folder / name)
        assert words in refused(folder)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = write_target(tmp_path / "cut")
    raw = (folder / "model.safetensors").read_bytes()
    for damaged in (raw[:-10], raw[:40], b"", b"\xff" * 64):
        (folder / "model.safetensors").write_bytes(damaged)
        assert re.search("cut off|damaged", refused(folder))
    index = write_target(tmp_path / "index")
    for weight_map, words in (
        ({"a": "model-00001.safetensors"}, "missing"),
        ({"a": "../model.safetensors"}, "own folder"),
    ):
        (index / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        assert words in refused(index)


def test_unsupported_architecture_and_remote_code(tmp_path: Path) -> None:
    assert "Gemma3ForCausalLM" in refused(write_target(tmp_path / "a", architectures=["Gemma3ForCausalLM"]))
    assert "none named" in refused(write_target(tmp_path / "b", architectures=None))
    told = refused(write_target(tmp_path / "c", model_type="evil", auto_map={"AutoModel": "modeling.Evil"}))
    assert "model_type evil" in told
    assert "never runs" in told
    native = read_target(write_target(tmp_path / "d", auto_map={"AutoModel": "modeling.Evil"}))
    assert "not run" in native.warnings[0], "the engine knows this class by itself"


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    assert "another model" in refused(write_target(tmp_path / "larger", ids=VOCAB + 5))
    assert "another" in refused(write_target(tmp_path / "smaller", ids=10, eos_token_id=[2, 30]))
    broken = write_target(tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{}")
    assert "no vocabulary" in refused(broken)


@given(st.integers(7, 200))
def test_the_default_layers_are_the_same_in_both_notations(layers: int) -> None:
    ids = default_layers(layers)
    assert stored(ids) == ids, "sorted and unique"
    assert to_specforge(ids) == (1, layers // 2 - 1, layers - 4)


def test_layers_that_cannot_be_named() -> None:
    with pytest.raises(InputError):
        default_layers(6)
    with pytest.raises(InputError):
        to_specforge((0, 4))
    assert stored([9, 2, 2]) == (2, 9)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model.embed_tokens.weight": ((VOCAB, HIDDEN), np.int8)}, "stored as I8"),
        ({"model.embed_tokens.weight": ((VOCAB, HIDDEN // 2), np.float16)}, "config.json says"),
        ({"model.embed_tokens.weight": ((VOCAB - 1, HIDDEN), np.float16)}, "config.json says"),
        ({"model.norm.weight": ((HIDDEN + 1,), np.float16)}, "config.json says"),
        ({"model.norm.weight": None}, "final norm"),
        ({"model.embed_tokens.weight": None}, "embeddings"),
    ],
)
def test_ends_that_training_could_not_read_are_refused_at_once(
    changed: dict[str, tuple[tuple[int, ...], type] | None], words: str, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    target = write_target(tmp_path / "t")
    weights = load_file(target / "model.safetensors")
    for name, value in changed.items():
        weights.pop(name)
        if value is not None:
            weights[name] = np.ones(value[0], value[1])
    save_file(weights, target / "model.safetensors")
    with pytest.raises(InputError, match=words):
        read_target(target)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    target = write_target(tmp_path / "t")
    (target / "model.safetensors").rename(target / "model-00002-of-00003.safetensors")
    with pytest.raises(InputError, match=r"2 of 3 shards are missing, such as model-00001-of-00003\.safetensors"):
        read_target(target)


def test_a_published_file_may_hold_infinity(tmp_path: Path) -> None:
    folder = write_target(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"time_step_limit": [0.0, float("inf")]}
    (folder / "config.json").write_text(json.dumps(config))
    assert "Infinity" in (folder / "config.json").read_text()
    assert read_target(folder).num_layers == LAYERS


def test_layers_that_do_not_agree_with_the_weights(tmp_path: Path) -> None:
    for count, words in ((LAYERS - 3, "shards are missing"), (LAYERS + 20, "another model")):
        folder = write_target(tmp_path / str(count))
        names = [f"model.layers.{at}.mlp.up_proj.weight" for at in range(count)]
        save_file({name: np.zeros((2, 2), np.float16) for name in names}, folder / "model.safetensors")
        said = refused(folder)
        assert f"{count} layers and config.json says {LAYERS}" in said
        assert words in said


def test_an_unknown_architecture_is_shown_beside_the_known_ones_like_it(tmp_path: Path) -> None:
    said = refused(write_target(tmp_path, architectures=["Step3p7FlashForCausalLM"]))
    assert "it knows Step3p5ForCausalLM" in said
