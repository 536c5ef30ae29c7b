"""What a faster median must not cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from campaign import PROMPTS, STANDING, World, plan_of

from draftsmith.contract.measure import Arm, RequestSample, Trial
from draftsmith.contract.verdict import Decision, Guard
from draftsmith.verdict.first.guards import tail_quantile

FAST = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.0265}
Change = Callable[[Trial], Trial]
K = "num_speculative_tokens"


def on_candidate(change: Change, traffic: str = "own") -> Change:
    return lambda trial: change(trial) if (trial.arm, trial.traffic) == ("tailored", traffic) else trial


def samples(change: Callable[[int, RequestSample], dict[str, Any]], **more: Any) -> Change:
    def apply(trial: Trial) -> Trial:
        new = tuple(s.model_copy(update=change(i, s)) for i, s in enumerate(trial.samples))
        return trial.model_copy(update={"samples": new, "wall_s": sum(s.latency_s or 0 for s in new) + 0.1, **more})

    return apply


def counted(**values: Any) -> Change:
    return lambda trial: trial.model_copy(update={"counters": trial.counters.model_copy(update=values)})


def late_tokens(i: int, sample: RequestSample) -> dict[str, Any]:
    """Five of the 24 requests crawl, so the tail is bad while the median is not."""
    return {"latency_s": sample.latency_s * 4} if i >= PROMPTS - 5 and sample.latency_s else {}


def late_first(_: int, sample: RequestSample) -> dict[str, Any]:
    return {"ttft_s": (sample.ttft_s or 0) + 0.1, "latency_s": (sample.latency_s or 0) + 0.1}


def idle(trial: Trial) -> Trial:
    return trial.model_copy(update={"wall_s": trial.wall_s * 1.95})


def failing(number: int) -> Change:
    return samples(lambda i, s: {"error": "timeout", "output_tokens": None} if i < number else {})


def decided(change: Change, blocks: int = 3, **limits: Any) -> tuple[Decision, dict[str, Guard]]:
    decision = World(plan_of(**limits), FAST, change=change).decide(blocks)
    pair = next(p for p in decision.pairs if p.candidate == "tailored")
    return decision, {guard.name: guard for guard in pair.guards}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("p99_tpot", on_candidate(samples(late_tokens, counters=World(plan_of(), FAST).trials(1)[0].counters))),
        ("ttft", on_candidate(samples(late_first))),
        ("throughput", on_candidate(idle)),
        ("errors", on_candidate(failing(6))),
        ("preemptions", on_candidate(counted(preemptions=20))),
        ("capacity", on_candidate(lambda t: t.model_copy(update={"kv_tokens": 4_000}))),
        ("forgetting", on_candidate(samples(lambda i, s: {"latency_s": (s.latency_s or 0) * 9}), "general")),
    ],
)
def test_a_faster_draft_that_breaks_a_guard_loses(name: str, change: Change) -> None:
    changed = change
    if name == "p99_tpot":
        changed = on_candidate(samples(late_tokens))
        changed = _without_server_times(changed)
    decision, guards = decided(changed, ttft_repaid_tokens=2)
    assert guards[name].passed is False
    assert (decision.outcome, decision.winner, decision.need_more_blocks) == ("LOSS", None, False)
    assert f"guard {name} failed" in decision.reason


def test_a_later_first_token_is_allowed_if_the_answer_has_caught_up_soon() -> None:
    decision, guards = decided(on_candidate(samples(late_first)))  # 0.1 s late, 18.5 ms won back with each token
    assert guards["ttft"].passed is True
    assert decision.outcome == "WIN"
    _, guards = decided(on_candidate(samples(late_first)), ttft_repaid_tokens=3)
    assert guards["ttft"].passed is False


def test_a_slow_down_on_general_traffic_that_the_own_gain_pays_for_is_allowed() -> None:
    slower = on_candidate(samples(lambda i, s: {"latency_s": (s.latency_s or 0) * 2}), "general")
    decision, guards = decided(slower)
    assert guards["forgetting"].passed is True
    assert guards["forgetting"].limit is not None
    assert guards["forgetting"].limit > 1  # one token in ten may cost more than twice as much, for this gain
    assert decision.outcome == "WIN"


def _without_server_times(change: Change) -> Change:
    silent = counted(server_tpot_sum_s=None, server_tpot_count=None)
    return lambda trial: silent(change(trial))


def test_fewer_running_together_is_a_loss_of_capacity() -> None:
    def fewer(trial: Trial) -> Trial:
        return trial.model_copy(update={"peak_concurrency": 16 if trial.arm == "tailored" else 32, "kv_tokens": None})

    decision, guards = decided(fewer)
    assert guards["capacity"].passed is False
    assert "16 against 32" in guards["capacity"].sentence
    assert "not recorded" in guards["capacity"].sentence
    assert decision.outcome == "LOSS"


def test_a_guard_outside_its_margin_by_chance_asks_for_more_blocks() -> None:
    def unlucky(trial: Trial) -> Trial:
        return samples(late_first)(trial) if trial.block == 0 else trial

    def shaky(i: int, sample: RequestSample) -> dict[str, Any]:
        return {"ttft_s": (sample.ttft_s or 0) * 1.18, "latency_s": (sample.latency_s or 0) + 0.04}

    def change(trial: Trial) -> Trial:
        return samples(shaky)(trial) if trial.block else unlucky(trial)

    decision, guards = decided(on_candidate(change), ttft_repaid_tokens=0)
    assert guards["ttft"].passed is None
    assert (decision.outcome, decision.need_more_blocks) == ("INCONCLUSIVE", True)
    assert "cannot exclude chance" in decision.reason


def test_one_failed_request_is_not_held_against_a_draft() -> None:
    decision, guards = decided(on_candidate(lambda t: failing(1)(t) if t.block == 0 else t))
    assert guards["errors"].passed is True
    assert decision.outcome == "WIN"


def test_client_and_server_that_disagree_make_the_measurement_void() -> None:
    decision, guards = decided(on_candidate(counted(server_tpot_sum_s=0.045 * PROMPTS)))
    assert guards["client_server"].passed is False
    assert (decision.outcome, decision.tier) == ("INCONCLUSIVE", "draft")
    assert any("client and server disagree" in reason for reason in decision.tier_reasons)


def test_an_engine_that_averages_one_token_answers_as_zero_still_agrees() -> None:
    def short(trial: Trial) -> Trial:
        new = [
            s.model_copy(update={"output_tokens": 1, "latency_s": s.ttft_s}) if i < 8 else s
            for i, s in enumerate(trial.samples)
        ]
        times = sum(s.tpot_s or 0.0 for s in new)
        told = {"server_tpot_sum_s": times, "generation_tokens": sum(s.output_tokens or 0 for s in new)}
        wall = sum(s.latency_s or 0 for s in new) + 0.1
        trial = trial.model_copy(update={"samples": tuple(new), "wall_s": wall})
        return counted(**told)(trial)

    _, guards = decided(short)
    assert guards["client_server"].passed is True
    assert guards["client_server"].observed == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("client_server", counted(server_tpot_sum_s=None, server_tpot_count=None)),
        ("forgetting", lambda trial: None if trial.traffic == "general" else trial),
    ],
)
def test_a_guard_that_cannot_be_evaluated_lowers_the_tier_and_says_so(name: str, change: Any) -> None:
    decision, guards = decided(change)
    assert guards[name].passed is None
    assert "not evaluated" in guards[name].sentence
    assert (decision.outcome, decision.tier) == ("WIN", "draft")
    assert any(f"guard {name}" in reason for reason in decision.tier_reasons)


def test_the_tail_is_as_far_out_as_the_requests_allow() -> None:
    assert tail_quantile(19) is None
    assert tail_quantile(24) == pytest.approx(0.875)
    assert tail_quantile(300) == pytest.approx(0.99)
    assert tail_quantile(10_000) == 0.99


def test_healthy_drafts_are_not_failed_by_small_samples() -> None:
    """Forty campaigns of three blocks with 24 prompts and 3 % noise: a 1.7x draft keeps every guard."""
    for seed in range(40):
        decision = World(plan_of(), FAST, seed=seed, block_noise=0.03).decide(3)
        pair = next(p for p in decision.pairs if p.candidate == "tailored")
        assert [g.name for g in pair.guards if not g.passed] == []


def test_a_further_draft_is_asked_what_it_forgot_like_the_candidate() -> None:
    """It can be promoted too, and nobody knows what traffic it was made for."""
    further = Arm(name="tailored", role="other", spec_config={"method": "eagle3", "model": "d", K: 3})
    decision = World(plan_of(STANDING, further), FAST, general={"standing": 0.045, "tailored": 0.3}).decide(3)
    assert (decision.outcome, decision.winner) == ("LOSS", None)
    assert "guard forgetting failed" in decision.reason
