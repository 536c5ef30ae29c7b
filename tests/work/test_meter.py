"""What a trial's record says of the hardware."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_clock import FakeClock
from safetensors.numpy import save_file

from draftsmith.contract.measure import Contention, Trial
from draftsmith.kit import gpu, load
from draftsmith.report.sol import measured_bandwidth
from draftsmith.work import sizes
from draftsmith.work.compare import meter


def test_a_trial_beside_a_gpu_gets_its_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read", lambda: [{"sm_clock_mhz": 1980.0, "power_w": 310.0}])
    with meter.Meter() as metered:
        pass
    told = metered.summary()
    assert (told["gpu_sm_clock_mhz"], told["gpu_power_w"]) == (1980.0, 310.0)
    assert told["device"]


def test_an_exporter_that_does_not_answer_costs_nothing() -> None:
    with meter.Meter("http://127.0.0.1:9/metrics") as metered:
        pass
    assert not [name for name in metered.summary() if name.startswith("gpu_")]


def test_the_memory_of_a_cpu_is_the_ceiling_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_on_cpu", lambda: True)
    monkeypatch.setattr(meter.bandwidth, "measured", lambda: 21.5e9)
    with meter.Meter() as metered:
        pass
    trial = Trial(
        plan_sha256="0", trial_id="t", block=0, order=0, arm="a", point="c1", node="n", engine_start_id="s",
        started_unix_s=1.0, wall_s=1.0, peak_concurrency=1, samples=(), hardware=metered.summary(),
    )  # fmt: skip
    found = measured_bandwidth([trial])
    assert found is not None
    assert (found.bytes_per_s, found.measured) == (21.5e9, True)


def test_a_pass_of_a_draft_reads_no_embeddings(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "config.json").write_text(
        json.dumps(
            {"architectures": ["LlamaForCausalLMEagle3"], "hidden_size": 4, "vocab_size": 10, "num_attention_heads": 2,
             "num_hidden_layers": 3}
        )
    )  # fmt: skip
    tensors = {"embed_tokens.weight": (10, 4), "fc.weight": (4, 12), "d2t": (10,)}
    save_file({name: np.zeros(shape, np.float16) for name, shape in tensors.items()}, tmp_path / "model.safetensors")
    assert sizes.pass_bytes(tmp_path) == 4 * 12 * 2


class Jumping:
    """A wall clock that is set forward by an hour while the monotonic one goes on."""

    def __init__(self) -> None:
        self.times = iter([(1000.0, 50.0), (4602.0, 52.0)])
        self.now = (0.0, 0.0)

    def unix(self) -> float:
        self.now = next(self.times)
        return self.now[0]

    def monotonic(self) -> float:
        return self.now[1]

    def sleep(self, seconds: float) -> None:
        raise AssertionError


def test_a_clock_that_jumps_is_noticed_and_durations_do_not_mind() -> None:
    with meter.Meter(clock=Jumping()) as metered:
        pass
    assert metered.moved_s == pytest.approx(3600.0)


def test_contention_is_what_others_use_and_of_another_machine_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([load.Reading(100.0, 40.0, 5.0, None), load.Reading(104.0, 41.0, 6.0, None)])
    monkeypatch.setattr(meter.load, "read", lambda processes, on: next(readings, load.Reading(0, 0, 0, 0)))
    monkeypatch.setattr(meter.load, "allowed", lambda processes: frozenset({0, 1}))
    monkeypatch.setattr(meter.load, "cores", lambda: 2)
    monkeypatch.setattr(meter.load, "running", lambda: 3)
    clock = FakeClock()
    with meter.Meter(own_processes=[], clock=clock) as metered:
        clock.advance(2.0)
    told = metered.contention(0.01)
    assert told.others_cpu == pytest.approx(3.0 / 4.0), (
        "four busy seconds, one of them ours, on two cores for two seconds"
    )
    assert (told.run_queue, told.cpu_pressure, told.memory_pressure) == (1.5, 0.5, None)
    with meter.Meter(node="elsewhere", own_processes=[]) as remote:
        pass
    assert remote.contention(0.02) == Contention(client_lag_s=0.02)
