"""How large a target is and what one decode step reads of it, from its config.json alone. Pure.

Counted: attention of every kind (grouped, latent, linear, Mamba), dense and routed MLPs, embeddings and head. Left out:
norms, biases, routers' corrections, towers for pictures and sounds. Against published totals it is within 3 %
(tests/trainers/test_model_size.py). Where the weights are there, their own bytes count and not this estimate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from draftsmith.contract.model_size import ModelSize
from draftsmith.trainers.target_config import text_config
from draftsmith.trainers.weights import Tensor

EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
MOST_LAYERS = 10_000  # a number beyond it is a damaged file, and would be counted layer by layer
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "experts_per_token", "moe_topk", "moe_k")


def model_size(config: Mapping[str, Any]) -> ModelSize | None:
    """Of a config.json, nested or not; None where it does not say enough."""
    text = text_config(config)
    try:
        return _Counter(text, config).count()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
        return None


class _Counter:
    """Adds up one configuration. Raises KeyError for a width that is not there."""

    def __init__(self, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.text = {**config, **text}
        self.size = int(self["hidden_size"])
        self.layers = int(self["num_hidden_layers"])
        if not 0 < self.layers <= MOST_LAYERS:
            raise ValueError(self.layers)
        self.experts = next((int(n) for key in EXPERTS if (n := self.get(key))), 0)
        chosen = next((n for key in CHOSEN if (n := self.get(key))), 0)
        self.chosen = int(chosen[0] if isinstance(chosen, list) else chosen)

    def __getitem__(self, key: str) -> Any:
        value = self.text.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        return self.text.get(key) if self.text.get(key) is not None else default

    def count(self) -> ModelSize:
        dense = routed = cache = windowed = 0
        window = self._window()
        for index in range(self.layers):
            kind = self._kind(index)
            if kind in ("full", "window"):
                dense += self._attention(kind)
                added = self._cache(kind)
                cache, windowed = (cache, windowed + added) if kind == "window" else (cache + added, windowed)
            elif kind == "linear":
                dense += self._linear()
            elif kind == "mamba":
                dense += self._mamba()
            if self._sparse(index):
                routed += self.experts * self._expert()
                dense += self._shared() + self.size * self.experts
                if self.get("enable_moe_block"):  # beside the experts, a dense MLP in every layer
                    dense += self._dense()
            elif self._has_mlp(index):
                dense += self._dense()
        table = int(self["vocab_size"]) * self.size
        tied = bool(self.get("tie_word_embeddings", False))
        return ModelSize(
            dense=dense + table,
            routed=routed,
            experts=self.experts if routed else 0,
            chosen=self.chosen if routed else 0,
            looked_up=0 if tied else table,
            cache_elements=cache,
            window_elements=windowed,
            window=window,
        )

    # -- layers ---------------------------------------------------------------------------------------------------

    def _window(self) -> int | None:
        if self.get("use_sliding_window") is False:
            return None
        value = self.get("sliding_window") or self.get("sliding_window_size")
        return int(value) if value else None

    def _kind(self, index: int) -> str:
        """full, window, linear, mamba or none."""
        pattern = self.get("hybrid_override_pattern")
        if isinstance(pattern, str):
            return {"M": "mamba", "*": "full"}.get(pattern[index], "none")
        types = self.get("layer_types")
        if isinstance(types, list) and index < len(types):
            name = str(types[index])
            if "linear" in name or "mamba" in name or "conv" in name:
                return "linear"
            return "window" if "sliding" in name and self._window() else "full"
        sliding = self.get("hybrid_layer_pattern")  # 1 = a window
        if isinstance(sliding, list) and index < len(sliding):
            return "window" if sliding[index] and self._window() else "full"
        every = self.get("full_attention_interval")
        if every and self.get("linear_num_key_heads"):
            return "full" if (index + 1) % int(every) == 0 else "linear"
        return "window" if self._window() and self.get("sliding_window_pattern") is None else "full"

    def _attention(self, kind: str) -> int:
        size, heads = self.size, int(self["num_attention_heads"])
        if self.get("kv_lora_rank"):
            return self._latent(heads)
        full = kind == "full"
        dim = int(self.get("global_head_dim") if full and self.get("global_head_dim") else self._dim())
        kv = int((self.get("num_global_key_value_heads") if full else None) or self.get("num_key_value_heads") or heads)
        if kind == "window" and self.get("swa_num_key_value_heads"):
            kv = int(self["swa_num_key_value_heads"])
        value = int(self.get("v_head_dim") or dim)
        if self.get("o_lora_rank"):  # DeepSeek-V4: queries and outputs through low ranks, one shared key-value head
            rank, groups = int(self["q_lora_rank"]), int(self["o_groups"])
            return (
                size * rank
                + rank * heads * dim
                + size * dim
                + heads * dim * int(self["o_lora_rank"])
                + (groups * int(self["o_lora_rank"]) * size)
            )
        gate = 2 if self.get("attn_output_gate") else 1
        return size * heads * dim * gate + size * kv * (dim + value) + heads * value * size

    def _latent(self, heads: int) -> int:
        size, rank = self.size, int(self["kv_lora_rank"])
        nope, rope, value = int(self["qk_nope_head_dim"]), int(self["qk_rope_head_dim"]), int(self["v_head_dim"])
        low = self.get("q_lora_rank")
        queries = size * int(low) + int(low) * heads * (nope + rope) if low else size * heads * (nope + rope)
        total = queries + size * (rank + rope) + rank * heads * (nope + value) + heads * value * size
        if self.get("index_n_heads") and low:  # the indexer of sparse attention
            total += int(low) * int(self["index_n_heads"]) * int(self["index_head_dim"])
            total += size * (int(self["index_head_dim"]) + int(self["index_n_heads"]))
        return total

    def _cache(self, kind: str) -> int:
        """Elements that one token adds in one layer."""
        heads = int(self["num_attention_heads"])
        if self.get("kv_lora_rank"):
            indexer = int(self.get("index_head_dim") or 0)
            return (
                int(self["kv_lora_rank"]) + int(self["qk_rope_head_dim"]) + indexer // 2
            )  # the indexer's keys in 8 bits
        if self.get("o_lora_rank"):
            return self._dim()
        full = kind == "full"
        dim = int(self.get("global_head_dim") if full and self.get("global_head_dim") else self._dim())
        kv = int((self.get("num_global_key_value_heads") if full else None) or self.get("num_key_value_heads") or heads)
        if kind == "window" and self.get("swa_num_key_value_heads"):
            kv = int(self["swa_num_key_value_heads"])
        return kv * (dim + int(self.get("v_head_dim") or dim))

    def _dim(self) -> int:
        return int(self.get("head_dim") or self.size // int(self["num_attention_heads"]))

    def _linear(self) -> int:
        keys = int(self["linear_num_key_heads"]) * int(self["linear_key_head_dim"])
        values = int(self["linear_num_value_heads"]) * int(self["linear_value_head_dim"])
        return self.size * (2 * keys + 2 * values + 2 * int(self["linear_num_value_heads"])) + values * self.size

    def _mamba(self) -> int:
        inner = int(self["mamba_num_heads"]) * int(self["mamba_head_dim"])
        state = 2 * int(self["n_groups"]) * int(self["ssm_state_size"])
        return self.size * (2 * inner + state + int(self["mamba_num_heads"])) + inner * self.size

    # -- MLPs -----------------------------------------------------------------------------------------------------

    def _sparse(self, index: int) -> bool:
        if not self.experts:
            return False
        pattern = self.get("hybrid_override_pattern")
        if isinstance(pattern, str):
            return pattern[index] == "E"
        listed = self.get("moe_layer_freq")
        if isinstance(listed, list):
            return bool(listed[index])
        only = self.get("mlp_only_layers") or []
        first = int(self.get("first_k_dense_replace") or 0)
        step = int(self.get("interleave_moe_layer_step") or self.get("decoder_sparse_step") or 1)
        return index >= first and index not in only and (index + 1) % step == 0

    def _has_mlp(self, index: int) -> bool:
        pattern = self.get("hybrid_override_pattern")
        return pattern[index] == "-" if isinstance(pattern, str) else True

    def _gates(self) -> int:
        """Matrices of an MLP: three where it is gated."""
        return 2 if self.get("mlp_hidden_act") == "relu2" else 3

    def _expert(self) -> int:
        inner = int(self.get("moe_intermediate_size") or self["intermediate_size"])
        return self._gates() * int(self.get("routed_expert_hidden_size") or self.size) * inner

    def _shared(self) -> int:
        own = self.get("shared_expert_intermediate_size") or self.get("moe_shared_expert_intermediate_size")
        own = own if own is not None else self.get("shared_intermediate_size")
        if own is not None:
            return self._gates() * self.size * int(own)
        count = self.get("n_shared_experts") or self.get("num_shared_experts")
        if self.get("interleave_moe_layer_step"):  # Llama 4: one shared expert as wide as a routed one
            count = count or 1
        return (
            self._gates() * self.size * int(count) * int(self.get("moe_intermediate_size") or self["intermediate_size"])
            if count
            else 0
        )

    def _dense(self) -> int:
        inner = (
            self.get("intermediate_size_mlp") or self.get("dense_intermediate_size") or self.get("intermediate_size")
        )
        if inner is None:
            return 0
        return self._gates() * self.size * int(max(inner) if isinstance(inner, list) else inner)


# -- weights that are there ---------------------------------------------------------------------------------------

ROUTED = re.compile(r"\.experts?\.(?!shared)|\.experts\.|_experts\.")
NOT_DECODED = re.compile(r"(^|\.)(visual|vision_\w+|audio_\w+|multi_modal_projector|mm_projector|mtp)(\.|$)")


def weights_read(tensors: Mapping[str, Tensor], layers: int, tied: bool) -> tuple[int, int]:
    """(bytes that every step reads, bytes of all routed experts) of the target's own tensors.

    Left out: embeddings that a step only looks rows up in, towers for pictures and sounds, and MTP layers, which are
    stored behind the last layer.
    """
    dense = routed = 0
    for name, tensor in tensors.items():
        if NOT_DECODED.search(name) or _behind(name, layers):
            continue
        if ROUTED.search(name) and "shared" not in name:
            routed += tensor.size
        elif tied or not name.endswith(("embed_tokens.weight", "embeddings.weight", "wte.weight")):
            dense += tensor.size
    return dense, routed


def _behind(name: str, layers: int) -> bool:
    found = re.search(r"\.layers\.(\d+)\.", name)
    return found is not None and int(found[1]) >= layers
