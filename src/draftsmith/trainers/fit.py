"""How many GPUs a server of a target takes: weights, draft and cache on each, by degree of tensor parallelism. Pure.

Split evenly: weights, except latent projections and routers, which every GPU keeps whole. Keys and values go by their
heads, and the one latent cache (MLA) is kept whole on every GPU. A degree must divide the attention heads, and share the
key-value heads evenly; block-wise FP8 needs whole blocks on every GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.fit import Fit
from draftsmith.contract.model_size import ModelSize
from draftsmith.engines.gpu_memory import PROCESS_GIB, USABLE
from draftsmith.trainers.draft_shape import DraftShape, draft_shape
from draftsmith.trainers.model_size import model_size
from draftsmith.trainers.target_config import text_config

DEGREES = (1, 2, 4, 8, 16, 32)
NODE = 8  # GPUs of a usual node
TALK_GIB = 1.0  # buffers of the GPUs' talk to each other
DRAFT_VOCAB_SHARE = 4  # of the target's vocabulary, as `plan` assumes
GIB = 2**30
UNKNOWN_TOKEN = 2**20  # bytes of cache a token where config.json does not say: more than published models take
EXPERTS_APART = "--enable-expert-parallel"


def fit(
    config: Mapping[str, Any],
    weight_bytes: float,
    gpus: int,
    gpu_gib: float,
    *,
    context: int,
    residents: int = 1,
    cache_bytes: float = 2,
    flags: tuple[str, ...] = (),
) -> Fit:
    """One server on `gpus` GPUs with `gpu_gib` GiB each, of which `residents` servers take equal shares.

    `weight_bytes`: of all weights. `context`: tokens of the longest request. `cache_bytes` of one key or value.
    """
    text = {**config, **text_config(config)}
    size = model_size(config)
    shape = _shape(config)
    kept = min(_kept_whole(text, weight_bytes, size), weight_bytes)
    weights = ((weight_bytes - kept) / gpus + kept) / GIB
    draft = _draft_bytes(shape) / gpus / GIB if shape else 0.0
    process = PROCESS_GIB + (TALK_GIB if gpus > 1 else 0.0)
    cache = USABLE * gpu_gib / residents - weights - draft - process
    return Fit(
        gpus=gpus,
        gpu_gib=gpu_gib,
        residents=residents,
        weights=weights,
        draft=draft,
        process=process,
        cache=cache,
        tokens=_tokens(max(0.0, cache) * GIB, text, size, shape, gpus, cache_bytes),
        needed_tokens=context,
        refused=_refused(text, shape, gpus),
        notes=_notes(text, config, gpus, flags),
    )


def fewest(
    config: Mapping[str, Any], weight_bytes: float, gpu_gib: float, *, context: int, most: int = DEGREES[-1]
) -> Fit | None:
    """The smallest number of GPUs, up to `most`, that holds one server; one that leaves no odd blocks where there is a choice.

    None where nothing up to `most` does.
    """
    fits = [fit(config, weight_bytes, gpus, gpu_gib, context=context) for gpus in DEGREES if gpus <= most]
    fitting = [fit for fit in fits if fit.fits]
    return next((fit for fit in fitting if not _odd_experts(config, fit.gpus)), fitting[0] if fitting else None)


def token_bytes(config: Mapping[str, Any], gpus: int = 1, cache_bytes: float = 2) -> float:
    """Cache that one token of a long context adds on each GPU, in bytes; 0 where config.json does not say enough."""
    text, size = {**config, **text_config(config)}, model_size(config)
    return cache_bytes * size.cache_elements * _share(text, gpus) if size else 0.0


def _shape(config: Mapping[str, Any]) -> DraftShape | None:
    try:
        return draft_shape(config)
    except (InputError, TypeError, ValueError, ZeroDivisionError):
        return None


def _draft_bytes(shape: DraftShape) -> float:
    """Of one EAGLE3 layer in 16 bits: it reads three states and the token, and shares the target's embeddings."""
    width = shape.hidden_size
    attention = shape.num_attention_heads * shape.head_dim * 3 * width
    attention += 2 * shape.num_key_value_heads * shape.head_dim * 2 * width
    head = shape.vocab_size // DRAFT_VOCAB_SHARE * width
    return 2.0 * (3 * width * width + attention + 3 * width * shape.intermediate_size + head)


def _tokens(
    room: float,
    text: Mapping[str, Any],
    size: ModelSize | None,
    shape: DraftShape | None,
    gpus: int,
    cache_bytes: float,
) -> int:
    """Tokens that `room` bytes of cache hold on each GPU. Of layers with a window the window alone, once."""
    if size is None:
        return int(room / UNKNOWN_TOKEN)
    split = _share(text, gpus)
    each = cache_bytes * size.cache_elements * split
    if shape is not None:
        each += shape.cache_bytes_per_token / min(gpus, shape.num_key_value_heads)
    window = cache_bytes * size.window_elements * split
    if size.window is None or window * size.window >= room:
        return int(room / (each + window)) if each + window else 0
    return int((room - window * size.window) / each) if each else 0


def _share(text: Mapping[str, Any], gpus: int) -> float:
    """Part of the cache that each GPU keeps."""
    if text.get("kv_lora_rank") or text.get("o_lora_rank"):
        return 1.0
    heads = text.get("num_key_value_heads") or text.get("num_attention_heads") or 1
    return 1 / min(gpus, int(heads))


def _kept_whole(text: Mapping[str, Any], weight_bytes: float, size: ModelSize | None) -> float:
    """Bytes that every GPU keeps: latent projections, and the routers of a mixture in 16 bits."""
    if size is None:
        return 0.0
    layers, width = int(text["num_hidden_layers"]), int(text["hidden_size"])
    each = weight_bytes / max(1, size.total)
    total = 0.0
    if text.get("kv_lora_rank"):
        ranks = sum(int(text.get(key) or 0) for key in ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim"))
        total += each * layers * width * ranks
    return total + 2.0 * layers * width * size.experts


def _refused(text: Mapping[str, Any], shape: DraftShape | None, gpus: int) -> str | None:
    """Why an engine cannot split this model, or its draft, over this number of GPUs."""
    if gpus == 1:
        return None
    heads, kv = text.get("num_attention_heads"), None if text.get("kv_lora_rank") else text.get("num_key_value_heads")
    pairs = [("", heads, kv)]
    pairs += [("the draft's ", shape.num_attention_heads, shape.num_key_value_heads)] if shape else []
    for owner, queries, keys in pairs:
        if isinstance(queries, int) and queries % gpus:
            return f"{owner}{queries} attention heads cannot be split over {gpus} GPUs"
        if isinstance(keys, int) and keys > 0 and keys % gpus and gpus % keys:
            return f"{owner}{keys} heads of keys and values cannot be shared by {gpus} GPUs"
    block = _block(text)
    if block:
        dense, experts = text.get("intermediate_size"), _experts(text)
        layers = text.get("first_k_dense_replace") or (text.get("mlp_only_layers") and 1) or not experts
        if isinstance(dense, int) and layers and dense % gpus == 0 and dense // gpus % block:
            return f"an MLP of {dense:,} over {gpus} GPUs leaves {dense // gpus:,}, no whole FP8 blocks of {block}"
        dim = text.get("v_head_dim") or text.get("head_dim")
        if isinstance(heads, int) and isinstance(dim, int) and heads * dim // gpus % block:
            return f"attention of {heads} x {dim} over {gpus} GPUs leaves no whole FP8 blocks of {block}"
    return None


def _block(text: Mapping[str, Any]) -> int | None:
    """Columns that share a scale in block-wise FP8 (the second of weight_block_size); None for other kinds."""
    quantization = text.get("quantization_config")
    sides = quantization.get("weight_block_size") if isinstance(quantization, dict) else None
    return sides[1] if isinstance(sides, list) and len(sides) == 2 and isinstance(sides[1], int) and sides[1] else None


def _experts(text: Mapping[str, Any]) -> int | None:
    """Width of one expert; None for a dense model."""
    if not any(text.get(key) for key in ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")):
        return None
    width = text.get("moe_intermediate_size") or text.get("intermediate_size")
    return width if isinstance(width, int) else None


def _odd_experts(config: Mapping[str, Any], gpus: int) -> bool:
    text = {**config, **text_config(config)}
    block, width = _block(text), _experts(text)
    return bool(block and width and gpus > 1 and (width % gpus or width // gpus % block))


def _notes(text: Mapping[str, Any], config: Mapping[str, Any], gpus: int, flags: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    if _odd_experts(config, gpus) and EXPERTS_APART not in flags:
        notes.append(
            f"experts of {_experts(text):,} over {gpus} GPUs leave no whole FP8 blocks of {_block(text)}, which engines "
            f"before vLLM 0.32 refuse: add {EXPERTS_APART} to engine.flags"
        )
    if gpus > NODE:
        notes.append(f"more GPUs than a usual node of {NODE} has: engine.flags must say how nodes are joined")
    return tuple(notes)
