"""What may replace the weights of a draft that serves: each thing that can be wrong with it is named before it is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from draftsmith.work.inside import hot_swap_weights as weights
from draftsmith.work.inside.hot_swap_weights import RefusedDraftError

CONFIG = {"architectures": ["LlamaForCausalLMEagle3"], "hidden_size": 8, "dtype": "float32"}
VOCAB = 64


def tensors(seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    ids = torch.arange(0, VOCAB, 2)[:16]
    marks = torch.zeros(VOCAB, dtype=torch.bool)
    marks[ids] = True
    layer = "layers.0.self_attn"
    return {
        "d2t": ids - torch.arange(16), "t2d": marks, "embed_tokens.weight": torch.ones(VOCAB, 8),
        f"{layer}.q_proj.weight": torch.randn(8, 16), f"{layer}.k_proj.weight": torch.randn(4, 16),
        f"{layer}.v_proj.weight": torch.randn(4, 16), "lm_head.weight": torch.randn(16, 8), "norm.weight": torch.randn(8),
    }  # fmt: skip


def check(found: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    shared = {"embed_tokens.weight": torch.ones(VOCAB, 8)}
    weights.check(config or CONFIG, found, CONFIG, weights.shapes(tensors()), shared, VOCAB)


def test_a_draft_of_the_same_shape_passes_and_versions_may_differ() -> None:
    check(tensors(1))
    check(tensors(1), CONFIG | {"transformers_version": "9", "dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("norm.weight"), "norm.weight"),
        (lambda t: t.update({"extra": torch.ones(1)}), "extra"),
        (lambda t: t.update({"lm_head.weight": torch.randn(15, 8)}), "lm_head.weight"),
        (lambda t: t.update({"norm.weight": torch.randn(8).half()}), "norm.weight"),
        (lambda t: t["norm.weight"].fill_(float("nan")), "no numbers in norm.weight"),
        (lambda t: t.update({"d2t": t["d2t"] + VOCAB}), "one-to-one"),
        (lambda t: t.update({"d2t": -torch.arange(16)}), "one-to-one"),
        (lambda t: t["t2d"].fill_(False), "disagree"),
        (lambda t: t["embed_tokens.weight"].fill_(2.0), "shared with the target"),
    ],
)
def test_what_is_wrong_is_named(spoil: Any, words: str) -> None:
    found = tensors(1)
    spoil(found)
    with pytest.raises(RefusedDraftError, match=words):
        check(found)


def test_another_configuration_is_named() -> None:
    with pytest.raises(RefusedDraftError, match="hidden_size"):
        check(tensors(1), CONFIG | {"hidden_size": 9})


def test_the_bytes_that_are_parsed_are_those_that_were_announced(tmp_path: Path) -> None:
    folder = tmp_path / "draft"
    folder.mkdir()
    save_file(tensors(1), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    config, found = weights.read(folder, tmp_path, sha256)
    assert config == CONFIG
    assert weights.digest(found) == weights.digest(tensors(1)) != weights.digest(tensors(2))
    for root, announced, words in (
        (tmp_path, "0" * 64, "was announced"), (tmp_path / "other", sha256, "configured folder"),
    ):  # fmt: skip
        with pytest.raises(RefusedDraftError, match=words):
            weights.read(folder, root, announced)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "inside").mkdir()
    with pytest.raises(RefusedDraftError, match="configured folder"):
        weights.read(tmp_path / "link", tmp_path / "inside", sha256)
    (folder / "model.safetensors").write_bytes(b"\0\0")
    with pytest.raises(RefusedDraftError, match="cannot be read"):
        weights.read(folder, tmp_path, sha256)


def test_names_of_the_live_model_and_what_is_loaded_is_compared_by_value() -> None:
    whole = weights.fused(tensors(1))
    assert whole["model.layers.0.self_attn.qkv_proj.weight"].shape == (16, 16)
    assert "draft_id_to_target_id" in whole
    assert not any("t2d" in name for name in whole)
    padded = {n: torch.cat([t, torch.zeros_like(t[:2])]) if n == "lm_head.weight" else t for n, t in whole.items()}
    assert weights.difference(whole, padded) is None
    assert weights.digest(padded | weights.as_live(whole, padded)) == weights.digest(padded)
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in whole.items()}
    full = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in half.items()}
    assert weights.digest(full | weights.as_live(half, full)) == weights.digest(full), (
        "a server may compute in another type"
    )
    assert weights.difference(half, full) is None
    assert "other values in model.norm.weight" in str(
        weights.difference(whole, {**whole, "model.norm.weight": torch.zeros(8)})
    )
    assert "not in the live model" in str(weights.difference(whole, {}))


def test_a_packed_layer_is_read_back_through_its_kernel() -> None:
    class Packed(torch.nn.Module):
        input_size = 3

        def __init__(self) -> None:
            super().__init__()
            self.hidden = torch.arange(6.0).reshape(2, 3)
            self.weight = torch.nn.Parameter(torch.empty(0))
            self.cpu_linear = lambda x, weight, bias: x @ self.hidden.t()

    model = torch.nn.Sequential(Packed())
    assert torch.equal(weights.live(model)["0.weight"], torch.arange(6.0).reshape(2, 3))


def test_a_zero_that_has_lost_its_sign_is_the_same_weight() -> None:
    """A weight that is read back through a layer is a sum, and -0 + 0 is 0."""
    signed, plain = torch.tensor([-0.0, 1.5]).bfloat16(), torch.tensor([0.0, 1.5]).bfloat16()
    assert weights.digest({"model.norm.weight": signed}) == weights.digest({"model.norm.weight": plain})
    assert weights.digest({"model.norm.weight": -plain}) != weights.digest({"model.norm.weight": plain})
