"""Published traces: token counts and, at most, arrivals. Azure, Mooncake, Vidur, BurstGPT replays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import Fields, Importer, SkipError, count, duration, each, timing


def _counts(prompt: Any, completion: Any) -> dict[str, int | None]:
    return {"prompt_tokens": count(prompt), "completion_tokens": count(completion)}


def _azure(row: Any) -> Iterator[Fields]:
    yield {
        "usage": _counts(row.get("ContextTokens"), row.get("GeneratedTokens")),
        "timing": timing(row.get("TIMESTAMP")),
    }


def _vidur(row: Any) -> Iterator[Fields]:
    yield {
        "usage": _counts(row.get("num_prefill_tokens"), row.get("num_decode_tokens")),
        "timing": timing(row.get("arrived_at")) if row.get("arrived_at") else None,
    }


def _mooncake(row: Any) -> Iterator[Fields]:
    """`timestamp` is in milliseconds since the trace began; `hash_ids` name 512-token prefix blocks."""
    start = duration(row.get("timestamp"))
    blocks = row.get("hash_ids")
    yield {
        "usage": _counts(row.get("input_length"), row.get("output_length")),
        "timing": {"start_unix_s": start / 1e3} if start is not None else None,
        "prefix_blocks": [block for block in blocks if isinstance(block, int)] if isinstance(blocks, list) else None,
    }


def _burst(row: Any) -> Fields:
    """One request of a BurstGPT replay. `record_time` is when it ended, on a clock with an arbitrary zero."""
    end, latency = duration(row.get("record_time")), duration(row.get("total_chunk_time"))
    first = duration(row.get("first_chunk_time"))
    known = end is not None and latency is not None
    return {
        "usage": _counts(row.get("in_len"), row.get("out_len")),
        "timing": {"start_unix_s": end - latency, "latency_s": latency, "ttft_s": first} if known else None,  # type: ignore[operator]
    }


def _burst_document(document: Any) -> Iterator[Fields | SkipError]:
    rows = [row for row in document.values() if isinstance(row, dict)]
    if not rows or "in_len" not in rows[0]:
        raise SkipError("server statistics, not requests")
    yield from each(rows, _burst)


def _is_numbered(document: Any) -> bool:
    """`{"0": {...}, "4": {...}}`: replay logs key their rows by event number."""
    key = next(iter(document), None)
    row = document.get(key)
    return (
        isinstance(key, str) and key.isdigit() and isinstance(row, dict) and bool({"in_len", "timestamp"} & row.keys())
    )


def _burst_trace(row: Any) -> Iterator[Fields]:
    """`Timestamp` is in seconds since the trace began. Requests that failed have no answer tokens."""
    answer = count(row.get("Response tokens"))
    if answer == 0:
        raise SkipError("failed request")
    start = duration(row.get("Timestamp"))
    yield {
        "usage": {"prompt_tokens": count(row.get("Request tokens")), "completion_tokens": answer},
        "timing": {"start_unix_s": start, "latency_s": duration(row.get("Elapsed time"))}
        if start is not None
        else None,
        "model": row.get("Model") or None,
        "route": row.get("Log Type") or None,
        "conversation": row.get("Session ID") or None,
    }


BURST_TRACE = Importer(
    "burstgpt-trace",
    lambda row: "Request tokens" in row and "Response tokens" in row,
    _burst_trace,
    kind="csv",
    lacks=("text", "latency"),
    what="CSV of BurstGPT: lengths and arrivals",
    marks=("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type"),
)
AZURE = Importer(
    "azure-trace",
    lambda row: "ContextTokens" in row,
    _azure,
    kind="csv",
    lacks=("text", "latency"),
    what="CSV: lengths and arrivals",
    marks=("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
)
VIDUR = Importer(
    "vidur-trace",
    lambda row: "num_prefill_tokens" in row,
    _vidur,
    kind="csv",
    lacks=("text", "arrivals", "latency"),
    what="CSV: lengths",
    marks=("num_prefill_tokens", "num_decode_tokens"),
)
MOONCAKE = Importer(
    "mooncake-trace",
    lambda row: "input_length" in row and "output_length" in row,
    _mooncake,
    lacks=("text", "latency"),
    what="lengths, arrivals, prefix blocks",
    marks=("timestamp", "input_length", "output_length", "hash_ids"),
)
BURST = Importer(
    "burstgpt-replay",
    _is_numbered,
    _burst_document,
    lacks=("text",),
    what="numbered rows of a replay: lengths and times",
)
