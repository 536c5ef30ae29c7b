"""The one list of formats. Order matters: the first importer that knows a value reads it."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import gateways, openai, otel, plain, servers, traces
from draftsmith.traffic.importers.base import Importer

CATALOG: dict[str, Importer] = {
    one.name: one
    for one in (
        plain.NATIVE,
        openai.BATCH_INPUT,
        openai.BATCH_OUTPUT,
        gateways.TENSORZERO,
        gateways.LITELLM,
        gateways.ENVOY,
        gateways.LANGFUSE,
        otel.OPENINFERENCE,
        otel.OTEL_GENAI,
        openai.PAIR,
        openai.STORED,
        servers.TGI_CHUNKS,
        servers.TGI,
        plain.SHAREGPT,
        traces.MOONCAKE,
        traces.BURST,
        plain.PLAIN,
        plain.PRECOUNTED,
        traces.AZURE,
        traces.VIDUR,
        servers.VLLM_LOG,
    )
}

_BY_KIND: dict[str, tuple[Importer, ...]] = {
    kind: tuple(one for one in CATALOG.values() if one.kind == kind) for kind in ("json", "csv", "text")
}


def importer(name: str) -> Importer:
    """Look a format up. Raises InputError naming all formats."""
    if name not in CATALOG:
        raise InputError(f"unknown format {name!r}", f"use one of: {', '.join(CATALOG)}")
    return CATALOG[name]


def find(kind: str, value: Any) -> Importer | None:
    """The first importer of `kind` that knows `value` (a JSON object, a CSV row or a text line)."""
    return next((one for one in _BY_KIND[kind] if one.matches(value)), None)
