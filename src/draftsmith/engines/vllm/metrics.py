"""vLLM's counters: read from /metrics, compared across a window. Names hold for 0.24 and 0.32.

Laws: a counter is only ever used as a difference; `_created` series are timestamps, not data; a value that went down,
or another process start time, means that the server was replaced, and nothing is computed across that.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.contract.measure import SpecCounters
from draftsmith.engines.base import ServerIdentity, Snapshot
from draftsmith.kit.certificates import trusted
from draftsmith.kit.clock import Clock, SystemClock

TIMEOUT_S = 10.0
SETTLE_POLL_S = 0.15
SETTLE_READINGS = 3
SETTLE_LIMIT_S = 10.0

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
    STEPS: "",
}

NEXT_STEP = "look at the engine's log; if it was replaced on purpose, run the trial again"


def parse_metrics(text: str) -> Snapshot:
    """Sum the wanted series of Prometheus text. Raises EngineError if there is no vLLM counter in it."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[tuple[str, str], float] = {}
    start: str | None = None
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == START_TIME:
                    start = f"{sample.value:.2f}"
                if sample.name in WANTED:
                    key = (sample.name, sample.labels.get(WANTED[sample.name], ""))
                    values[key] = values.get(key, 0.0) + sample.value
    except ValueError as error:
        raise EngineError(f"/metrics is not Prometheus text ({error})", "check the endpoint's address") from None
    if (GENERATED, "") not in values:
        raise EngineError(
            "/metrics holds no vLLM counters", "point to a vLLM server started without --disable-log-stats"
        )
    return Snapshot(values=values, start_id=start)


def diff(before: Snapshot, after: Snapshot) -> SpecCounters:
    """What was counted between two snapshots. Raises EngineLostError if they are of two different server starts."""
    if before.start_id != after.start_id:
        raise EngineLostError("the server was replaced between two readings of its counters", NEXT_STEP)
    for (name, label), value in before.values.items():
        if after.values.get((name, label), 0.0) < value:
            raise EngineLostError(f"counter {name} went down between two readings: the server was restarted", NEXT_STEP)

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


def settled(url: str, clock: Clock | None = None, once: Callable[[str], Snapshot] = read) -> Snapshot:
    """Read until three readings in a row are equal: counters trail the last response by a moment.

    Raises EngineError if they still move after 10 s: then something else is using the server.
    """
    clock = clock or SystemClock()
    deadline = clock.monotonic() + SETTLE_LIMIT_S
    last, same = once(url), 1
    while same < SETTLE_READINGS:
        if clock.monotonic() >= deadline:
            raise EngineError(
                f"the counters still move {SETTLE_LIMIT_S:.0f} s after the last response",
                "make sure that nothing else sends requests to this server, and run the trial again",
            )
        clock.sleep(SETTLE_POLL_S)
        now = once(url)
        same = same + 1 if now == last else 1
        last = now
    return last


def identity(url: str) -> ServerIdentity:
    """Who answers at `url`. Raises EngineLostError if nobody does."""
    version = _get(url, "/version").json().get("version")
    text = _get(url, "/metrics").text
    models = _get(url, "/v1/models").json().get("data") or [{}]
    return ServerIdentity(
        version=version,
        model=models[0].get("id"),
        max_model_len=models[0].get("max_model_len"),
        start_id=parse_metrics(text).start_id,
        prefix_caching=_keeps_prefixes(text),
    )


def _keeps_prefixes(text: str) -> bool | None:
    """What the server's own settings among its metrics say of the prefix cache; None where they are not there."""
    said = {found[1] for found in CACHE_INFO.finditer(text)}
    return said == {"True"} if said else None


def require_same(url: str, expected: ServerIdentity) -> None:
    """Raise EngineLostError if another server (start, version or model) answers at `url` than `expected`."""
    found = identity(url)
    if found != expected:
        names = [
            n for n in ("version", "model", "max_model_len", "start_id") if getattr(found, n) != getattr(expected, n)
        ]
        raise EngineLostError(f"the server at {url} was replaced (different: {', '.join(names)})", NEXT_STEP)


def _get(url: str, path: str) -> httpx.Response:
    try:
        answer = httpx.get(url.rstrip("/") + path, timeout=TIMEOUT_S, trust_env=False, verify=trusted())
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise EngineLostError(f"{url} does not answer ({type(error).__name__})", NEXT_STEP) from None
    if answer.status_code != httpx.codes.OK:
        raise EngineError(f"{url}{path} answered {answer.status_code}", "check that this is a vLLM server")
    return answer
