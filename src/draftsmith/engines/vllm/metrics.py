"""vLLM's counters: read from /metrics, compared across a window. Names hold for 0.24 and 0.32.

Laws: a counter is only ever used as a difference; `_created` series are timestamps, not data; a value that went down,
or another process start time, means that the server was replaced, and nothing is computed across that.
"""

from __future__ import annotations

import re

import httpx

from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.contract.measure import SpecCounters
from draftsmith.engines import counters
from draftsmith.engines.base import ServerIdentity, Snapshot
from draftsmith.engines.counters import NEXT_STEP
from draftsmith.kit.clock import Clock

DRAFTS = "vllm:spec_decode_num_drafts_total"
DRAFT_TOKENS = "vllm:spec_decode_num_draft_tokens_total"
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
PER_POSITION = "vllm:spec_decode_num_accepted_tokens_per_pos_total"
GENERATED = "vllm:generation_tokens_total"
PROMPT = "vllm:prompt_tokens_total"
SUCCESS = "vllm:request_success_total"
PREEMPTIONS = "vllm:num_preemptions_total"
TPOT_SUM = "vllm:request_time_per_output_token_seconds_sum"
TPOT_COUNT = "vllm:request_time_per_output_token_seconds_count"
TTFT_SUM = "vllm:time_to_first_token_seconds_sum"
TTFT_COUNT = "vllm:time_to_first_token_seconds_count"
STEPS = "vllm:inter_token_latency_seconds_count"
CACHE_INFO = re.compile(r'^vllm:cache_config_info\{[^\n]*enable_prefix_caching="(\w+)"', re.MULTILINE)
SPECULATION = "vllm:spec_decode"
START_TIME = "process_start_time_seconds"

# Metric -> the label that is kept; series that differ in other labels (engine, model_name, reason) are added up.
WANTED = {
    DRAFTS: "",
    DRAFT_TOKENS: "",
    ACCEPTED: "",
    PER_POSITION: "position",
    GENERATED: "",
    PROMPT: "",
    SUCCESS: "",
    PREEMPTIONS: "",
    TPOT_SUM: "",
    TPOT_COUNT: "",
    TTFT_SUM: "",
    TTFT_COUNT: "",
    STEPS: "",
    START_TIME: "",
}


def parse_metrics(text: str) -> Snapshot:
    """Sum the wanted series of Prometheus text. Raises EngineError if there is no vLLM counter in it."""
    values = counters.sums(text, WANTED)
    start = values.pop((START_TIME, ""), None)
    if (GENERATED, "") not in values:
        raise EngineError(
            "/metrics holds no vLLM counters", "point to a vLLM server started without --disable-log-stats"
        )
    return Snapshot(values=values, start_id=None if start is None else f"{start:.2f}")


def diff(before: Snapshot, after: Snapshot) -> SpecCounters:
    """What was counted between two snapshots. Raises EngineLostError if they are of two different server starts."""
    counters.require_same_start(before, after)

    def delta(name: str, label: str = "") -> float:
        return after.values.get((name, label), 0.0) - before.values.get((name, label), 0.0)

    def optional(name: str) -> float | None:
        return delta(name) if (name, "") in after.values else None

    positions = sorted((label for name, label in after.values if name == PER_POSITION), key=int)
    count, steps = optional(TPOT_COUNT), optional(STEPS)
    return SpecCounters(
        present=(DRAFTS, "") in after.values,
        drafts=int(delta(DRAFTS)),
        draft_tokens=int(delta(DRAFT_TOKENS)),
        accepted_tokens=int(delta(ACCEPTED)),
        accepted_per_position=tuple(int(delta(PER_POSITION, position)) for position in positions),
        generation_tokens=int(delta(GENERATED)),
        prompt_tokens=int(delta(PROMPT)),
        requests=int(delta(SUCCESS)),
        preemptions=int(delta(PREEMPTIONS)),
        server_tpot_sum_s=optional(TPOT_SUM),
        server_tpot_count=None if count is None else int(count),
        decode_steps=None if steps is None else int(steps),
    )


def read(url: str) -> Snapshot:
    """One reading of `url`/metrics. Raises EngineLostError if it does not answer, EngineError if it is no vLLM."""
    return parse_metrics(_get(url, "/metrics").text)


def speculates(reading: Snapshot) -> bool:
    """Whether the server publishes counters of drafts: it does so only with speculation."""
    return any(name.startswith(SPECULATION) for name, _ in reading.values)


def settled(url: str, clock: Clock | None = None, pause_s: float = counters.SETTLE_POLL_S) -> Snapshot:
    """See counters.settled."""
    return counters.settled(url, read, clock, pause_s)


def identity(url: str, key: str | None = None) -> ServerIdentity:
    """Identity of the server at `url`. Raises EngineLostError if no server answers."""
    version = _get(url, "/version").json().get("version")
    text = _get(url, "/metrics").text
    models = _get(url, "/v1/models", key).json().get("data") or [{}]
    return ServerIdentity(
        version=version,
        model=models[0].get("id"),
        max_model_len=models[0].get("max_model_len"),
        start_id=parse_metrics(text).start_id,
        prefix_caching=_keeps_prefixes(text),
    )


def _keeps_prefixes(text: str) -> bool | None:
    """What the server's own settings among its metrics say of the prefix cache; None where they are not there."""
    flags = {result[1] for result in CACHE_INFO.finditer(text)}
    return flags == {"True"} if flags else None


def require_same(url: str, expected: ServerIdentity) -> None:
    """Raise EngineLostError if another server (start, version or model) answers at `url` than `expected`."""
    server = identity(url)
    if server != expected:
        names = [
            n for n in ("version", "model", "max_model_len", "start_id") if getattr(server, n) != getattr(expected, n)
        ]
        raise EngineLostError(f"the server at {url} was replaced (different: {', '.join(names)})", NEXT_STEP)


def _get(url: str, path: str, key: str | None = None) -> httpx.Response:
    return counters.get(url, path, "vLLM", key)
