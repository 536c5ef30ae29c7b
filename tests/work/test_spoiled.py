"""Which visits are measured again because the machine was busy, and when that ends."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.measure import Contention, ContentionRule
from draftsmith.work.compare.spoiled import Repeats


def others(share: float) -> Contention:
    return Contention(others_cpu=share, client_lag_s=0.0)


def carry_out(repeats: Repeats, loads: Sequence[float]) -> tuple[int, int]:
    """Visits under these loads, one attempt each; returns (measured, attempts)."""
    attempts, measured = iter(loads), 0
    tried = 0
    while True:
        attempt = 0
        try:
            while repeats.look(others(next(attempts))) and repeats.may_repeat(attempt):
                repeats.repeated += 1
                attempt += 1
                tried += 1
        except StopIteration:
            return measured, tried + measured
        measured += 1


def test_a_burst_is_measured_again_and_a_quiet_machine_is_left_alone() -> None:
    repeats = Repeats(ContentionRule(), [others(0.02)] * 3)
    assert repeats.look(others(0.05)) is None
    why = repeats.look(others(0.6))
    assert why == "other processes used 60% of the cores, 2% is usual here"
    assert repeats.may_repeat(0)
    assert not repeats.may_repeat(2), "one visit is not tried for ever"


def test_a_load_that_was_there_from_the_start_is_usual() -> None:
    """One process at full load on one of two cores: half of the machine, all the time."""
    repeats = Repeats(ContentionRule(), [others(0.5), others(0.48), others(0.52)])
    measured, attempts = carry_out(repeats, [0.5, 0.47, 0.55, 0.51] * 20)
    assert measured == attempts == 80


def test_a_load_that_comes_and_stays_is_soon_usual() -> None:
    rule = ContentionRule()
    measured, attempts = carry_out(Repeats(rule, [others(0.0)] * 12), [0.0] * 10 + [0.5] * 60)
    assert attempts - measured <= rule.window, "as many repeats as it takes to become the usual"
    assert measured >= 58


def test_bursts_without_end_use_up_the_budget_and_no_more() -> None:
    rule = ContentionRule(window=50)
    measured, attempts = carry_out(Repeats(rule, [others(0.0)] * 50), [0.0, 0.0, 0.9] * 100)
    assert attempts - measured <= 4 + rule.budget * attempts


def test_what_could_not_be_looked_at_spoils_nothing() -> None:
    repeats = Repeats(ContentionRule(), [others(0.0)] * 3)
    assert repeats.look(None) is None
    assert repeats.look(Contention()) is None


def test_a_late_client_and_a_slow_gpu_spoil_a_visit_too() -> None:
    usual = Contention(client_lag_s=0.01, gpu_clock_mhz=1980.0)
    repeats = Repeats(ContentionRule(), [usual] * 3)
    assert "timer was 1.20 s late" in (repeats.look(usual.model_copy(update={"client_lag_s": 1.2})) or "")
    assert "900 MHz, 1980 is usual" in (repeats.look(usual.model_copy(update={"gpu_clock_mhz": 900.0})) or "")


def test_a_plan_without_the_rule_repeats_nothing() -> None:
    repeats = Repeats(None, [others(0.0)] * 3)
    assert repeats.look(others(1.0)) is not None
    assert not repeats.may_repeat(0)
