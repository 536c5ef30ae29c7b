"""The floor of TPOT, checked by hand, and where its ceiling comes from."""

from __future__ import annotations

import demo
import pytest
from published import published

from draftsmith.contract.measure import Arm
from draftsmith.report.numbers import point_context, sol_shares
from draftsmith.report.sol import Bandwidth, SolInputs, ceiling_for, ceilings, draft_passes, sol_share
from draftsmith.trainers.model_size import model_size


@pytest.mark.parametrize(
    ("device", "key", "terabytes"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM", 3.35),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe", 2.0),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL", 3.9),
        ("NVIDIA H200", "NVIDIA H200 SXM", 4.8),
        ("NVIDIA H20", "NVIDIA H20", 4.0),
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


# As the makers of Qwen3 published them (docs/targets.md): tokens/s at batch 1 on H20, 1 token in and 2,048 out, SGLang 0.4.6.post1.
# By hand: parameters that a step reads (attention, MLPs or chosen experts, head), and elements of cache that a token adds.
PUBLISHED = [
    ("Qwen3-8B", None, 1, 81.73, 36 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12288) + 151936 * 4096, 36 * 2 * 8 * 128, 0.312),
    ("Qwen3-32B-FP8-Static-PerTensor", "fp8", 1, 46.17,
     64 * (2 * 5120 * 8192 + 2 * 5120 * 1024 + 3 * 5120 * 25600) + 151936 * 5120, 64 * 2 * 8 * 128, 0.372),
    ("Qwen3-30B-A3B", None, 1, 137.18,
     48 * (2 * 2048 * 4096 + 2 * 2048 * 512 + 128 * 2048 + 8 * 3 * 2048 * 768) + 151936 * 2048, 48 * 2 * 4 * 128, 0.212),
    ("Qwen3-235B-A22B-FP8", "fp8", 4, 71.65,
     94 * (2 * 4096 * 8192 + 2 * 4096 * 512 + 128 * 4096 + 8 * 3 * 4096 * 1536) + 151936 * 4096, 94 * 2 * 4 * 128, 0.098),
]  # fmt: skip


@pytest.mark.parametrize(("name", "precision", "gpus", "speed", "read", "cache", "share"), PUBLISHED)
def test_the_share_of_a_published_result_is_that_of_a_hand_calculation(
    name: str, precision: str | None, gpus: int, speed: float, read: int, cache: int, share: float
) -> None:
    size, ceiling = model_size(published(name)), ceiling_for("NVIDIA H20")
    assert size is not None
    assert ceiling is not None
    width = {None: 2, "fp8": 1}[precision]
    hand = (read * width + (1 + 2048 / 2) * cache * 2) / (4.0e12 * gpus) * speed
    assert hand == pytest.approx(share, abs=0.001), "as the document prints it"
    parts = demo.parts(points=1)
    arm = next(arm for arm in parts.plan.arms if arm.spec_config is None)
    summary = parts.summary(arm.name, "c1")
    assert summary is not None
    trial = next(t for t in demo.trials(demo.plan()) if (t.arm, t.point) == (arm.name, "c1"))
    sample = trial.samples[0].model_copy(update={"prompt_tokens": 1, "output_tokens": 2048})
    found = sol_share(
        arm,
        next(point for point in parts.plan.points if point.name == "c1"),
        summary.model_copy(update={"median_tpot_s": 1 / speed, "tokens_per_step": 1.0}),
        (trial.model_copy(update={"samples": (sample,)}),),
        SolInputs(width * size.dense, ceiling, routed_bytes=width * size.routed, size=size, devices=gpus),
    )
    assert found is not None
    assert found.share == pytest.approx(hand, rel=0.02)
