"""Counters are differences over one server's life; anything else is an error, not a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_clock import FakeClock

from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.engines import counters
from draftsmith.engines.base import Snapshot, free_port
from draftsmith.engines.vllm import metrics

Recorded = Callable[[str], str]


def test_a_recorded_window_of_one_request_is_counted(recorded: Recorded) -> None:
    before = metrics.parse_metrics(recorded("metrics/ngram-0.txt"))
    after = metrics.parse_metrics(recorded("metrics/ngram-1.txt"))
    counted = metrics.diff(before, after)
    assert counted.present
    assert (counted.drafts, counted.draft_tokens, counted.accepted_tokens) == (1, 3, 0)
    assert counted.accepted_per_position == (0, 0, 0)
    assert (counted.prompt_tokens, counted.generation_tokens, counted.requests) == (45, 80, 1)
    assert counted.server_tpot_count == 1
    assert counted.server_tpot_sum_s == pytest.approx(0.034997, abs=1e-6)
    # 80 tokens in 79 steps after the first: one draft was made and nothing was accepted.
    assert counted.decode_steps == 79
    assert counted.tokens_per_step == 1.0
    assert counted.acceptance_length == 1.0


def text(start: float = 100.0, **values: float) -> str:
    lines = [f"process_start_time_seconds {start}"]
    for name, value in {"generation_tokens": 10.0, **values}.items():
        lines += [
            f"# TYPE vllm:{name} counter",
            f'vllm:{name}_total{{engine="0",model_name="t"}} {value}',
            f'vllm:{name}_total{{engine="1",model_name="t"}} {value}',
            f'vllm:{name}_created{{engine="0",model_name="t"}} 1.79e+09',
        ]
    return "\n".join(lines) + "\n"


def test_engines_of_one_server_are_added_up_and_created_series_are_no_data() -> None:
    snapshot = metrics.parse_metrics(text(generation_tokens=7))
    assert snapshot.values == {(metrics.GENERATED, ""): 14.0}


def test_without_speculation_nothing_is_present() -> None:
    before, after = metrics.parse_metrics(text()), metrics.parse_metrics(text(generation_tokens=15))
    counted = metrics.diff(before, after)
    assert not counted.present
    assert counted.generation_tokens == 10
    assert counted.acceptance_length is None
    assert counted.server_tpot_count is None


def test_positions_are_in_numerical_order() -> None:
    lines = [text()] + [
        f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{engine="0",position="{p}"}} {100 - p}\n'
        for p in range(12)
    ]
    after = metrics.parse_metrics("".join(lines))
    counted = metrics.diff(metrics.parse_metrics(text()), after)
    assert counted.accepted_per_position == tuple(range(100, 88, -1))


def test_a_replaced_server_is_an_error_whichever_way_it_shows() -> None:
    old = metrics.parse_metrics(text(start=100.0))
    with pytest.raises(EngineLostError, match="replaced"):
        metrics.diff(old, metrics.parse_metrics(text(start=200.0)))
    with pytest.raises(EngineLostError, match="went down"):
        metrics.diff(old, metrics.parse_metrics(text(generation_tokens=3)))


def test_text_of_something_else_is_refused() -> None:
    with pytest.raises(EngineError, match="no vLLM counters"):
        metrics.parse_metrics("process_start_time_seconds 1\n")
    with pytest.raises(EngineError, match="not Prometheus"):
        metrics.parse_metrics("<html><body>hello</body></html>")


def test_counters_are_taken_only_once_they_rest(wire: Any) -> None:
    wire.speaks("/metrics", *(text(generation_tokens=n) for n in (10, 12, 12, 14, 14, 14)))
    clock = FakeClock()
    assert metrics.settled(wire.url, clock).values[metrics.GENERATED, ""] == 28
    assert wire.seen == ["/metrics"] * 6
    assert clock.slept == [counters.SETTLE_POLL_S] * 5


def test_counters_that_never_rest_are_an_error_in_bounded_time() -> None:
    moving = iter(range(10_000))
    clock = FakeClock()
    with pytest.raises(EngineError, match="still move"):
        counters.settled("", lambda _: Snapshot({(metrics.GENERATED, ""): next(moving)}, "1"), clock)
    assert sum(clock.slept) <= counters.SETTLE_LIMIT_S + counters.SETTLE_POLL_S


def test_a_replaced_server_is_noticed_by_its_identity(wire: Any) -> None:
    wire.speaks("/version", {"version": "0.32.0"})
    wire.speaks("/v1/models", {"data": [{"id": "target", "max_model_len": 2048}]})
    wire.speaks("/metrics", text(start=100.0), text(start=100.0), text(start=300.0))
    first = metrics.identity(wire.url)
    assert (first.version, first.model, first.max_model_len, first.start_id) == ("0.32.0", "target", 2048, "100.00")
    metrics.require_same(wire.url, first)
    with pytest.raises(EngineLostError, match="replaced \\(different: start_id\\)"):
        metrics.require_same(wire.url, first)


def test_silence_and_other_servers_are_told_apart(wire: Any) -> None:
    with pytest.raises(EngineLostError, match="does not answer"):
        metrics.read(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EngineError, match="answered 404"):
        metrics.read(wire.url)


@pytest.mark.parametrize("said", [True, False, None])
def test_a_server_says_whether_it_keeps_prefixes(wire: Any, said: bool | None) -> None:
    info = f'vllm:cache_config_info{{block_size="16",enable_prefix_caching="{said}",engine="0"}} 1.0\n'
    wire.speaks("/version", {"version": "0.32.0"})
    wire.speaks("/v1/models", {"data": [{"id": "target"}]})
    wire.speaks("/metrics", text() + (info if said is not None else ""))
    assert metrics.identity(wire.url).prefix_caching is said
