"""DCGM's profiling counters with their times: from an exporter's text that was kept, or from the Prometheus that scrapes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from draftsmith.contract.counters import FIELDS, GpuSample
from draftsmith.contract.errors import BackendError, InputError
from draftsmith.kit.certificates import trusted

AT = re.compile(r"^# at (\d{9,11}(?:\.\d+)?)$")
CHUNK_S = 3600.0
TIMEOUT_S = 30.0
MOST_BYTES = 1 << 28


def parse(text: str) -> list[GpuSample]:
    """Scrapes of a DCGM exporter, one after the other in one file.

    A reading's time is its own timestamp (milliseconds, as the format has it), or that of the line `# at <unix seconds>` before
    its scrape. Raises InputError if neither is there, or the text is no exporter's.
    """
    from prometheus_client.parser import text_string_to_metric_families

    gpu_samples: list[GpuSample] = []
    timeless = 0
    try:
        for at, scrape in _scrapes(text):
            for family in text_string_to_metric_families(scrape):
                for sample in family.samples:
                    if sample.name not in FIELDS:
                        continue
                    moment = float(sample.timestamp) if sample.timestamp else at
                    if moment is None:
                        timeless += 1
                    elif 0 <= sample.value <= 1.001:
                        gpu_samples.append(_sample(moment, sample.labels, sample.name, sample.value))
    except ValueError as error:
        raise InputError(
            f"this is no text of a DCGM exporter: {str(error)[:120]}",
            "give what its /metrics printed, scrape after scrape",
        ) from None
    if not gpu_samples and timeless:
        raise InputError(
            "the readings say no time, so they belong to no trial",
            'write a line `# at <unix seconds>` before each scrape: (echo "# at $(date +%s.%N)"; curl -s HOST:9400/metrics) >> dcgm.txt',
        )
    if not gpu_samples:
        raise InputError(
            "there is no profiling counter in it (DCGM_FI_PROF_*)",
            "let the exporter collect DCGM_FI_PROF_DRAM_ACTIVE and others",
        )
    return gpu_samples


def ask_prometheus(url: str, start: float, end: float, host: str | None = None) -> list[GpuSample]:
    """The readings as they were scraped, from `start` to `end` (unix seconds). Raises BackendError, InputError if there is none."""
    import httpx

    names = "|".join(FIELDS)
    chosen = f'{{__name__=~"{names}"' + (f",Hostname={_quoted(host)}" if host else "") + "}"
    gpu_samples: list[GpuSample] = []
    with httpx.Client(timeout=TIMEOUT_S, verify=trusted(environment=True)) as client:
        place = start
        while place < end:
            upto = min(end, place + CHUNK_S)
            query = {"query": f"{chosen}[{math.ceil(upto - place)}s]", "time": f"{upto:.3f}"}
            for series in _answer(client, url, query):
                labels = series.get("metric", {})
                gpu_samples += [
                    _sample(float(at), labels, labels["__name__"], float(value))
                    for at, value in series.get("values", ())
                    if 0 <= float(value) <= 1.001
                ]
            place = upto
    if not gpu_samples:
        raise InputError(
            "this Prometheus has no DCGM_FI_PROF_* of the time of these trials",
            "let it scrape a DCGM exporter with profiling counters while it is measured, every second",
        )
    return sorted(set(gpu_samples))


def _answer(client: Any, url: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    import httpx

    try:
        answer = client.get(f"{url.rstrip('/')}/api/v1/query", params=query)
        if len(answer.content) > MOST_BYTES:
            raise BackendError("Prometheus answered with more than 256 MiB", "name the node with --host")
        answer_json = answer.json()
        result: list[dict[str, Any]] = answer_json["data"]["result"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise BackendError(
            f"Prometheus could not be asked ({type(error).__name__})",
            "check --prometheus: it is its address, without a path",
        ) from None
    return result


def _scrapes(text: str) -> Iterator[tuple[float | None, str]]:
    """Scrapes with their times: the parser takes each family once a text, so that they are read one by one."""
    at: float | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if (mark := AT.match(line.strip())) is not None:
            if lines:
                yield at, "\n".join(lines) + "\n"
            at, lines = float(mark[1]), []
        elif line.strip():
            lines.append(line)
    if lines:
        yield at, "\n".join(lines) + "\n"


def _sample(at: float, labels: Mapping[str, str], name: str, value: float) -> GpuSample:
    return GpuSample(
        at,
        str(labels.get("Hostname", "")),
        str(labels.get("UUID") or labels.get("gpu", "")),
        FIELDS[name],
        min(1.0, value),
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
