"""Writes trainers/model_defaults.json: what transformers' configuration classes say where a config.json says nothing.

python -m draftsmith.work.inside.model_defaults > src/draftsmith/trainers/model_defaults.json

A published config.json leaves out what its class says by itself (Gemma 3 names neither its vocabulary nor its heads), and
calls widths by older names (n_embd). Declared values alone are taken: what a class reckons from other values
would be reckoned from the wrong ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

KEYS = frozenset(
    """attn_layer_offset attn_layer_period attn_output_gate block_auto_adjust_ff_dim block_ffn_dim_multiplier
    block_multiple_of conv_L_cache decoder_sparse_step enable_moe_block expert_layer_offset expert_layer_period
    ffn_hidden_size first_k_dense_replace full_attention_interval global_head_dim head_dim hidden_size
    hidden_size_per_layer_input index_head_dim index_n_heads interleave_moe_layer_step intermediate_size
    intermediate_size_mlp kv_lora_rank layer_norm_eps layer_norm_epsilon linear_head_dim linear_key_head_dim
    linear_num_heads linear_num_key_heads linear_num_value_heads linear_value_head_dim mamba_d_head mamba_d_ssm
    mamba_d_state mamba_dt_rank mamba_expand mamba_head_dim mamba_n_groups mamba_n_heads mamba_num_heads
    max_position_embeddings mlp_hidden_act moe_intermediate_size moe_k moe_latent_size moe_num_experts
    moe_shared_expert_intermediate_size moe_topk multi_query n_groups n_inner n_routed_experts n_shared_experts
    new_decoder_architecture norm_eps num_attention_heads num_experts num_experts_per_tok num_experts_per_token
    num_global_key_value_heads num_hidden_layers num_key_value_heads num_kv_heads num_kv_shared_layers
    num_local_experts num_shared_experts partial_rotary_factor q_lora_rank qk_nope_head_dim qk_rope_head_dim
    rms_norm_eps shared_expert_intermediate_size shared_intermediate_size sliding_window ssm_state_size
    swa_num_key_value_heads tie_word_embeddings top_k_experts use_sliding_window v_head_dim vocab_size
    vocab_size_per_layer_input""".split()  # noqa: SIM905 - a list to read and compare
)
RENAMED = frozenset(
    [
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_experts_per_tok",
        "num_hidden_layers",
        "num_key_value_heads",
    ]
)


def defaults() -> dict[str, dict[str, Any]]:
    """By model_type: `says`, values by key; `named`, a key of ours by the older name; `full_every`, where layer kinds repeat."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto as auto

    tables = (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    kinds = {}
    for kind in sorted({*tables[0], *tables[1]}):
        try:
            cls = _decoder(CONFIG_MAPPING[kind])
        except Exception as error:
            print(f"{kind}: {type(error).__name__}", file=sys.stderr)
            continue
        stated = _of(cls)
        if "num_hidden_layers" in stated["says"]:
            kinds[kind] = kinds[cls.model_type or kind] = stated
    return dict(sorted(kinds.items()))


def _decoder(cls: Any) -> Any:
    """The class of the language model inside `cls`, where it holds several."""
    parts = getattr(cls, "sub_configs", {})
    inner = next((parts[name] for name in ("text_config", "thinker_config", "llm_config") if name in parts), None)
    return _decoder(inner) if isinstance(inner, type) and dataclasses.is_dataclass(inner) else cls


def _of(cls: Any) -> dict[str, Any]:
    declared = {field.name: field.default for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    others = {key: name for key, name in getattr(cls, "attribute_map", {}).items() if key in RENAMED}
    says = {key: value for key in KEYS if _plain(value := declared.get(others.get(key, key)))}
    theta = getattr(cls, "default_theta", None)
    theta = theta.get("global") if isinstance(theta, dict) else theta
    if isinstance(theta, int | float):
        says["rope_theta"] = float(theta)
    entry: dict[str, Any] = {"says": dict(sorted(says.items()))}
    if others:
        entry["named"] = {name: key for key, name in sorted(others.items())}
    if (every := _full_every(cls)) is not None:
        entry["full_every"] = every
    return entry


def _plain(value: object) -> bool:
    return isinstance(value, int | float | str) and value == value


def _full_every(cls: Any) -> int | None:
    """n where the class gives every n-th layer full attention and the others a window, if config.json does not say."""
    try:
        kinds = getattr(cls(), "layer_types", None)
    except Exception:
        return None
    if not isinstance(kinds, list) or set(kinds) != {"full_attention", "sliding_attention"}:
        return None
    every = kinds.index("full_attention") + 1
    regular = all((kind == "full_attention") == ((at + 1) % every == 0) for at, kind in enumerate(kinds[:-1]))
    return every if regular else None


def main() -> None:
    """Print the table as JSON, one model_type a line."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # some classes would ask a hub for another model's configuration
    import transformers

    transformers.logging.set_verbosity_error()
    lines = [f" {json.dumps(kind)}: {json.dumps(stated, sort_keys=True)}" for kind, stated in defaults().items()]
    print('{"transformers": ' + json.dumps(transformers.__version__) + ', "kinds": {\n' + ",\n".join(lines) + "\n}}")


if __name__ == "__main__":
    main()
