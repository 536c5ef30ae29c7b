"""Time that moves only when told."""

from __future__ import annotations

from itertools import islice

from fake_clock import FakeClock

from draftsmith.kit.clock import Clock, SystemClock, pauses


def wait_for(clock: Clock, seconds: float) -> float:
    begin = clock.monotonic()
    clock.sleep(seconds)
    return clock.monotonic() - begin


def test_sleeping_on_a_fake_clock_moves_it_and_returns_at_once() -> None:
    clock = FakeClock(now=100.0)
    assert wait_for(clock, 3600) == 3600
    assert clock.unix() == 3700
    assert clock.slept == [3600]


def test_the_system_clock_counts_forward() -> None:
    clock = SystemClock()
    assert wait_for(clock, 0) >= 0
    assert clock.unix() > 1_700_000_000


def test_a_look_comes_soon_at_first_and_never_later_than_the_longest_pause() -> None:
    found = list(islice(pauses(0.5), 12))
    assert found[0] == 0.05
    assert found == sorted(found)
    assert found[-1] == max(found) == 0.5
