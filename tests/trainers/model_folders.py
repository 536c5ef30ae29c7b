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
    said = config.get("text_config") or config
    rows, width = (
        value if isinstance(value, int) and value > 0 else usual
        for value, usual in ((said.get("vocab_size"), VOCAB), (said.get("hidden_size"), HIDDEN))
    )
    weights = {"model.embed_tokens.weight": random.standard_normal((rows, width)).astype(np.float16)}
    weights["model.norm.weight"] = np.ones(width, np.float16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


DRAFT_VOCAB = 10
IDS = np.array([0, 1, 3, 7, 8, 12, 20, 21, 30, 39])
DRAFT_LAYERS = [2, 6, 9]


def draft_tensors(layers: int = 3, *, norm_before_fc: bool = True) -> dict[str, np.ndarray]:
    """An EAGLE3 head's tensors, float16."""
    shapes = {
        "embed_tokens.weight": (VOCAB, HIDDEN),
        "fc.weight": (HIDDEN, layers * HIDDEN),
        "norm.weight": (HIDDEN,),
        "lm_head.weight": (DRAFT_VOCAB, HIDDEN),
        "layers.0.hidden_norm.weight": (HIDDEN,),
        "layers.0.input_layernorm.weight": (HIDDEN,),
        "layers.0.post_attention_layernorm.weight": (HIDDEN,),
        "layers.0.self_attn.q_proj.weight": (HEADS * HEAD_DIM, 2 * HIDDEN),
        "layers.0.self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, 2 * HIDDEN),
        "layers.0.self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, 2 * HIDDEN),
        "layers.0.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
        "layers.0.mlp.gate_proj.weight": (MLP, HIDDEN),
        "layers.0.mlp.up_proj.weight": (MLP, HIDDEN),
        "layers.0.mlp.down_proj.weight": (HIDDEN, MLP),
    }
    if norm_before_fc:
        shapes["input_norm.weight"] = (layers * HIDDEN,)
    random = np.random.default_rng(7)
    tensors = {name: random.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    tensors["embed_tokens.weight"] = (
        np.random.default_rng(0).standard_normal((VOCAB, HIDDEN)).astype(np.float16)
    )  # the target's
    return tensors | vocabulary_tensors(IDS)


def vocabulary_tensors(ids: np.ndarray) -> dict[str, np.ndarray]:
    """d2t and t2d for sorted target ids."""
    marks = np.zeros(VOCAB, bool)
    marks[ids] = True
    return {"d2t": (ids - np.arange(len(ids))).astype(np.int64), "t2d": marks}


LAYER: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": MLP,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "rms_norm_eps": 1e-5,
}
DRAFT: dict[str, Any] = {
    "architectures": ["Eagle3DraftModel"],
    "auto_map": {"": "config.Eagle3SpeculatorConfig"},
    "draft_vocab_size": DRAFT_VOCAB,
    "dtype": "float16",
    "eagle_aux_hidden_state_layer_ids": DRAFT_LAYERS,
    "norm_before_fc": True,
    "norm_before_residual": True,
    "speculators_config": {
        "algorithm": "eagle3",
        "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 4}],
        "verifier": {"name_or_path": "/home/someone/secret/target", "architectures": ["LlamaForCausalLM"]},
    },
    "speculators_model_type": "eagle3",
    "speculators_version": "0.9.0",
}


def write_checkpoint(
    folder: Path, *, tensors: dict[str, np.ndarray] | None = None, layer: dict[str, Any] | None = None, **changed: Any
) -> Path:
    """What speculators leaves behind after an epoch, programs and pickles included. None removes a key."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in {**DRAFT, **changed}.items() if value is not None}
    config["transformer_layer_config"] = {**LAYER, **(layer or {})}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors or draft_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.py").write_text("print('never run')\n")
    (folder / "optimizer_state_dict.pt").write_bytes(b"\x80\x04.")
    (folder / "train_command.txt").write_text("train --data /home/someone/secret\n")
    return folder


def write_plain(folder: Path, **changed: Any) -> Path:
    """The same head as SpecForge exports it: keys at the top, the layer called midlayer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **LAYER,
        "architectures": ["LlamaForCausalLMEagle3"],
        "draft_vocab_size": DRAFT_VOCAB,
        "torch_dtype": "float16",
        **changed,
    }
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    tensors = draft_tensors(norm_before_fc=False)
    save_file({n.replace("layers.0.", "midlayer."): t for n, t in tensors.items()}, folder / "model.safetensors")
    return folder


def write_dflash(folder: Path, *, plain: bool = False, **changed: Any) -> Path:
    """A DFlash draft of one Qwen3 layer over the whole vocabulary, sharing the target's embeddings and head."""
    folder.mkdir(parents=True, exist_ok=True)
    layer = {**LAYER, "model_type": "qwen3"}
    config: dict[str, Any]
    if plain:
        config = {
            **layer,
            "architectures": ["DFlashDraftModel"],
            "dflash_config": {"mask_token_id": 5, "target_layer_ids": [1, 5, 8]},
            **changed,
        }
    else:
        config = {
            **{k: v for k, v in DRAFT.items() if not k.startswith(("eagle", "norm_"))},
            "architectures": ["DFlashDraftModel"],
            "speculators_model_type": "dflash",
            "draft_vocab_size": VOCAB,
            "aux_hidden_state_layer_ids": DRAFT_LAYERS,
            "mask_token_id": 5,
            "transformer_layer_config": layer,
            **changed,
        }
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    drop = {"embed_tokens.weight", "lm_head.weight", "d2t", "t2d", "layers.0.hidden_norm.weight"}
    tensors = {n: t for n, t in draft_tensors(norm_before_fc=False).items() if n not in drop}
    for name in "qkv":
        key = f"layers.0.self_attn.{name}_proj.weight"
        tensors[key] = np.ascontiguousarray(tensors[key][:, :HIDDEN])
    for name in ("hidden_norm.weight", "layers.0.self_attn.q_norm.weight", "layers.0.self_attn.k_norm.weight"):
        tensors[name] = np.ones(HIDDEN if name.startswith("hidden") else HEAD_DIM, np.float16)
    save_file(tensors, folder / "model.safetensors")
    return folder
