"""What the counters of a served engine say, through restarts, silence and other models; and the test for a fall."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from material import shared
from moments import AUTO, CHAMPION, NOW

from draftsmith.contract.control import LiveSeen
from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.controller.acceptance import over
from draftsmith.controller.live import WINDOW_DRAFTS, LiveReader, promised_share
from draftsmith.engines.base import ServerIdentity, Snapshot
from draftsmith.engines.catalog import engine
from draftsmith.engines.sglang import metrics as sglang_metrics
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.engines.vllm.metrics import parse_metrics

METRICS = Path(__file__).parent.parent / "engines" / "metrics"


class Server:
    """Counters that the test moves."""

    def __init__(self) -> None:
        self.up = True
        self.restart()

    def restart(self) -> None:
        self.start = random.random() * 1e6
        self.values = dict.fromkeys(
            ("drafts", "drafted", "accepted", "made", "done", "tpot", "count", "first", "firsts"), 0.0
        )

    def serve(self, requests: int, length: float, tpot_s: float = 0.02, k: int = 3) -> None:
        drafts = requests * 10
        step = {"drafts": drafts, "drafted": drafts * k, "accepted": drafts * (length - 1), "made": drafts * length,
                "done": requests, "tpot": requests * tpot_s, "count": requests, "first": requests * 0.1, "firsts": requests}  # fmt: skip
        for name, value in step.items():
            self.values[name] += value

    def reading(self, _url: str) -> Snapshot:
        if not self.up:
            raise EngineLostError("does not answer", "look")
        v = self.values
        text = f"""process_start_time_seconds {self.start:.2f}
vllm:spec_decode_num_drafts_total {v["drafts"]}
vllm:spec_decode_num_draft_tokens_total {v["drafted"]}
vllm:spec_decode_num_accepted_tokens_total {v["accepted"]}
vllm:generation_tokens_total {v["made"]}
vllm:request_success_total {v["done"]}
vllm:request_time_per_output_token_seconds_sum {v["tpot"]}
vllm:request_time_per_output_token_seconds_count {v["count"]}
vllm:time_to_first_token_seconds_sum {v["first"]}
vllm:time_to_first_token_seconds_count {v["firsts"]}
"""
        return parse_metrics(text)


class Watch:
    def __init__(self, tmp_path: Path) -> None:
        self.server, self.now = Server(), NOW
        self.reader = LiveReader(VllmEngine(tmp_path), AUTO, self.server.reading)
        self.look()

    def look(self, seconds: float = 10.0) -> LiveSeen:
        self.now += seconds
        return self.reader.look("http://one", self.now, CHAMPION)


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path)


def test_figures_are_those_of_the_last_two_minutes(watch: Watch) -> None:
    for _ in range(20):
        watch.server.serve(5, 1.5)
        watch.look()
    for _ in range(13):
        watch.server.serve(5, 2.5, tpot_s=0.03)
        seen = watch.look()
    assert seen.acceptance_length == pytest.approx(2.5)
    assert seen.tpot_s == pytest.approx(0.03)
    assert seen.ttft_s == pytest.approx(0.1)
    assert seen.requests == 60
    assert seen.busy_share == pytest.approx(min(1.0, 5 * 25 * 0.03 / 10))


def test_a_restart_counts_nothing_across_it(watch: Watch) -> None:
    watch.server.serve(50, 2.5)
    watch.look()
    watch.server.restart()
    watch.server.serve(3, 1.1)
    seen = watch.look()
    assert (seen.requests, seen.acceptance_length) == (0, None)
    watch.server.serve(4, 2.0)
    assert watch.look().acceptance_length == pytest.approx(2.0)


def test_a_counter_that_goes_back_is_a_restart(watch: Watch) -> None:
    watch.server.serve(50, 2.5)
    watch.look()
    watch.server.values["made"] = 1.0
    assert watch.look().requests == 0


def test_how_long_it_does_not_pay_is_counted_without_a_break_and_begins_anew_after_silence(watch: Watch) -> None:
    for _ in range(30):
        watch.server.serve(2, 1.2)
        seen = watch.look()
    assert seen.below_s >= 250
    assert seen.below_requests >= 50
    assert "pays from 1.60 on" in seen.below
    watch.server.up = False
    with pytest.raises(EngineLostError):
        watch.look()
    watch.server.up = True
    watch.look()
    watch.server.serve(2, 1.2)
    assert watch.look().below_s < 30


def test_metrics_of_another_model_are_not_taken_for_ours(tmp_path: Path) -> None:
    server, names = Server(), ["one", "two", "one"]

    def identify(_url: str) -> ServerIdentity:
        return ServerIdentity(version="1", model=names[0], start_id=None)

    reader = LiveReader(VllmEngine(tmp_path), AUTO, server.reading, identify)
    reader.look("http://one", NOW, CHAMPION)
    server.serve(50, 1.1)
    server.restart()
    names.pop(0)
    with pytest.raises(EngineError, match="another model"):
        reader.look("http://one", NOW + 10, CHAMPION)
    names.pop(0)
    assert reader.look("http://one", NOW + 20, CHAMPION).requests == 0


def test_no_traffic_is_no_bad_acceptance(watch: Watch) -> None:
    for _ in range(20):
        seen = watch.look()
    assert (seen.below, seen.below_s, seen.acceptance_length, seen.tpot_s) == ("", 0.0, None, None)


def test_a_fall_is_named_and_a_dip_is_not(watch: Watch) -> None:
    def windows(count: int, length: float) -> str | None:
        fell = None
        for _ in range(count):
            watch.server.serve(WINDOW_DRAFTS // 10 + 1, length)
            fell = watch.look().fell
        return fell

    assert windows(50, 2.8) is None
    assert windows(2, 2.5) is None
    assert windows(10, 2.8) is None
    fell = windows(60, 2.2)
    assert fell is not None
    assert "promoted 60% of drafted tokens" in fell


def test_promised_share_is_of_the_acceptance_length() -> None:
    assert promised_share(CHAMPION) == pytest.approx(0.6)
    assert promised_share(CHAMPION.model_copy(update={"acceptance_length": None})) is None


def test_false_alarms_are_as_rare_as_said_and_falls_are_found() -> None:
    """Windows of a steady acceptance with realistic spread: at most about alpha false alarms a window, on average."""
    chance, alarms, windows = random.Random(3), 0, 0
    for _ in range(60):
        series = [min(1.0, max(0.0, chance.gauss(0.60, 0.05))) for _ in range(300)]
        windows += len(series)
        alarms += over(series, 0.60, 0.05).evidence >= 1000
    assert alarms / windows <= 0.001
    found = [
        next(
            n for n in range(1, 400) if over([chance.gauss(0.48, 0.05) for _ in range(n)], 0.60, 0.05).evidence >= 1000
        )
        for _ in range(10)
    ]
    assert sorted(found)[5] < 60


@pytest.mark.parametrize("name", sorted(path.name for path in METRICS.glob("ngram-*.txt")))
def test_recorded_counters_of_real_engines_are_read(name: str, tmp_path: Path) -> None:
    text = (METRICS / name).read_text()
    reader = LiveReader(VllmEngine(tmp_path), AUTO, lambda _url: parse_metrics(text))
    reader.look("http://one", NOW, CHAMPION)
    seen = reader.look("http://one", NOW + 10, CHAMPION)
    assert (seen.requests, seen.below_s) == (0, 0.0)


def test_what_a_recorded_sglang_server_counted_is_read_by_the_controller() -> None:
    """From the first look, when nothing was counted yet, to the recording's end."""
    recorded = sglang_metrics.parse_metrics(shared("cases", "sglang", "eagle.metrics").read_text())
    gauges = {key: value for key, value in recorded.values.items() if key[0] in sglang_metrics.GAUGES}
    readings = iter([Snapshot(dict.fromkeys(recorded.values, 0.0) | gauges, recorded.start_id), recorded])
    reader = LiveReader(engine("sglang"), AUTO, lambda _: next(readings))
    reader.look("u", NOW, CHAMPION)
    seen = reader.look("u", NOW + 60.0, CHAMPION)
    assert seen.requests == 73
    assert seen.acceptance_length == pytest.approx(3.23, abs=0.01)
    assert seen.tpot_s == pytest.approx(10.5455 / 3119, rel=1e-3)
    assert seen.ttft_s == pytest.approx((2.0718 + 2.8025) / 73, rel=1e-3)
    assert seen.acceptance_by_position == ()
