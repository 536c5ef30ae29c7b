"""A widened model says what the small one says: logits of transformers' own models, before and after."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lazily import lazily

torch, transformers = lazily("torch"), lazily("transformers")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "widen.py"
SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 64,
}
WIDE = {"hidden": 96, "inner": 112, "heads": 12, "kv_heads": 3, "layers": 5}


@cache
def script() -> Any:
    """The script as a module: it imports torch, which only this file's own worker should pay for."""
    spec = importlib.util.spec_from_file_location("widen", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["widen"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def widen(source: Path, out: Path, **shape: int) -> Path:
    found: Path = script().widen(source, out, script().Shape(**shape))
    return found


def written(folder: Path, kind: str, **settings: Any) -> Path:
    """A small random model of that kind, as transformers saves it. Biases and norms are random too."""
    torch.manual_seed(1)
    config = transformers.CONFIG_MAPPING[kind](**SMALL | settings)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, value in model.named_parameters():
        if name.endswith(".bias") or "norm" in name:
            torch.nn.init.normal_(value, 1.0, 0.2)
    model.save_pretrained(folder)
    return folder


def logits(folder: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.arange(40).remainder(96).unsqueeze(0)
    with torch.inference_mode():
        return model(ids).logits


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
        ("mistral", {"num_key_value_heads": 1}),
    ],
)
def test_the_wide_model_has_the_same_logits(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    small = written(tmp_path / "small", kind, **settings)
    wide = widen(small, tmp_path / "wide", **WIDE)
    loaded = transformers.AutoConfig.from_pretrained(wide)
    assert (loaded.hidden_size, loaded.num_hidden_layers, loaded.num_attention_heads) == (96, 5, 12)
    torch.testing.assert_close(logits(wide), logits(small), atol=2e-4, rtol=2e-4)


def test_what_is_added_is_not_zero(tmp_path: Path) -> None:
    wide = widen(written(tmp_path / "small", "llama"), tmp_path / "wide", **WIDE)
    model = transformers.AutoModelForCausalLM.from_pretrained(wide)
    for name, value in model.named_parameters():
        if name.split(".")[-2] in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
            assert (value == 0).float().mean() < 0.01, name


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((16, 112, 12, 3, 5), "hidden: smaller than the source's"),
        ((98, 112, 7, 3, 5), "a whole number"),
        ((80, 112, 4, 4, 5), "at least the source's 2"),
        ((80, 112, 12, 3, 5), "no multiple of 12 query heads"),
    ],
)
def test_a_shape_that_cannot_hold_the_source_is_refused(tmp_path: Path, shape: Any, sentence: str) -> None:
    small = written(tmp_path / "small", "llama")
    with pytest.raises(ValueError, match=sentence):
        widen(small, tmp_path / "wide", **dict(zip(WIDE, shape, strict=True)))
