"""What a trial's record says of the hardware."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from draftsmith.contract.measure import Trial
from draftsmith.kit import gpu
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
    assert sizes.kv_bytes_per_token(tmp_path) == 2 * 3 * 2 * 2 * 2
