"""The tensors an engine expects in a draft, by its configuration."""

from __future__ import annotations

from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_folder import Draft

Shape = tuple[int, ...]

MAX_LAYERS = 64
UNSHAPED = frozenset({"mask_hidden"})  # stored in several forms


def expected_tensors(draft: Draft) -> tuple[dict[str, Shape], frozenset[str]] | None:
    """(shape by name, names that may be missing), or None for a layer type whose tensors are not known here."""
    model_type = str(draft.layer.get("model_type", "llama"))
    if model_type not in ("llama", "qwen3"):
        return None
    size, wide = draft.hidden_size, draft.vocab_size
    ids = len(draft.layer_ids or ()) or 3
    gathered = ids * draft.target_hidden_size
    shapes: dict[str, Shape] = {
        "fc.weight": (size, gathered),
        "norm.weight": (size,),
        "embed_tokens.weight": (wide, size),
        "lm_head.weight": (draft.draft_vocab_size, size),
    }
    optional = {"embed_tokens.weight"}
    if draft.draft_vocab_size == wide:
        optional.add("lm_head.weight")
    else:
        shapes["d2t"] = (draft.draft_vocab_size,)
        shapes["t2d"] = (wide,)
        optional.add("t2d")
    if draft.method == "dflash":
        shapes["hidden_norm.weight"] = (size,)
    elif draft.option("norm_before_fc", False):
        shapes["input_norm.weight"] = (gathered,)
    if draft.option("fc_norm", False):
        shapes |= {f"fc_norm.{i}.weight": (draft.target_hidden_size,) for i in range(ids)}
    count = int(draft.layer.get("num_hidden_layers", 1))
    if not 0 < count <= MAX_LAYERS:
        raise InputError(f"num_hidden_layers is {count}; a draft has a few layers", "export the draft again")
    for index in range(count):
        layer = _layer(draft, index, model_type)
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
        if index:
            optional.add(f"layers.{index}.hidden_norm.weight")
    return shapes, frozenset(optional)


def _layer(draft: Draft, index: int, model_type: str) -> dict[str, Shape]:
    config, size = draft.layer, draft.hidden_size
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    dim = int(config.get("head_dim") or size // heads)
    inner = int(config["intermediate_size"])
    reads = 2 * size if draft.method != "dflash" and index == 0 else size  # embeddings and features side by side
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (size,),
        "post_attention_layernorm.weight": (size,),
        "self_attn.q_proj.weight": (heads * dim, reads),
        "self_attn.k_proj.weight": (kv_heads * dim, reads),
        "self_attn.v_proj.weight": (kv_heads * dim, reads),
        "self_attn.o_proj.weight": (size, heads * dim),
        "mlp.gate_proj.weight": (inner, size),
        "mlp.up_proj.weight": (inner, size),
        "mlp.down_proj.weight": (size, inner),
    }
    if draft.method != "dflash":
        shapes["hidden_norm.weight"] = (size,)
    if model_type == "qwen3":
        shapes |= {"self_attn.q_norm.weight": (dim,), "self_attn.k_norm.weight": (dim,)}
    if config.get("attention_bias"):
        shapes |= {"self_attn.q_proj.bias": (heads * dim,)}
        shapes |= {f"self_attn.{name}_proj.bias": (kv_heads * dim,) for name in ("k", "v")}
    return shapes
