"""Parameters and cache of one layer of a target, by what kind it is: attention, latent attention, linear, Mamba, convolution. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Families whose MLP has two matrices, without a gate: read from their classes in transformers.
UNGATED = frozenset(
    ["apertus", "arcee", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron",
     "opt", "phi", "starcoder2"]
)  # fmt: skip
FOUR_TIMES = frozenset(["bloom", "falcon", "gpt2", "gpt_bigcode", "gptj", "mpt"])  # MLP width, where none is named


class Layers:
    """Sizes of one configuration's layers. Raises KeyError for a width that is not there."""

    def __init__(self, text: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.text = {**config, **text}
        self.kind = str(text.get("model_type") or config.get("model_type"))
        self.size = int(self["hidden_size"])
        self.layers = int(self["num_hidden_layers"])

    def __getitem__(self, key: str) -> Any:
        value = self.text.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the configuration; the default where it is missing or null."""
        return self.text.get(key) if self.text.get(key) is not None else default

    def head_dim(self) -> int:
        """Size of one attention head."""
        return int(self.get("head_dim") or self.size // int(self["num_attention_heads"]))

    def window(self) -> int | None:
        """Tokens that a layer with a window keeps."""
        if self.get("use_sliding_window") is False:
            return None
        value = self.get("sliding_window") or self.get("sliding_window_size")
        return int(value) if value else None

    # -- attention ------------------------------------------------------------------------------------------------

    def attention(self, index: int, kind: str) -> int:
        """Parameters of the attention of layer `index`: full, or with a window."""
        size, heads = self.size, int(self["num_attention_heads"])
        if self.get("kv_lora_rank"):
            return self._latent(heads)
        dim, kv = self._heads(index, kind)
        value = int(self.get("v_head_dim") or dim)
        if self.get("o_lora_rank"):  # DeepSeek-V4: queries and outputs through low ranks, one shared key-value head
            rank, groups, out = int(self["q_lora_rank"]), int(self["o_groups"]), int(self["o_lora_rank"])
            return size * rank + rank * heads * dim + size * dim + heads * dim * out + groups * out * size
        gate = 2 if self.get("attn_output_gate") else 1
        return size * heads * dim * gate + size * kv * (dim + value) + heads * value * size

    def cache(self, index: int, kind: str) -> int:
        """Elements that one token adds in layer `index`."""
        if self.get("kv_lora_rank"):  # the indexer's keys are kept in 8 bits
            return int(self["kv_lora_rank"]) + int(self["qk_rope_head_dim"]) + int(self.get("index_head_dim") or 0) // 2
        if self.get("o_lora_rank"):
            return self.head_dim()
        if index >= self.layers - int(self.get("num_kv_shared_layers") or 0):
            return 0  # it reads the keys and values of an earlier layer
        dim, kv = self._heads(index, kind)
        return kv * (dim + int(self.get("v_head_dim") or dim))

    def _heads(self, index: int, kind: str) -> tuple[int, int]:
        """Head size, and heads of keys and values."""
        full, heads = kind == "full", int(self["num_attention_heads"])
        dim = int(self.get("global_head_dim") if full and self.get("global_head_dim") else self.head_dim())
        kv = int((self.get("num_global_key_value_heads") if full else None) or self.get("num_key_value_heads") or heads)
        if kind == "window" and self.get("swa_num_key_value_heads"):
            kv = int(self["swa_num_key_value_heads"])
        if self.kind == "falcon":
            kv = (
                int(self.get("num_kv_heads") or heads)
                if self.get("new_decoder_architecture")
                else (1 if self.get("multi_query") else heads)
            )
        blocks = self.get("block_configs")
        if isinstance(blocks, list):  # DeciLM: every layer has its own number
            kv = heads // int(blocks[index]["attention"]["n_heads_in_group"])
        return dim, kv

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

    # -- layers whose state does not grow -------------------------------------------------------------------------

    def linear(self) -> int:
        """Linear attention: gated delta nets, Kimi's delta attention, short convolutions."""
        size = self.size
        if self.get("linear_num_key_heads"):
            keys = int(self["linear_num_key_heads"]) * int(self["linear_key_head_dim"])
            heads = int(self["linear_num_value_heads"])
            values = heads * int(self["linear_value_head_dim"])
            return size * (2 * keys + 2 * values + 2 * heads) + values * size
        nested = self.get("linear_attn_config") or {}
        heads, dim = (int(self.get(f"linear_{key}") or nested.get(key) or 0) for key in ("num_heads", "head_dim"))
        if heads and dim:
            return 4 * size * heads * dim + 2 * (size * dim + dim * heads * dim) + size * heads
        if "conv_L_cache" in self.text:
            return 4 * size * size
        return self.mamba()

    def mamba(self) -> int:
        """Mamba in its second form, or, with a low-rank time step, in its first."""
        size = self.size
        if self.get("mamba_dt_rank"):
            inner, state, rank = int(self["mamba_expand"]) * size, int(self["mamba_d_state"]), self["mamba_dt_rank"]
            rank = -(-size // 16) if rank == "auto" else int(rank)
            return 3 * size * inner + inner * (rank + 2 * state) + rank * inner + inner * state
        heads = int(self.get("mamba_num_heads") or self["mamba_n_heads"])
        inner = int(self.get("mamba_d_ssm") or 0) or (
            heads * int(self["mamba_head_dim"]) if self.get("mamba_head_dim") else int(self["mamba_expand"]) * size
        )
        groups = int(self.get("n_groups") or self["mamba_n_groups"])
        state = 2 * groups * int(self.get("ssm_state_size") or self["mamba_d_state"])
        return size * (2 * inner + state + heads) + inner * size

    # -- MLPs -----------------------------------------------------------------------------------------------------

    def matrices(self) -> int:
        """Of an MLP: three where it is gated."""
        return 2 if self.get("mlp_hidden_act") == "relu2" or self.kind in UNGATED else 3

    def expert(self) -> int:
        """Parameters of one routed expert."""
        inner = int(self.get("moe_intermediate_size") or self["intermediate_size"])
        return (
            self.matrices()
            * int(self.get("moe_latent_size") or self.get("routed_expert_hidden_size") or self.size)
            * inner
        )

    def shared(self) -> int:
        """Parameters of a mixture that every token passes: shared experts, and the way into a narrower width and back."""
        narrow = 2 * self.size * int(self.get("moe_latent_size") or 0)
        own = self.get("shared_expert_intermediate_size") or self.get("moe_shared_expert_intermediate_size")
        own = own if own is not None else self.get("shared_intermediate_size")
        if own is not None:
            return narrow + self.matrices() * self.size * int(own)
        count = self.get("n_shared_experts") or self.get("num_shared_experts")
        if self.get("interleave_moe_layer_step"):  # Llama 4: one shared expert as wide as a routed one
            count = count or 1
        width = int(self.get("moe_intermediate_size") or self["intermediate_size"]) if count else 0
        return narrow + self.matrices() * self.size * int(count or 0) * width

    def dense(self, index: int) -> int:
        """Parameters of the dense MLP of layer `index`."""
        size, blocks = self.size, self.get("block_configs")
        if isinstance(blocks, list):
            part = blocks[index]["ffn"]
            return 0 if part.get("no_op") else 3 * size * -(-int(2 * float(part["ffn_mult"]) * size / 3) // 256) * 256
        named = (
            "intermediate_size_mlp",
            "dense_intermediate_size",
            "intermediate_size",
            "ffn_hidden_size",
            "n_inner",
            "ffn_dim",
        )
        inner = next((value for key in named if (value := self.get(key)) is not None), None)
        if inner is None:
            return self.matrices() * size * 4 * size if self.kind in FOUR_TIMES else 0
        inner = int(inner[index] if isinstance(inner, list) else inner)
        if self.get("block_auto_adjust_ff_dim"):  # LFM2 rounds two thirds of it
            step = int(self["block_multiple_of"])
            inner = -(-int(2 * inner / 3 * float(self.get("block_ffn_dim_multiplier") or 1)) // step) * step
        shared = self.get("num_kv_shared_layers")
        if self.get("use_double_wide_mlp") and shared and index >= self.layers - int(shared):
            inner *= 2
        return self.matrices() * size * inner
