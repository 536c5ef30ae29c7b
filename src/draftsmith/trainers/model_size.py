"""How large a target is and what one decode step reads of it, from its config.json alone. Pure.

Counted: attention of every kind (grouped, latent, linear, Mamba), dense and routed MLPs, embeddings and head. Left out:
norms, biases, routers' corrections, towers for pictures and sounds. Against published totals, and against the classes of
transformers, it is within 3 % (tests/trainers/test_model_size.py). Where the weights are there, their own bytes count and not this estimate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from draftsmith.contract.model_size import ModelSize
from draftsmith.trainers.layer_sizes import Layers
from draftsmith.trainers.target_config import text_config
from draftsmith.trainers.weights import Tensor

EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
MOST_LAYERS = 10_000  # a number beyond it is a damaged file, and would be counted layer by layer
# Built otherwise than any layer that is counted here: no number is better than a wrong one.
NOT_COUNTED = frozenset(
    ["falcon_mamba", "hrm_text", "longcat_flash", "mamba", "mamba2", "qwen4_exp", "qwen4_exp_text", "zamba", "zamba2"]
)
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "experts_per_token", "moe_topk", "moe_k")


def model_size(config: Mapping[str, Any]) -> ModelSize | None:
    """Of a config.json, nested or not; None where it does not say enough."""
    text = text_config(config)
    try:
        return _Counter(text, config).count()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
        return None


class _Counter(Layers):
    """Adds up one configuration. Raises KeyError for a width that is not there."""

    def __init__(self, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        super().__init__(text, config)
        if not 0 < self.layers <= MOST_LAYERS or self.kind in NOT_COUNTED:
            raise ValueError(self.layers)
        self.experts = next((int(n) for key in EXPERTS if (n := self.get(key))), 0)
        chosen = next((n for key in CHOSEN if (n := self.get(key))), 0)
        self.chosen = int(chosen[0] if isinstance(chosen, list) else chosen)

    def count(self) -> ModelSize:
        """All layers, embeddings and head."""
        dense = routed = cache = windowed = 0
        window = self.window()
        for index in range(self.layers):
            kinds = self._kinds(index)
            for kind in kinds & {"full", "window"}:
                dense += self.attention(index, kind)
                added = self.cache(index, kind)
                cache, windowed = (cache, windowed + added) if kind == "window" else (cache + added, windowed)
            dense += self.linear() if "linear" in kinds else self.mamba() if "mamba" in kinds else 0
            if self._sparse(index):
                routed += self.experts * self.expert()
                dense += self.shared() + self.size * self.experts
                if self.get("enable_moe_block"):  # beside the experts, a dense MLP in every layer
                    dense += self.dense(index)
            elif self._has_mlp(index):
                dense += self.dense(index)
        table = int(self["vocab_size"]) * self.size
        tied = bool(self.get("tie_word_embeddings", False))
        looked_up, gates = self._by_layer()
        return ModelSize(
            dense=dense + table + gates,
            routed=routed,
            experts=self.experts if routed else 0,
            chosen=self.chosen if routed else 0,
            looked_up=(0 if tied else table) + looked_up,
            cache_elements=cache,
            window_elements=windowed,
            window=window,
        )

    def _by_layer(self) -> tuple[int, int]:
        """Embeddings of every layer (Gemma 3n and 4), of which a step reads single rows, and what joins them in."""
        width = int(self.get("hidden_size_per_layer_input") or 0)
        table = int(self.get("vocab_size_per_layer_input") or 0) * self.layers * width
        return table, 3 * self.size * width * self.layers

    def _kinds(self, index: int) -> set[str]:
        """Of full, window, linear and mamba; empty for a layer that is an MLP alone. Falcon-H1 has two beside each other."""
        pattern = self.get("hybrid_override_pattern")
        if isinstance(pattern, str):
            return {"M": {"mamba"}, "*": {"full"}}.get(pattern[index], set())
        if self.kind == "falcon_h1":
            return {"full", "mamba"}
        period = self.get("attn_layer_period")
        if period:
            return {"full"} if index % int(period) == int(self.get("attn_layer_offset", 0)) else {"mamba"}
        listed = self.get("attn_layer_indices")
        if isinstance(listed, list) or self.kind == "bamba":
            return {"full"} if index in (listed or ()) else {"mamba"}
        named = self._named(index)
        if named is not None:
            return named
        every, kda = self.get("full_attention_interval"), self.get("linear_attn_config") or {}
        if every and self.get("linear_num_key_heads"):
            return {"full"} if (index + 1) % int(every) == 0 else {"linear"}
        if "kda_layers" in kda:
            return {"linear"} if index + 1 in kda["kda_layers"] else {"full"}
        turn = self.get("sliding_window_pattern")
        if self.window() is None or (isinstance(turn, int) and turn > 0 and (index + 1) % turn == 0):
            return {"full"}
        return {"window"}

    def _named(self, index: int) -> set[str] | None:
        """By a list with an entry for each layer."""
        blocks = self.get("block_configs")
        if isinstance(blocks, list):
            attention = blocks[index]["attention"]
            return set() if attention.get("no_op") or attention.get("replace_with_linear") else {"full"}
        for key in ("layer_types", "layers_block_type"):
            types = self.get(key)
            if isinstance(types, list) and index < len(types):
                name = str(types[index])
                if name in ("moe", "mlp"):
                    return set()
                if "mamba" in name:
                    return {"mamba"}
                if "linear" in name or "conv" in name:
                    return {"linear"}
                return {"window"} if "sliding" in name and self.window() else {"full"}
        sliding = self.get("hybrid_layer_pattern")  # 1 = a window
        if isinstance(sliding, list) and index < len(sliding):
            return {"window"} if sliding[index] and self.window() else {"full"}
        return None

    def _alone(self) -> str | None:
        """What a layer is where each is one thing alone (Nemotron-H): its list of layers."""
        if isinstance(pattern := self.get("hybrid_override_pattern"), str):
            return pattern
        types = self.get("layers_block_type") or self.get("layer_types")
        if isinstance(types, list) and {"moe", "mlp"} & set(map(str, types)):
            return "".join({"moe": "E", "mlp": "-"}.get(str(name), "*") for name in types)
        return None

    def _sparse(self, index: int) -> bool:
        if not self.experts:
            return False
        alone = self._alone()
        if alone is not None:
            return alone[index] == "E"
        listed = self.get("moe_layer_freq")
        if isinstance(listed, list):
            return bool(listed[index])
        types = self.get("mlp_layer_types")
        if isinstance(types, list) and index < len(types):
            return bool(types[index] == "sparse")
        period = self.get("expert_layer_period")
        if period:
            return index % int(period) == int(self.get("expert_layer_offset", 0))
        only = self.get("mlp_only_layers") or []
        first = int(self.get("first_k_dense_replace") or self.get("num_dense_layers") or 0)
        step = int(self.get("interleave_moe_layer_step") or self.get("decoder_sparse_step") or 1)
        return index >= first and index not in only and (index + 1) % step == 0

    def _has_mlp(self, index: int) -> bool:
        alone = self._alone()
        if self.kind == "granitemoehybrid" and not self.experts:  # its dense MLP is the shared one
            return False
        return alone[index] == "-" if alone is not None else True


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
    match = re.search(r"\.layers\.(\d+)\.", name)
    return match is not None and int(match[1]) >= layers
