"""Results of benchmark tools, a request each: vLLM bench, SGLang bench, AIPerf and GenAI-Perf, guidellm, inference-perf, AIBrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    count,
    duration,
    each,
    embedded,
    mapping,
    seconds,
)
from draftsmith.traffic.importers.bodies import both, name_of
from draftsmith.traffic.importers.layout import Layout


def _at(rows: Any, place: int) -> Any:
    return rows[place] if isinstance(rows, list) and place < len(rows) else None


def _vllm_bench(document: Any) -> Iterator[Fields | SkipError]:
    """Columns with one value a request (`--save-detailed`)."""
    lengths = document["input_lens"]
    if not isinstance(lengths, list) or not lengths:
        raise SkipError("benchmark result without its requests (--save-detailed)")

    def one(place: int) -> Fields:
        if _at(document.get("errors"), place):
            raise SkipError("failed request")
        answer = _at(document.get("generated_texts"), place)
        fields = both(_at(document.get("prompts"), place), answer, parts.Lost())
        start, first = duration(_at(document.get("start_times"), place)), duration(_at(document.get("ttfts"), place))
        gaps = _at(document.get("itls"), place)
        latency = duration(_at(document.get("latencies"), place))
        if latency is None and first is not None and isinstance(gaps, list):
            latency = first + sum(gap for gap in gaps if isinstance(gap, int | float) and not isinstance(gap, bool))
        if start is not None:
            fields["timing"] = {"start_unix_s": start, "ttft_s": first, "latency_s": latency}
        fields["usage"] = {
            "prompt_tokens": count(_at(lengths, place)),
            "completion_tokens": count(_at(document.get("output_lens"), place)),
        }
        return {**fields, "model": name_of(document.get("model_id"))}

    yield from each(range(len(lengths)), one)


def _metric(metrics: dict[str, Any], name: str) -> float | None:
    """A metric of AIPerf in its base unit: seconds, or a number."""
    metric = metrics.get(name)
    if isinstance(metric, dict):
        scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}.get(str(metric.get("unit")), 1.0)
        value = duration(metric.get("value"))
        return value * scale if value is not None else None
    return duration(metric)


def _aiperf(row: Any) -> Iterator[Fields]:
    about, metrics = mapping(row.get("metadata")), mapping(row.get("metrics"))
    if row.get("error") or about.get("was_cancelled") is True:
        raise SkipError("failed request")
    start = seconds(about.get("request_start_ns") or row.get("timestamp_ns"))
    latency = _metric(metrics, "request_latency")
    end = seconds(about.get("request_end_ns"))
    if latency is None and start is not None and end is not None:
        latency = end - start
    payload = row.get("payload") or row.get("inputs")
    fields = both(payload, embedded(row.get("responses")) or row.get("output"), parts.Lost())
    reasoning = count(_metric(metrics, "reasoning_token_count")) or 0
    output_tokens = count(_metric(metrics, "output_sequence_length"))
    if output_tokens is None and (tokens := count(_metric(metrics, "output_token_count"))) is not None:
        output_tokens = tokens + reasoning
    fields["usage"] = {
        "prompt_tokens": count(_metric(metrics, "input_sequence_length")),
        "completion_tokens": output_tokens,
    }
    if start is not None:
        fields["timing"] = {
            "start_unix_s": start,
            "latency_s": latency,
            "ttft_s": _metric(metrics, "time_to_first_token"),
        }
    conversation = about.get("conversation_id") or about.get("x_correlation_id")
    yield {
        **fields,
        "id": name_of(about.get("x_request_id")),
        "conversation": name_of(conversation),
        "model": name_of(about.get("model")),
    }


_GUIDELLM = Layout(
    prompt=("prompt", "request_args.body", "request_args"),
    answer="output",
    reasoning="reasoning_output",
    tool_calls="tool_calls",
    cached_tokens=("cached_tokens", "input_metrics.cached_tokens"),
    conversation="info.conversation_id",
    prompt_tokens=("prompt_tokens", "input_metrics.text_tokens", "input_metrics.total_tokens"),
    completion_tokens=("output_tokens", "output_metrics.text_tokens", "output_metrics.total_tokens"),
    start=(
        "request_start_time",
        "start_time",
        "info.timings.request_start",
        "scheduler_info.request_timings.request_start",
    ),
    end=("request_end_time", "end_time", "info.timings.request_end"),
    latency_s="request_latency",
    ttft_ms="time_to_first_token_ms",
    first=("first_token_time", "info.timings.first_iteration", "info.timings.first_token_iteration"),
    id="request_id",
)


def _guidellm(document: Any) -> Iterator[Fields | SkipError]:
    runs = document["benchmarks"] if isinstance(document.get("benchmarks"), list) else [document]
    made = False
    for run in runs:
        requests = mapping(run).get("requests")
        if isinstance(requests, list):
            requests = {"successful": requests}
        requests = mapping(requests)
        for kind in ("successful", "completed"):
            if isinstance(requests.get(kind), list):
                made = made or bool(requests[kind])
                yield from each(requests[kind], _GUIDELLM.record)
        for kind in ("errored", "incomplete"):
            rows = requests.get(kind)
            for _ in rows if isinstance(rows, list) else ():
                made = True
                yield SkipError("failed request")
    if not made:
        raise SkipError("benchmark result without its requests")


_INFERENCE_PERF = Layout(
    prompt="request",
    answer=("response", "info.output_text"),
    prompt_tokens=("info.input_tokens", "input_tokens", "info.request_metrics.text.input_tokens"),
    completion_tokens=("info.output_tokens", "output_tokens", "info.response_metrics.output_tokens"),
    usage="info.response_metrics.server_usage",
    start="start_time",
    end="end_time",
    first=("info.output_token_times[0]", "info.response_metrics.output_token_times[0]"),
    adapter="info.lora_adapter",
    failed="error",
)


def _is_inference_perf(row: Any) -> bool:
    info = row.get("info")
    return (
        "start_time" in row
        and "end_time" in row
        and isinstance(info, dict)
        and bool({"input_tokens", "output_tokens", "request_metrics"} & info.keys())
    )


def _inputs(row: Any) -> Iterator[Fields | SkipError]:
    """A session of AIPerf's `inputs.json`: one payload a turn."""
    conversation = name_of(row.get("session_id"))
    yield from each(row["payloads"], lambda body: {**both(body, None, parts.Lost()), "conversation": conversation})


def _aibrix(row: Any) -> Iterator[Fields | SkipError]:
    """`timestamp` is in milliseconds since the workload began; all its requests start then."""
    start = duration(row.get("timestamp"))

    def one(item: Any) -> Fields:
        fields = both(item.get("prompt"), None, parts.Lost())
        fields["usage"] = {
            "prompt_tokens": count(item.get("Prompt Length", item.get("prompt_length"))),
            "completion_tokens": count(item.get("Output Length", item.get("output_length"))),
        }
        fields["timing"] = {"start_unix_s": start / 1e3} if start is not None else None
        return {**fields, "model": name_of(item.get("model")), "conversation": name_of(item.get("session_id"))}

    yield from each(row["requests"], one)


def _is_aibrix(row: Any) -> bool:
    rows = row.get("requests")
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        return False
    return bool({"Prompt Length", "Output Length", "prompt_length"} & rows[0].keys()) or (
        "prompt" in rows[0] and "timestamp" in row
    )


BENCHES = (
    Importer("vllm-bench", lambda row: "input_lens" in row and "output_lens" in row, _vllm_bench, lacks=("prompts", "parameters"),
             what="results of `vllm bench serve --save-detailed` and of SGLang's `bench_serving --output-details`",
             marks=("input_lens", "output_lens", "ttfts", "itls", "generated_texts", "backend")),
    Importer("aiperf", lambda row: isinstance(row.get("metadata"), dict) and isinstance(row.get("metrics"), dict)
             and bool({"request_start_ns", "x_request_id", "session_num"} & row["metadata"].keys()), _aiperf, lacks=("text", "parameters"),
             what="`profile_export.jsonl` of AIPerf", marks=("metadata", "metrics", "error")),
    Importer("aiperf-inputs", lambda row: isinstance(row.get("payloads"), list) and bool(row["payloads"]) and isinstance(row["payloads"][0], dict), _inputs,
             lacks=("answers", "arrivals", "latency"), what="`inputs.json` of AIPerf and GenAI-Perf", marks=("session_id", "payloads")),
    Importer("guidellm", lambda row: (isinstance(row.get("benchmarks"), list) and any(isinstance(item, dict) and "requests" in item for item in row["benchmarks"])),
             _guidellm, lacks=("parameters",), what="reports of guidellm", marks=("benchmarks", "metadata", "requests")),
    Importer("inference-perf", _is_inference_perf, _INFERENCE_PERF.records, what="`per_request_lifecycle_metrics.json` of inference-perf",
             marks=("start_time", "end_time", "request", "response", "info")),
    Importer("aibrix-workload", _is_aibrix, _aibrix, lacks=("answers", "latency", "parameters"), what="workloads of AIBrix",
             marks=("timestamp", "requests")),
)  # fmt: skip
"""In the order in which they are asked."""
