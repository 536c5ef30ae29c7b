"""A tiny target on disk: a trained byte-level tokenizer and a random Llama whose greedy answers do not repeat themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

START, END = "<|start|>", "<|end|>"
LAYERS, HIDDEN, HEADS, KV_HEADS, MLP, VOCAB = 8, 32, 4, 2, 64, 384
WORDS = [
    "river",
    "stone",
    "market",
    "winter",
    "lamp",
    "garden",
    "ticket",
    "engine",
    "paper",
    "coffee",
    "window",
    "bridge",
    "doctor",
    "island",
    "mirror",
    "candle",
    "forest",
    "harbour",
    "kitchen",
    "ladder",
    "meadow",
    "needle",
    "orchard",
    "pillow",
    "quarry",
    "ribbon",
    "saddle",
    "tunnel",
    "valley",
    "wagon",
]


def sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def write_tokenizer(folder: Path) -> Any:
    """Byte-level BPE, trained here: 256 bytes, the words that come up, and the two turn markers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    chance = random.Random(0)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 4, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([sentence(chance, 12) for _ in range(300)], trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (START, END)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_target(folder: Path, *, seed: int = 0, **changed: Any) -> Path:
    """`changed` overrides config.json; None removes a key."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder)
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN, "intermediate_size": MLP, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS, "vocab_size": VOCAB, "max_position_embeddings": 1024, "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "torch_dtype": "float32", "tie_word_embeddings": False,
        "bos_token_id": tokenizer.token_to_id(START), "eos_token_id": tokenizer.token_to_id(END), **changed,
    }  # fmt: skip
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(tokenizer, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights(tokenizer: Any, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

    head = matrix(VOCAB, HIDDEN, 4.0)
    # Answers are made of whole words, and end.
    speakable = {tokenizer.token_to_id(f"\u0120{word}") for word in WORDS} - {None}
    head[[token for token in range(VOCAB) if token not in speakable]] = 0
    head[tokenizer.token_to_id(END)] = matrix(1, HIDDEN, 3.0)[0]
    found = {
        "model.embed_tokens.weight": matrix(VOCAB, HIDDEN, HIDDEN**0.5),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": head,
    }
    small = HIDDEN // HEADS * KV_HEADS
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes = {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (small, HIDDEN), "self_attn.v_proj": (small, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (MLP, HIDDEN), "mlp.up_proj": (MLP, HIDDEN),
            "mlp.down_proj": (HIDDEN, MLP),
        }  # fmt: skip
        found |= {f"{at}.{name}.weight": matrix(*shape, 1.3) for name, shape in shapes.items()}
        found |= {
            f"{at}.{name}.weight": np.ones(HIDDEN, np.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
    return found


def prompts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Prompt lines as `draftsmith replay` reads them."""
    chance = random.Random(seed)
    return [
        {
            "id": f"p{number:03d}",
            "messages": [{"role": "user", "content": sentence(chance, 14)}],
            "params": {"temperature": 0},
            "max_tokens": 16,
            "arrival_s": float(number),
        }
        for number in range(count)
    ]
