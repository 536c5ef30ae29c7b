"""Months in simulated time through the real laws: what they gain, how often they are wrong, and that they do not flap."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import month
from month import controlled, oracle, scheduled


@pytest.fixture(scope="module")
def months() -> list[tuple[month.Month, month.World]]:
    return [controlled(seed) for seed in range(8)]


def test_most_of_the_oracles_gain_is_had_and_more_than_by_any_simple_policy(
    months: list[tuple[month.Month, month.World]],
) -> None:
    ours = statistics.median(done.gain for done, _ in months)
    assert ours >= 0.85 * oracle()  # 0.91 over 40 months
    for every, gated in ((7 * month.DAY, True), (7 * month.DAY, False), (month.RUN_S, True)):
        assert ours > statistics.median(scheduled(seed, every, gated=gated).gain for seed in range(8))


def test_nothing_slower_is_promoted_and_nothing_flaps(months: list[tuple[month.Month, month.World]]) -> None:
    assert sum(done.wrong for done, _ in months) == 0
    assert sum(done.promotions for done, _ in months) >= 16
    assert all(done.fallbacks <= 4 and done.switches <= 60 for done, _ in months)


def test_budgets_hold_in_every_window_of_a_day(months: list[tuple[month.Month, month.World]]) -> None:
    for _, world in months:
        began = [
            event.at_unix_s
            for event in world.events
            if event.kind == "effect" and event.data["act"]["kind"] == "start_run"
        ]
        assert all(sum(0 <= later - one < month.DAY for later in began) <= month.POLICY.runs_per_day for one in began)
        ids = [
            event.data["act"]["traffic"]
            for event in world.events
            if event.kind == "effect" and "traffic" in event.data["act"]
        ]
        assert len(set(ids)) == len(ids), "the same traffic is never tried twice"


def test_the_journal_of_a_month_is_short(months: list[tuple[month.Month, month.World]]) -> None:
    assert all(len(world.events) < 500 for _, world in months)
