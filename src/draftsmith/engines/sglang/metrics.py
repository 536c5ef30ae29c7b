"""SGLang's counters: read from /metrics, compared across a window. Names of 0.5.17.

It has no counter of accepted tokens: acceptance length and rate are gauges of the last interval. What it counts are verify
calls, one a step of one sequence, so that accepted tokens are what was generated beyond one token a call. A request's
tokens are counted when it ends.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from draftsmith.contract.errors import EngineError
from draftsmith.contract.measure import EngineFacts, SpecCounters
from draftsmith.engines import counters
from draftsmith.engines.base import ServerIdentity, Snapshot
from draftsmith.engines.sglang.log import facts_of_info
from draftsmith.kit.clock import Clock

VERIFY_CALLS = "sglang:spec_verify_calls_total"
GENERATED = "sglang:generation_tokens_total"
PROMPT = "sglang:prompt_tokens_total"
REQUESTS = "sglang:num_requests_total"
DRAFT_TOKENS = "sglang:spec_num_draft_tokens"  # a gauge: tokens of one verify call, the certain one included
STEPS = "sglang:spec_num_steps"  # a gauge too: it moves where the number of steps is adaptive
TOKEN_SUM = "sglang:inter_token_latency_seconds_sum"
TOKEN_COUNT = "sglang:inter_token_latency_seconds_count"  # tokens after the first of each request
FIRST_SUM = "sglang:time_to_first_token_seconds_sum"
FIRST_COUNT = "sglang:time_to_first_token_seconds_count"
RETRACTED = "sglang:num_retracted_requests_total"
GAUGES = frozenset({DRAFT_TOKENS, STEPS})
COUNTED = (VERIFY_CALLS, GENERATED, PROMPT, REQUESTS, TOKEN_SUM, TOKEN_COUNT, FIRST_SUM, FIRST_COUNT, RETRACTED)
WANTED = dict.fromkeys(COUNTED, "")
SIZES = {"kv_tokens": "sglang:max_total_num_tokens", "length": "sglang:context_len"}
FLUSH_S = 5  # how long the server may wait until its last request has ended
STARTED = re.compile(r"^sglang:startup_time_seconds\{[^\n]*\} (\S+)$", re.MULTILINE)


def parse_metrics(text: str) -> Snapshot:
    """The wanted series of Prometheus text. Raises EngineError if there is no SGLang counter in it."""
    if "sglang:" not in text:
        raise EngineError("/metrics holds no SGLang counters", "start SGLang with --enable-metrics")
    values = counters.sums(text, WANTED)
    values |= {(gauge, ""): highest(text, gauge) for gauge in GAUGES}
    return Snapshot(values=values, start_id=_start(text))


def highest(text: str, gauge: str) -> float:
    """The highest value of a gauge: every rank, and with data parallelism every replica, has its own. 0 if there is none."""
    return max((float(value) for value in re.findall(rf"^{gauge}\{{[^\n]*\}} (\S+)$", text, re.MULTILINE)), default=0.0)


def sizes(text: str) -> dict[str, int | None]:
    """KV cache in tokens of one replica, and context length, where the metrics tell them."""
    return {name: int(highest(text, gauge)) or None for name, gauge in SIZES.items()}


def _start(text: str) -> str | None:
    """SGLang publishes no start time; the durations of its start, to the nanosecond, are different every time."""
    durations = STARTED.findall(text)
    return hashlib.sha256(" ".join(durations).encode()).hexdigest()[:16] if durations else None


def speculates(reading: Snapshot) -> bool:
    """Whether the server speculates: the gauge of its draft tokens is 0 without."""
    return reading.values.get((DRAFT_TOKENS, ""), 0.0) > 0 or reading.values.get((VERIFY_CALLS, ""), 0.0) > 0


def diff(before: Snapshot, after: Snapshot) -> SpecCounters:
    """What was counted between two snapshots. Raises EngineLostError if they are of two different server starts."""
    counters.require_same_start(before, after, lambda name: name not in GAUGES)

    def change(name: str) -> float:
        return after.values.get((name, ""), 0.0) - before.values.get((name, ""), 0.0)

    def delta(name: str) -> int:
        return round(change(name))

    generated, requests, steps = delta(GENERATED), delta(REQUESTS), delta(VERIFY_CALLS)
    later = max(0, generated - requests)  # tokens after each request's first
    drafting = speculates(after)
    drafted = steps * max(0, int(after.values.get((DRAFT_TOKENS, ""), 0.0)) - 1)
    accepted = max(0, later - steps) if drafting else 0
    # Adaptive steps: every step is a verify call, also one of no drafted token, but how many tokens were drafted is not known.
    steady = before.values.get((STEPS, "")) in (None, 0.0, after.values.get((STEPS, "")))  # 0 before the first draft
    tokens = delta(TOKEN_COUNT)
    return SpecCounters(
        present=drafting,
        drafts=steps,
        draft_tokens=drafted if steady and accepted <= drafted else 0,
        accepted_tokens=accepted,
        generation_tokens=generated,
        prompt_tokens=delta(PROMPT),
        requests=requests,
        preemptions=delta(RETRACTED),
        server_tpot_sum_s=change(TOKEN_SUM) if tokens else None,
        server_tpot_count=tokens or None,
        decode_steps=steps if drafting else later,
    )


def read(url: str) -> Snapshot:
    """One reading of `url`/metrics. Raises EngineLostError if it does not answer, EngineError if it is no SGLang."""
    return parse_metrics(_get(url, "/metrics").text)


def settled(url: str, clock: Clock | None = None, pause_s: float = counters.SETTLE_POLL_S) -> Snapshot:
    """See counters.settled."""
    return counters.settled(url, read, clock, pause_s)


def server_info(url: str, key: str | None = None) -> dict[str, Any]:
    """What the server says of itself; its path was another one in earlier releases. Raises EngineLostError, EngineError."""
    try:
        content = _get(url, "/server_info", key).json()
    except EngineError:
        content = _get(url, "/get_server_info", key).json()
    if not isinstance(content, dict):
        raise EngineError(f"{url}/server_info is no object", "check that this is a server of SGLang")
    return content


def flush(url: str) -> None:
    """Empty the prefix cache and the n-gram trie. Raises EngineError if requests are still under way."""
    _get(url, f"/flush_cache?timeout={FLUSH_S}")


def published(url: str, key: str | None = None) -> EngineFacts:
    """What a running server says of itself: /server_info, which its API key guards, and the sizes among its metrics."""
    info, text = server_info(url, key), _get(url, "/metrics").text
    result, reading = sizes(text), parse_metrics(text)
    return facts_of_info(info, reading.start_id or "", kv_tokens=result["kv_tokens"], length=result["length"])


def identity(url: str) -> ServerIdentity:
    """Identity of the server at `url`. Raises EngineLostError if no server answers."""
    info, reading = server_info(url), read(url)
    models = _get(url, "/v1/models").json().get("data") or [{}]
    no_radix = info.get("disable_radix_cache")
    return ServerIdentity(
        version=info.get("version"),
        model=models[0].get("id"),
        max_model_len=models[0].get("max_model_len"),
        start_id=reading.start_id,
        prefix_caching=None if not isinstance(no_radix, bool) else not no_radix,
    )


def _get(url: str, path: str, key: str | None = None) -> Any:
    return counters.get(url, path, "SGLang", key)
