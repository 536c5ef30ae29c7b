"""What a config.json leaves out is what its configuration class says: read as the engine reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.model_size import model_size
from draftsmith.trainers.target_config import read_rope, text_config

# As Gemma 3 4B is published: neither vocabulary, heads, positions nor the kinds of its layers.
GEMMA = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}


def test_a_lean_configuration_is_filled_by_its_class() -> None:
    text, shape = text_config(GEMMA), draft_shape(GEMMA)
    assert (text["vocab_size"], text["num_attention_heads"], text["head_dim"]) == (262208, 8, 256)
    assert (shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim) == (8, 4, 256)
    assert read_rope(text) == {"factor": 8.0, "rope_theta": 1e6, "rope_type": "linear"}
    size = model_size(GEMMA)
    assert size is not None
    assert size.total / 1e9 == pytest.approx(3.88, rel=0.01)  # the card's 4.3 with its 0.4 of a tower for pictures
    full = 34 // 6  # every sixth layer keeps the whole context
    assert size.cache_elements == full * 2 * 4 * 256
    assert size.window_elements == (34 - full) * 2 * 4 * 256
    assert size.window == 1024


def test_what_stands_outside_wins_over_the_class_and_null_stays_null() -> None:
    outer = GEMMA | {"vocab_size": 1000, "tie_word_embeddings": False}
    assert (text_config(outer)["vocab_size"], text_config(outer)["tie_word_embeddings"]) == (1000, False)
    assert text_config({"model_type": "mistral", "sliding_window": None})["sliding_window"] is None
    assert text_config({"model_type": "mistral"})["sliding_window"] == 4096


def test_older_names_of_widths() -> None:
    text = text_config(
        {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}
    )
    assert (text["hidden_size"], text["num_hidden_layers"], text["max_position_embeddings"]) == (768, 12, 1024)


def test_layers_are_counted_from_their_list() -> None:
    assert (
        text_config({"model_type": "nemotron_h", "layers_block_type": ["mamba", "moe", "attention"]})[
            "num_hidden_layers"
        ]
        == 3
    )


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "max_position_embeddings"])
def test_a_whole_configuration_names_its_own_widths(key: str) -> None:
    """A Qwen3 without a width is damaged; its class would say that of another size of the family."""
    whole = {
        "model_type": "qwen3",
        "hidden_size": 2560,
        "vocab_size": 151936,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
    }
    with pytest.raises(InputError, match=key):
        draft_shape({name: value for name, value in whole.items() if name != key})


KINDS = [
    "apertus",
    "falcon_h1",
    "gemma4_text",
    "glm4_moe",
    "granitemoehybrid",
    "jamba",
    "kimi_linear",
    "lfm2",
    "nemotron_h",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_is_that_of_the_class_itself(kind: str) -> None:
    """Against the parameters of transformers' own model, made without memory."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[kind]()
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    own = sum(parameter.numel() for parameter in model.parameters())
    size = model_size(json.loads(json.dumps(config.to_dict(), default=str)))
    assert size is not None
    assert size.total == pytest.approx(own, rel=0.02)


def test_a_mixture_of_a_narrower_width() -> None:
    """Nemotron 3 Super: 120 billion, 12 active, as published."""
    config: dict[str, Any] = {
        "model_type": "nemotron_h", "hidden_size": 4096, "vocab_size": 131072, "num_hidden_layers": 88, "num_attention_heads": 32,
        "num_key_value_heads": 2, "head_dim": 128, "hybrid_override_pattern": ("MEMEMEM*E" * 3 + "MEMEMEMEM*E" * 4 + "MEMEMEM*EMEMEMEME"),
        "moe_intermediate_size": 2688, "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376, "n_routed_experts": 512,
        "num_experts_per_tok": 22, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_groups": 8, "ssm_state_size": 128,
        "mlp_hidden_act": "relu2", "tie_word_embeddings": False,
    }  # fmt: skip
    size = model_size(config)
    assert size is not None
    assert len(config["hybrid_override_pattern"]) == 88
    assert size.total / 1e9 == pytest.approx(120.7, rel=0.02)
    assert size.active / 1e9 == pytest.approx(12.7, rel=0.04)


def test_the_kept_table_is_what_the_generator_writes() -> None:
    """For the kinds that it decides most for; the whole takes a minute."""
    pytest.importorskip("transformers")
    from transformers import CONFIG_MAPPING

    import draftsmith.trainers.target_config as place
    from draftsmith.work.inside.model_defaults import _decoder, _of

    kept = json.loads(Path(place.__file__).with_name("model_defaults.json").read_text())["kinds"]
    for kind in ("gemma3", "gpt2", "kimi_linear", "mistral", "qwen2_5_vl"):
        assert _of(_decoder(CONFIG_MAPPING[kind])) == kept[kind]
