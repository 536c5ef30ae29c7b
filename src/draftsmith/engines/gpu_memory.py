"""How servers share GPUs: a share of the memory for each, and a KV cache of fixed size."""

from __future__ import annotations

import math

USABLE = 0.88
PROCESS_GIB = 3.0  # context, graphs and workspace of one server beside its weights and cache, as measured on an H100
LEAST_KV_GIB, MOST_KV_GIB, USUAL_KV_GIB = 1, 32, 4


def gpu_share(residents: int) -> float:
    """Share of the GPU's memory for each of `residents` servers."""
    return round(USABLE / residents, 3)


def shared_kv_gib(token_bytes: float, weights_gib: float, residents: int, tokens: int, free_gib: float | None) -> int:
    """KV cache in GiB, on each GPU, of one of `residents` servers: enough for `tokens` tokens, where the free memory allows it.

    `token_bytes` and `weights_gib` are those of one GPU; 0 bytes where the target does not tell. Whole GiB, so that the
    servers of a later start get the same. 4 where neither the target nor the GPU tells.
    """
    wanted = math.ceil(tokens * token_bytes / 2**30) if token_bytes else USUAL_KV_GIB
    if free_gib is not None:
        wanted = min(wanted, math.floor(USABLE * free_gib / residents - weights_gib - PROCESS_GIB))
    return max(LEAST_KV_GIB, min(MOST_KV_GIB, wanted))
