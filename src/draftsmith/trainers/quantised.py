"""Tensors of quantised weights, as the schemes that engines load write them: beside a weight, and in its place."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from draftsmith.trainers.draft_folder import Draft
from draftsmith.trainers.weights import Tensor

# compressed-tensors, FP8, ModelOpt, Quark; AWQ and GPTQ; scales of the KV cache.
BESIDE = frozenset(
    ["weight_scale", "weight_scale_2", "weight_scale_inv", "weight_zero_point", "weight_shape", "weight_g_idx",
     "weight_global_scale", "input_scale", "input_zero_point", "input_global_scale", "output_scale", "activation_scale",
     "pre_quant_scale", "scales", "qzeros", "g_idx", "k_scale", "v_scale", "q_scale", "kv_scale", "SCB"]
)  # fmt: skip
BITSANDBYTES = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.")  # behind `.weight`
PACKED = ("weight_packed", "qweight", "weight")  # in the place of a matrix
BITS = (2, 3, 4, 6, 8)
INTEGERS = ("U8", "I8", "I32", "U32")


def is_quantised(draft: Draft) -> bool:
    """Whether the configuration says so: the engine decides by it."""
    return any(
        isinstance(holder.get(key), dict)
        for holder in (draft.config, draft.layer)
        for key in ("quantization_config", "compression_config")
    )


def belongs(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor is part of a quantised weight that config.json implies: its scale, its zero point, its packed form."""
    stem, _, last = name.rpartition(".")
    if last in BESIDE or last in PACKED:
        stem = stem.removesuffix(".attn") + ".k_proj" if stem.endswith("self_attn.attn") else stem
        stem = f"{stem}.k_proj" if stem.endswith("self_attn") else stem
        return f"{stem}.weight" in shapes
    whole, separator, _ = name.partition(".weight.")
    return bool(separator) and f"{whole}.weight" in shapes and any(part in name for part in BITSANDBYTES)


def packed(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> bool:
    """Whether the matrix `name` is there in a packed form that holds as many values as `shape` says."""
    stem, _, last = name.rpartition(".")
    if last != "weight" or len(shape) != 2:
        return False
    packed = [tensors[f"{stem}.{form}"] for form in PACKED if f"{stem}.{form}" in tensors]
    return any(
        tensor.dtype in INTEGERS and tensor.size * 8 in {prod(shape) * bits for bits in BITS} for tensor in packed
    )
