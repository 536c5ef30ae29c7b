"""How servers share one GPU: a share of its memory for each, and a KV cache of fixed size."""

from __future__ import annotations

import json
import math
from pathlib import Path

USABLE = 0.88
PROCESS_GIB = 3.0  # context, graphs and workspace of one server beside its weights and cache, as measured on an H100
LEAST_KV_GIB, MOST_KV_GIB, USUAL_KV_GIB = 1, 32, 4
BYTES_A_VALUE = 2


def gpu_share(residents: int) -> float:
    """Share of the GPU's memory for each of `residents` servers."""
    return round(USABLE / residents, 3)


def shared_kv_gib(target: str, residents: int, tokens: int, free_gib: float | None) -> int:
    """KV cache in GiB of one of `residents` servers: enough for `tokens` tokens, where the free memory allows it.

    Whole GiB, so that the servers of a later start get the same. 4 where neither the target nor the GPU tells.
    """
    folder = Path(target)
    each = _bytes_a_token(folder)
    wanted = math.ceil(tokens * each / 2**30) if each else USUAL_KV_GIB
    if free_gib is not None:
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**30
        wanted = min(wanted, math.floor(USABLE * free_gib / residents - weights - PROCESS_GIB))
    return max(LEAST_KV_GIB, min(MOST_KV_GIB, wanted))


def _bytes_a_token(folder: Path) -> int:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return 0
    config = config.get("text_config") or config
    heads, layers = config.get("num_attention_heads"), config.get("num_hidden_layers")
    if not heads or not layers:
        return 0
    dim = config.get("head_dim") or config.get("hidden_size", 0) // heads
    return int(2 * layers * (config.get("num_key_value_heads") or heads) * dim * BYTES_A_VALUE)
