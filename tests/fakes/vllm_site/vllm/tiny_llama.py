"""A Llama in NumPy, small enough to answer in a millisecond a token. It reads a real checkpoint, in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.float32]


class TinyLlama:
    """One sequence at a time: `step` feeds ids after those fed before."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.weights = {
            name: value.astype(np.float32) for name, value in load_file(folder / "model.safetensors").items()
        }
        self.layers = int(self.config["num_hidden_layers"])
        self.heads, self.kv_heads = int(self.config["num_attention_heads"]), int(self.config["num_key_value_heads"])
        self.size = int(self.config["hidden_size"]) // self.heads
        self.epsilon = float(self.config["rms_norm_eps"])
        half = np.arange(0, self.size, 2, dtype=np.float32) / self.size
        self.frequencies = (1.0 / float(self.config["rope_theta"]) ** half).astype(np.float32)

    def step(self, ids: list[int], cache: list[tuple[Array, Array]]) -> tuple[Array, Array]:
        """Logits [V] after the last of `ids`, and the residual stream [T, layers + 1, H]. Extends `cache`."""
        past = cache[0][0].shape[0] if cache else 0
        x = self.weights["model.embed_tokens.weight"][ids]
        stream = [x]
        for layer in range(self.layers):
            x = x + self._attention(layer, self._norm(x, f"model.layers.{layer}.input_layernorm"), past, cache)
            x = x + self._mlp(layer, self._norm(x, f"model.layers.{layer}.post_attention_layernorm"))
            stream.append(x)
        logits = self.weights["lm_head.weight"] @ self._norm(x[-1:], "model.norm")[0]
        return logits, np.stack(stream, axis=1)

    def _norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.weights[f"{name}.weight"]
        return scaled

    def _mlp(self, layer: int, x: Array) -> Array:
        w, at = self.weights, f"model.layers.{layer}.mlp"
        gate = x @ w[f"{at}.gate_proj.weight"].T
        out: Array = (gate / (1 + np.exp(-gate)) * (x @ w[f"{at}.up_proj.weight"].T)) @ w[f"{at}.down_proj.weight"].T
        return out

    def _attention(self, layer: int, x: Array, past: int, cache: list[tuple[Array, Array]]) -> Array:
        w, at, count = self.weights, f"model.layers.{layer}.self_attn", len(x)
        q = (x @ w[f"{at}.q_proj.weight"].T).reshape(count, self.heads, self.size)
        k = (x @ w[f"{at}.k_proj.weight"].T).reshape(count, self.kv_heads, self.size)
        v = (x @ w[f"{at}.v_proj.weight"].T).reshape(count, self.kv_heads, self.size)
        angles = np.arange(past, past + count, dtype=np.float32)[:, None] * self.frequencies
        cos, sin = np.tile(np.cos(angles), 2)[:, None], np.tile(np.sin(angles), 2)[:, None]
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if layer < len(cache):
            k, v = np.concatenate([cache[layer][0], k]), np.concatenate([cache[layer][1], v])
            cache[layer] = (k, v)
        else:
            cache.append((k, v))
        group = self.heads // self.kv_heads
        scores = np.einsum("thd,shd->hts", q, np.repeat(k, group, 1)) / np.sqrt(np.float32(self.size))
        hidden = np.arange(len(k))[None, :] > np.arange(past, past + count)[:, None]
        scores = np.where(hidden[None], -np.inf, scores)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        shares = scores / scores.sum(-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", shares, np.repeat(v, group, 1)).reshape(count, -1)
        out: Array = mixed @ w[f"{at}.o_proj.weight"].T
        return out


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    half = x.shape[-1] // 2
    turned: Array = x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin
    return turned
