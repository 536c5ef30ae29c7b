"""The one list of formats. Order matters: the first importer that knows a value reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import (
    benches,
    conversations,
    engine_logs,
    gateways,
    openai,
    otel,
    plain,
    servers,
    sessions,
    stores,
    trace_stores,
    traces,
)
from draftsmith.traffic.importers.base import Importer
from draftsmith.traffic.importers.layout import mapped

CATALOG: dict[str, Importer] = {
    item.name: item
    for item in (
        plain.NATIVE,
        openai.BATCH_INPUT,
        openai.BATCH_OUTPUT,
        gateways.TENSORZERO,
        gateways.LITELLM,
        gateways.ENVOY,
        gateways.LANGFUSE,
        sessions.CLAUDE_CODE,
        sessions.CODEX,
        engine_logs.SGLANG_JSON,
        engine_logs.TGI_ROUTER,
        *benches.BENCHES,
        *stores.STORES,
        *trace_stores.TRACE_STORES,
        otel.OPENINFERENCE,
        otel.OTEL_GENAI,
        servers.TGI_CHUNKS,
        openai.PAIR,
        openai.STORED,
        servers.TGI,
        conversations.ATIF,
        conversations.ARENA,
        conversations.SHAREGPT,
        conversations.MT_BENCH,
        conversations.MT_ANSWERS,
        conversations.ULTRACHAT,
        traces.MOONCAKE,
        traces.BURST,
        plain.PLAIN,
        plain.ALPACA,
        plain.QUESTION,
        openai.WRAPPED,
        plain.PRECOUNTED,
        traces.AZURE,
        traces.VIDUR,
        traces.BURST_TRACE,
        engine_logs.VLLM_LOG,
        engine_logs.SGLANG_LOG,
        engine_logs.ACCESS_LOG,
    )
}

_BY_KIND: dict[str, tuple[Importer, ...]] = {
    kind: tuple(item for item in CATALOG.values() if item.kind == kind) for kind in ("json", "csv", "text")
}
MAP = "map:"
GIVES = ("text", "ids", "times", "parameters", "tools")
"""What a format may give: prompts and answers, the engine's token ids, arrivals and latencies, sampling parameters, tool definitions."""
_WITH_IDS = frozenset(
    {
        "native",
        "openai-batch-output",
        "openai-pair",
        "openai-stored",
        "tgi",
        "tgi-stream",
        "vllm-log",
        "sglang-log",
        "sglang-json",
    }
)


def importer(name: str) -> Importer:
    """Look a format up; `map:FILE` is the mapping in that file. Raises InputError naming all formats."""
    if name.startswith(MAP):
        return mapped(Path(name.removeprefix(MAP)))
    if name not in CATALOG:
        raise InputError(f"unknown format {name!r}", f"use one of: {', '.join(CATALOG)}")
    return CATALOG[name]


def find(kind: str, value: Any) -> Importer | None:
    """The first importer of `kind` that knows `value` (a JSON object, a CSV row or a text line)."""
    for importer in _BY_KIND[kind]:
        try:
            if importer.matches(value):
                return importer
        except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError):
            continue  # a value of another format may have anything under the names that this one looks for
    return None


def nearest(names: Iterable[str]) -> str | None:
    """The format whose field names are most like these; None if none is like them at all."""
    seen = {name.rpartition(".")[2].lower() for name in names} | {name.lower() for name in names}
    hits = {
        importer.name: len({mark.lower() for mark in importer.marks} & seen)
        for importer in CATALOG.values()
        if importer.marks
    }
    # One name in common is chance: formats with two come first.
    best = max(hits, key=lambda name: (hits[name] > 1, hits[name] / len(CATALOG[name].marks)))
    return best if hits[best] else None


def gives(importer: Importer) -> dict[str, str]:
    """For each of GIVES `yes`, `no`, or the part that there is."""
    lacks = set(importer.lacks)
    text = "no" if "text" in lacks else "prompts" if "answers" in lacks else "answers" if "prompts" in lacks else "yes"
    times = {True: "no", False: "yes"}["arrivals" in lacks and "latency" in lacks]
    if times == "yes" and ("arrivals" in lacks or "latency" in lacks):
        times = "latency" if "arrivals" in lacks else "arrivals"
    parameters = "no" if "parameters" in lacks or "text" in lacks else "yes"
    tools = (
        "no"
        if "tools" in lacks or parameters == "no" or (importer.kind == "text" and importer.name != "access-log")
        else "yes"
    )
    return {
        "text": text,
        "ids": "yes" if importer.name in _WITH_IDS else "no",
        "times": times,
        "parameters": parameters,
        "tools": "no" if importer.name in ("tgi", "tgi-router", "sglang-json") else tools,
    }


def table() -> str:
    """The formats as a table for the page on profiles."""
    rows = [f"| format | what it is | {' | '.join(GIVES)} |", f"|---|---|{'---|' * len(GIVES)}"]
    for importer in CATALOG.values():
        has = gives(importer)
        rows.append(f"| `{importer.name}` | {importer.what} | {' | '.join(has[key] for key in GIVES)} |")
    return "\n".join(rows)
