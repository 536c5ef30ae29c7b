"""Where two starts of one engine differ although no draft explains it. Pure."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.measure import EngineFacts


def config_diff(a: EngineFacts, b: EngineFacts) -> dict[str, tuple[Any, Any]]:
    """Fields of two starts that differ although no draft explains it: {field: (value of a, value of b)}.

    Left out: what names the start, the speculation itself, and the KV cache, which a draft makes smaller. Of the
    warnings only those on CUDA graphs count.
    """
    left, right = _comparable(a), _comparable(b)
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}


def _comparable(facts: EngineFacts) -> dict[str, Any]:
    explained = {
        "start_id",
        "pid",
        "sharing",
        "kv_tokens",
        "spec_method",
        "num_speculative_tokens",
        "warnings",
        "async_scheduling",
    }
    graphs = tuple(line for line in facts.warnings if "cudagraph" in line or "CUDAGraph" in line)
    return {**facts.model_dump(exclude=explained), "graph_warnings": graphs}
