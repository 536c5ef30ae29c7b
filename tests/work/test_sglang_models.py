"""The model class for SGLang: what its first layer carries on, by arithmetic of the smallest kind."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lazily import lazily

torch = lazily("torch")


class Norm:
    """Doubles; with a residual it adds that first, as SGLang's fused norm does."""

    def __call__(self, states: Any, residual: Any = None) -> Any:
        return 2 * states if residual is None else (2 * (states + residual), states + residual)


class Layer:
    def __init__(self) -> None:
        self.hidden_norm = self.input_layernorm = self.post_attention_layernorm = Norm()
        self.mlp = lambda states: states
        self.self_attn = lambda positions, hidden_states, forward_batch: hidden_states[..., 2:]


class Draft:
    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        self.model = SimpleNamespace(layers=[Layer(), Layer()])


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Any:
    base = ModuleType("sglang.srt.models.llama_eagle3")
    base.LlamaDecoderLayer, base.LlamaForCausalLMEagle3 = Layer, Draft  # type: ignore[attr-defined]
    models = ModuleType("sglang.srt.models")
    models.llama_eagle3 = base  # type: ignore[attr-defined]
    for name, module in {
        "sglang": ModuleType("sglang"), "sglang.srt": ModuleType("sglang.srt"), "sglang.srt.models": models, base.__name__: base
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    name = "draftsmith.work.inside.sglang_models.llama_eagle3"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_the_normalised_features_are_carried_past_the_attention(ours: Any) -> None:
    draft = ours.LlamaForCausalLMEagle3(SimpleNamespace(norm_before_residual=True))
    embeds, features = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 5.0]])
    out, residual = draft.model.layers[0].forward(None, embeds, features, None, None)
    assert residual.tolist() == [[12.0, 20.0]], "normalised (6, 10) and the attention's (6, 10)"
    assert out.tolist() == [[24.0, 40.0]]
    assert type(draft.model.layers[1]) is Layer


def test_a_draft_without_the_key_is_left_to_sglangs_class(ours: Any) -> None:
    draft = ours.LlamaForCausalLMEagle3(SimpleNamespace())
    assert type(draft.model.layers[0]) is Layer
    assert [entry.__name__ for entry in ours.EntryClass] == ["LlamaForCausalLMEagle3"]
