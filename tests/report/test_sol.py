"""The floor of TPOT, checked by hand, and where its ceiling comes from."""

from __future__ import annotations

import demo
import pytest

from draftsmith.contract.measure import Arm
from draftsmith.report.numbers import point_context, sol_shares
from draftsmith.report.sol import Bandwidth, SolInputs, ceiling_for, ceilings, draft_passes


@pytest.mark.parametrize(
    ("device", "key", "terabytes"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM", 3.35),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe", 2.0),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL", 3.9),
        ("NVIDIA H200", "NVIDIA H200 SXM", 4.8),
        ("NVIDIA B200", "NVIDIA B200", 8.0),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM", 2.039),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40GB", 1.555),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe", 1.935),
        ("NVIDIA L40S", "NVIDIA L40S", 0.864),
        ("NVIDIA L4", "NVIDIA L4", 0.3),
        ("NVIDIA A10", "NVIDIA A10", 0.6),
    ],
)
def test_a_device_is_found_by_the_name_its_driver_prints(device: str, key: str, terabytes: float) -> None:
    found = ceiling_for(device)
    assert found is not None
    assert (found.key, found.bytes_per_s) == (key, pytest.approx(terabytes * 1e12))
    assert not found.measured
    assert found.source in str(found)


@pytest.mark.parametrize("device", ["Intel Xeon, 2 cores", "cpu", "NVIDIA GH200 480GB", "NVIDIA A1000", ""])
def test_what_is_not_in_the_table_has_no_ceiling(device: str) -> None:
    assert ceiling_for(device) is None


def test_every_ceiling_names_its_source() -> None:
    assert ceilings()
    for entry in ceilings():
        assert entry["source"]
        assert all(word == word.lower() for word in [*entry["match"], *entry.get("unless", [])])


@pytest.mark.parametrize(
    ("config", "passes"),
    [
        (None, 0),
        ({"method": "ngram", "num_speculative_tokens": 4}, 0),
        ({"method": "eagle3", "num_speculative_tokens": 3}, 3),
        ({"method": "eagle3", "num_speculative_tokens": 3, "parallel_drafting": True}, 1),
        ({"method": "dflash", "num_speculative_tokens": 7}, 1),
    ],
)
def test_passes_of_the_draft(config: dict[str, object] | None, passes: int) -> None:
    assert draft_passes(Arm(name="a", role="other", spec_config=config)) == passes


def test_the_floor_by_hand() -> None:
    parts = demo.parts(
        points=1, sol=SolInputs(2_000_000, Bandwidth("k", 1e9, "s", True), draft_bytes={"tailored": 100_000})
    )
    shares = {share.arm: share for share in sol_shares(parts)}
    assert shares["standing"].floor_s == pytest.approx(0.002)
    tokens = shares["tailored"].tokens_per_step
    assert tokens > 2
    assert shares["tailored"].floor_s == pytest.approx((2_000_000 + 3 * 100_000) / 1e9 / tokens)
    measured = parts.summary("tailored", "c1")
    assert measured is not None
    assert shares["tailored"].measured_s == measured.median_tpot_s


def test_cache_and_devices_count() -> None:
    band = Bandwidth("k", 1e9, "s", True)
    small, large = (
        next(s for s in sol_shares(demo.parts(sol=inputs)) if (s.arm, s.point) == ("standing", "c4"))
        for inputs in (SolInputs(2_000_000, band), SolInputs(2_000_000, band, kv_bytes_per_token=100, devices=2))
    )
    trials = [t for t in demo.trials(demo.plan()) if (t.arm, t.point, t.traffic) == ("standing", "c4", "own")]
    tokens = [(s.prompt_tokens or 0) + (s.output_tokens or 0) / 2 for t in trials for s in t.samples]
    context = sum(tokens) / len(tokens)
    assert large.bytes_per_step == pytest.approx(small.bytes_per_step + 4 * 100 * context)
    assert large.floor_s == pytest.approx(large.bytes_per_step / 2e9)


def test_without_a_measurement_a_cpu_has_no_share_and_says_so() -> None:
    parts = demo.parts(points=1, sol=SolInputs(2_000_000))
    assert sol_shares(parts) == ()
    assert point_context(parts, "c1").sol_share == "%SoL not computed (no memory bandwidth known)"
    on_gpu = demo.parts(points=1, sol=SolInputs(2_000_000), hardware={"gpu": "NVIDIA H100 80GB HBM3"})
    assert "NVIDIA H100 SXM" in (point_context(on_gpu, "c1").sol_share or "")
