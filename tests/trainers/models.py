"""Small model folders written by hand: what a target or a draft looks like on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

LAYERS, HIDDEN, VOCAB, HEADS, KV_HEADS, HEAD_DIM, MLP = 12, 16, 40, 4, 2, 4, 24

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "torch_dtype": "float16",
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def write_target(folder: Path, *, ids: int = VOCAB, seed: int = 0, **changed: Any) -> Path:
    """A Llama-shaped target. `changed` overrides config.json; a value of None removes the key."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**CONFIG, **changed}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    vocab = {f"t{i}": i for i in range(ids - 1)}
    tokenizer = {"model": {"type": "BPE", "vocab": vocab}, "added_tokens": [{"id": ids - 1, "content": "<end>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    random = np.random.default_rng(seed)
    weights = {"model.embed_tokens.weight": random.standard_normal((VOCAB, HIDDEN)).astype(np.float16)}
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
