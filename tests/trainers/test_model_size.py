"""Sizes counted from a configuration, against what publishers say of their models, and what a step reads of them."""

from __future__ import annotations

import pytest
from published import NAMES, published

from draftsmith.contract.model_size import ModelSize
from draftsmith.report.sol import prefill_floor
from draftsmith.trainers.model_size import model_size, weights_read
from draftsmith.trainers.weights import Tensor

# Billions of parameters, all and active a token, as each model's card or report says.
SAID = {
    "DeepSeek-V3": (671, 37),
    "Kimi-K2-Instruct": (1026, 32),
    "GLM-5": (744, 40),
    "MiniMax-M2.5": (229, 10),
    "MiMo-V2-Flash": (309, 15),
    "Qwen3-235B-A22B-FP8": (235, 22),
    "Qwen3-30B-A3B": (30.5, 3.3),
    "Qwen3-Coder-480B-A35B-Instruct": (480, 35),
    "Qwen3.5-27B": (27, 27),
    "Qwen3.5-35B-A3B": (35, 3),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": (31.6, 3.6),
    "Llama-4-Scout-17B-16E-Instruct": (109, 17),
    "gpt-oss-120b": (116.8, 5.1),
    "gpt-oss-20b": (20.9, 3.6),
    "Mixtral-8x7B-v0.1": (46.7, 12.9),
    "Meta-Llama-3.1-8B": (8.03, 8.03),
    "Meta-Llama-3.1-70B": (70.6, 70.6),
    "gemma-4-26B-A4B": (25.2, 3.8),
}
LOOSE = {
    "gpt-oss-20b": 0.20,
    "gpt-oss-120b": 0.15,
    "Qwen3.5-35B-A3B": 0.20,
    "MiniMax-M2.5": 0.12,
}  # cards that round, or leave out the embeddings


@pytest.mark.skipif(not NAMES, reason="the published configurations are not beside this repository")
@pytest.mark.parametrize("name", sorted(SAID))
def test_a_size_is_what_the_publisher_says(name: str) -> None:
    size = model_size(published(name))
    assert size is not None
    total, active = SAID[name]
    assert size.total / 1e9 == pytest.approx(total, rel=0.03)
    assert size.active / 1e9 == pytest.approx(active, rel=LOOSE.get(name, 0.06))


@pytest.mark.skipif(not NAMES, reason="the published configurations are not beside this repository")
def test_every_published_configuration_can_be_counted() -> None:
    assert [name for name in NAMES if model_size(published(name)) is None] == []


@pytest.mark.skipif(not NAMES, reason="the published configurations are not beside this repository")
@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("DeepSeek-V3", 61 * (512 + 64) * 2),  # latent: one vector of 512 and the rotated 64, a layer
        ("Meta-Llama-3.1-8B", 32 * 2 * 8 * 128 * 2),
        ("Qwen3.5-27B", 16 * 2 * 4 * 256 * 2),  # one layer in four keeps a cache
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 6 * 2 * 2 * 128 * 2),
    ],
)
def test_the_cache_of_a_token_by_hand(name: str, bytes_per_token: int) -> None:
    size = model_size(published(name))
    assert size is not None
    assert size.cache_bytes(1000) == 1000 * bytes_per_token


def test_a_window_stops_growing() -> None:
    size = ModelSize(dense=1, cache_elements=10, window_elements=30, window=128)
    assert size.cache_bytes(100) == 2 * 100 * 40
    assert size.cache_bytes(1000) == 2 * (1000 * 10 + 128 * 30)


def test_a_larger_batch_reads_more_experts() -> None:
    size = ModelSize(dense=1, routed=100, experts=128, chosen=8)
    assert size.experts_read(1) == pytest.approx(8 / 128)
    assert size.experts_read(64) == pytest.approx(1 - (120 / 128) ** 64)
    assert size.experts_read(1e6) == pytest.approx(1)


def test_prefill_is_bound_by_compute() -> None:
    size = ModelSize(dense=8_000_000_000, looked_up=500_000_000)
    assert prefill_floor(size, 1000, "NVIDIA H100 80GB HBM3") == pytest.approx(2 * 8e9 * 1000 / 989e12)
    assert prefill_floor(size, 1000, "NVIDIA GB300", devices=4) == pytest.approx(2 * 8e9 * 1000 / (4 * 2500e12))
    assert prefill_floor(size, 1000, "an unknown device") is None


def test_the_weights_that_are_there_are_sorted_by_what_reads_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    names = {
        "model.embed_tokens.weight": 100, "lm_head.weight": 100, "model.layers.0.self_attn.q_proj.weight": 10,
        "model.layers.0.mlp.experts.3.up_proj.weight": 7, "model.layers.0.mlp.experts.gate_up_proj_blocks": 70,
        "model.layers.0.mlp.shared_experts.up_proj.weight": 5, "model.layers.0.mlp.gate.weight": 1,
        "model.layers.2.mlp.experts.0.up_proj.weight": 9, "model.visual.blocks.0.weight": 50, "mtp.fc.weight": 4,
    }  # fmt: skip
    tensors = {name: Tensor(name, "U8", (size,), tmp_path, 0, size) for name, size in names.items()}
    assert weights_read(tensors, layers=2, tied=False) == (100 + 10 + 5 + 1, 77)
    assert weights_read(tensors, layers=2, tied=True) == (200 + 10 + 5 + 1, 77)
