"""Whether published models fit GPUs: the arithmetic against hand calculations, and splits that engines refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published import NAMES, published

from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.fit import DEGREES, fewest, fit, token_bytes
from draftsmith.trainers.model_size import model_size
from draftsmith.trainers.precision import serving_precision

GIB = 2**30
H100, H200 = 79.6, 140.4
needs_collection = pytest.mark.skipif(not NAMES, reason="the published configurations are not beside this repository")


def weights(name: str, precision: str | None) -> tuple[dict[str, Any], float]:
    config = published(name)
    size = model_size(config)
    assert size is not None
    return config, size.weight_bytes(precision)


@needs_collection
@pytest.mark.parametrize(
    ("name", "precision", "of_80", "of_141"),
    [
        ("Meta-Llama-3.1-8B", None, 1, 1),
        ("Meta-Llama-3.1-70B", None, 4, 2),
        ("Qwen3-235B-A22B-FP8", "fp8", 4, 2),
        ("MiniMax-M2.7", "fp8", 4, 2),
        ("DeepSeek-V3", "fp8", 16, 8),
        ("GLM-5.1-FP8", "fp8", 16, 8),
        ("gpt-oss-120b", "mxfp4", 1, 1),
    ],
)
def test_gpus_of_published_models(name: str, precision: str | None, of_80: int, of_141: int) -> None:
    """As their publishers serve them: 70B in 16 bits on 4 x 80 GB, DeepSeek-V3 on 8 x H200 and not on 8 x H100."""
    config, size = weights(name, precision)
    found = [fewest(config, size, gib, context=8192) for gib in (H100, H200)]
    assert [one.gpus if one else None for one in found] == [of_80, of_141]


@needs_collection
def test_a_cache_of_heads_is_split_and_a_latent_one_is_not() -> None:
    llama, latent = published("Meta-Llama-3.1-70B"), published("DeepSeek-V3")
    assert token_bytes(llama) == 2 * 80 * 8 * 128 * 2
    assert token_bytes(llama, 8) == token_bytes(llama) / 8
    assert token_bytes(llama, 16) == token_bytes(llama) / 8, "eight heads of keys: beyond eight GPUs they are copied"
    assert token_bytes(latent) == token_bytes(latent, 8) == 61 * 576 * 2


@needs_collection
def test_memory_by_hand() -> None:
    """70e9 parameters in 16 bits over four cards: 131.4 GiB / 4; what is left of 88 % of 79.6 is cache."""
    config, size = weights("Meta-Llama-3.1-70B", None)
    found = fit(config, size, 4, H100, context=8192)
    assert found.weights == pytest.approx(131.4 / 4, rel=0.01)
    assert found.cache == pytest.approx(0.88 * H100 - found.weights - found.draft - 4.0)
    a_token = 2 * 80 * 8 * 128 * 2 / 4 + 4096 / 4
    assert found.tokens == pytest.approx(found.cache * GIB / a_token, abs=1)
    assert "does not fit" in fit(config, size, 1, H100, context=8192).sentence
    assert not fit(config, size, 4, H100, context=8192, residents=2).fits, "two of them take turns"


@needs_collection
def test_degrees_that_engines_refuse() -> None:
    config, size = weights("Qwen3-32B-FP8-Static-PerTensor", "fp8")
    assert fit(config, size, 3, H100, context=2048).refused == "64 attention heads cannot be split over 3 GPUs"
    config, size = weights("MiniMax-M2.7", "fp8")
    odd = fit(config, size, 8, H100, context=2048)
    assert odd.fits
    assert "1,536 over 8 GPUs leave no whole FP8 blocks of 128" in odd.notes[0]
    assert not fit(config, size, 8, H100, context=2048, flags=("--enable-expert-parallel",)).notes
    dense = published("Qwen3-8B") | {
        "intermediate_size": 12288 - 128,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }
    assert "no whole FP8 blocks" in (fit(dense, 8e9, 4, H100, context=2048).refused or "")
    draft = published("Qwen3-8B") | {"num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128}
    assert fit(draft, 8e9, 8, H100, context=2048).refused is None
    assert "24 attention heads" in (fit(draft, 8e9, 16, H100, context=2048).refused or "")


@needs_collection
@pytest.mark.parametrize("name", NAMES)
def test_every_draft_splits_as_its_target_does(name: str) -> None:
    """A target that an engine can serve on n GPUs is not let down by its draft there."""
    config, size = weights(name, "fp8")
    for gpus in DEGREES[:4]:
        assert not (fit(config, size, gpus, H100, context=2048).refused or "").startswith("the draft's")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hidden_size": 64},
        {"hidden_size": "wide", "num_hidden_layers": None},
        {"text_config": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 10}},
        {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 10, "num_attention_heads": 0},
        {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 10, "num_attention_heads": 4,
         "max_position_embeddings": 8, "intermediate_size": 9, "hybrid_override_pattern": "M"},
    ],
)  # fmt: skip
def test_what_config_json_does_not_say_is_no_crash(config: dict[str, Any]) -> None:
    assert fit(config, 1e9, 2, H100, context=128).weights == pytest.approx(1e9 / 2 / GIB)
    assert token_bytes(config) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"num_hidden_layers": 10**9},
        {"rope_parameters": {"mrope_section": [None, 4, 4]}},
        {"rope_parameters": {"mrope_section": "wide"}},
        {"architectures": 1.5, "quantization_config": {"quant_method": "mxfp4"}},
    ],
)
def test_damaged_values_neither_hang_nor_crash(changed: dict[str, Any], tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 10, "num_attention_heads": 4, "max_position_embeddings": 8,
    }  # fmt: skip
    config |= changed
    draft_shape(config)
    model_size(config)
    serving_precision(tmp_path, config, {})
