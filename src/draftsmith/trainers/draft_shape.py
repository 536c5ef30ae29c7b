"""The shape of a draft's decoder layer for a target: one rule for `plan`, the trainers, the recipe and lint. Pure.

A draft is a small dense Llama-like decoder of the target's width. It copies the target's attention where that is
ordinary, and takes the published drafts' usual one (heads of 128, eight of keys and values) where it is not: the heads of
latent attention (MLA) would give a single draft layer four tenths of the target's whole cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError
from draftsmith.trainers.target_config import read_rope, text_config

USUAL_HEAD, USUAL_KV_HEADS = 128, 8
SERVED_HEADS = (64, 128, 256)  # what every attention kernel of the engine takes
SMALLEST_USUAL = 64  # below it a target is a miniature, which keeps its own heads
LEAST_WIDENING, USUAL_WIDENING = 2, 3  # MLP width by hidden size: below the first it is one expert's
CACHE_BYTES = 2
LATENT = ("kv_lora_rank", "q_lora_rank")
ROTARY = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    # mscale is left out: transformers reads it and the engine's plain yarn does not
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor", "truncate"),
    "longrope": ("factor", "original_max_position_embeddings", "long_factor", "short_factor", "attention_factor"),
}
NORM_EPS = ("rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")


class DraftShape(Frozen):
    """Widths of one decoder layer of a draft, and its rotary embedding. Sizes in elements, positions in tokens."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: dict[str, Any]

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token in one layer, in 16 bits."""
        return 2 * self.num_key_value_heads * self.head_dim * CACHE_BYTES

    def layer_config(self, *, layers: int = 1, model_type: str = "llama") -> dict[str, Any]:
        """The decoder as transformers and the engine read it."""
        return {
            "model_type": model_type,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_parameters": dict(self.rope),
            "initializer_range": 0.02,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "layer_types": ["full_attention"] * layers,
        }


def draft_shape(config: Mapping[str, Any]) -> DraftShape:
    """Shape for a target's config.json, nested or not. Raises InputError for a width that is missing or impossible."""
    text = text_config(config)
    size, vocab = _whole(text, config, "hidden_size"), _whole(text, config, "vocab_size")
    heads, kv_heads, dim = _attention(text, size)
    return DraftShape(
        hidden_size=size,
        intermediate_size=_inner(text, size),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=dim,
        vocab_size=vocab,
        max_position_embeddings=_whole(text, config, "max_position_embeddings"),
        rms_norm_eps=next((float(text[key]) for key in NORM_EPS if isinstance(text.get(key), int | float)), 1e-5),
        rope=draft_rope(read_rope(text), dim, _head_dim(text, size)),
    )


def draft_rope(rope: Mapping[str, Any], dim: int, target_dim: int | None) -> dict[str, Any]:
    """The target's rotary embedding (flat, as `read_rope` gives it) for a draft that rotates its whole head of `dim`.

    Sections of positions in pictures and films (mrope) are stretched to the whole head. Scaling that a plain decoder
    does not know, or that is tied to another head size, is left out: the draft learns its own.
    """
    kind = str(rope.get("rope_type", "default"))
    sections = rope.get("mrope_section")
    resized = target_dim is not None and target_dim != dim
    if kind not in ROTARY or (kind == "longrope" and resized) or sections:
        kind = "default"
    kept = {key: rope[key] for key in ROTARY[kind] if key in rope}
    whole = isinstance(sections, list) and all(isinstance(part, int) for part in sections)
    if isinstance(sections, list) and whole and sum(sections):
        half = dim // 2
        if half % sum(sections) == 0:
            kept["mrope_section"] = [part * (half // sum(sections)) for part in sections]
    theta = rope.get("rope_theta")
    return {"rope_theta": float(theta) if isinstance(theta, int | float) else 10000.0, "rope_type": kind, **kept}


def _attention(text: Mapping[str, Any], size: int) -> tuple[int, int, int]:
    """Heads, key and value heads, head size."""
    heads, kv_heads, dim = text.get("num_attention_heads"), text.get("num_key_value_heads"), _head_dim(text, size)
    ordinary = isinstance(heads, int) and heads > 0 and dim is not None
    latent = any(isinstance(text.get(key), int) and text.get(key) for key in LATENT)
    if ordinary and not latent and (dim in SERVED_HEADS or (dim or 0) < SMALLEST_USUAL):
        kv = kv_heads if isinstance(kv_heads, int) and kv_heads > 0 else heads
        return int(heads or 0), _divisor(int(heads or 0), int(kv or 1)), int(dim or 0)
    for wide in (USUAL_HEAD, SMALLEST_USUAL):
        if size % wide == 0:
            count = _splitting(size // wide, heads if isinstance(heads, int) else 0)
            return count, _divisor(count, USUAL_KV_HEADS), wide
    if ordinary:
        return int(heads or 0), _divisor(int(heads or 0), USUAL_KV_HEADS), int(dim or 0)
    raise InputError(
        "config.json does not say num_attention_heads", "point target to a complete Hugging Face style folder"
    )


def _splitting(count: int, target_heads: int) -> int:
    """`count` heads or a few more, so that they can be split over as many GPUs as those of a large target."""
    step = 16 if count >= 32 and target_heads % 16 == 0 else 8 if count > 8 else 1
    return -(-count // step) * step


def _head_dim(text: Mapping[str, Any], size: int) -> int | None:
    head_dim, heads = text.get("head_dim"), text.get("num_attention_heads")
    if isinstance(head_dim, int) and head_dim > 0:
        return head_dim
    return size // heads if isinstance(heads, int) and heads > 0 and size % heads == 0 else None


def _divisor(heads: int, most: int) -> int:
    """The largest number of key and value heads, up to `most`, that the heads can share evenly."""
    return next(count for count in range(min(heads, most), 0, -1) if heads % count == 0)


def _inner(text: Mapping[str, Any], size: int) -> int:
    """Width of the MLP: the target's dense one. Of a mixture only the experts' narrow one may be named."""
    named = [text.get(key) for key in ("intermediate_size_mlp", "intermediate_size")]
    widths = [max(value, default=0) if isinstance(value, list) else value for value in named]
    dense = next((value for value in widths if isinstance(value, int) and value > 0), 0)
    return dense if dense >= LEAST_WIDENING * size else USUAL_WIDENING * size


def _whole(text: Mapping[str, Any], config: Mapping[str, Any], key: str) -> int:
    value = text.get(key, config.get(key))
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise InputError(f"config.json does not say {key}", "point target to a complete Hugging Face style folder")
    return value
