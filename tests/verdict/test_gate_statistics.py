"""The stopping rule, the noise floor, the power and the schedule."""

from __future__ import annotations

import math
import random

import pytest
from campaign import C1, CANDIDATE, NO_SPEC, STANDING, World, plan_of
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.measure import OperatingPoint, Thresholds, Trial
from draftsmith.verdict.decide import decide
from draftsmith.verdict.estimate import cells, tpot_logs
from draftsmith.verdict.first.floor import floor_of, noise_floor
from draftsmith.verdict.first.pair import error_share, promotable
from draftsmith.verdict.first.power import blocks_needed
from draftsmith.verdict.first.sequential import BlockLog, Rule, StartNoise, critical, spend, spread, start_groups
from draftsmith.verdict.schedule import propose

FAST = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.0265}


@given(st.integers(2, 10), st.integers(0, 30))
def test_the_looks_spend_exactly_the_allowed_error(first: int, more: int) -> None:
    last = first + more
    shares = [spend(n, first, last) for n in range(last + 3)]
    assert sum(shares) == pytest.approx(1)
    assert all(share == 0 for share in shares[:first])
    assert shares[last + 1 :] == [0, 0]


def test_the_arms_share_exactly_the_allowed_error() -> None:
    plans = [plan_of(), plan_of(STANDING, CANDIDATE), plan_of(STANDING, NO_SPEC)]
    for plan in plans:
        assert sum(error_share(plan, arm) for arm in promotable(plan)) == pytest.approx(1)


def test_critical_values_are_those_of_the_tables() -> None:
    assert critical(0.025, 7) == pytest.approx(2.365, abs=1e-3)
    assert critical(0.025, 0) == pytest.approx(1.960, abs=1e-3)


def test_the_interval_covers_the_truth_at_every_look() -> None:
    rng = random.Random(4)
    rule = Rule.of(Thresholds())
    missed = 0
    for _ in range(1000):
        logs = [BlockLog(i, rng.gauss(0.05, 0.02), (f"a{i}", f"b{i}")) for i in range(8)]
        looks = [rule.settle(data) for n in range(3, 9) if (data := spread(logs[:n])) is not None]
        missed += any(not look.low <= 0.05 <= look.high for look in looks)
    assert missed <= 60


def test_blocks_on_shared_servers_are_one_group() -> None:
    logs = [
        BlockLog(0, 1.0, ("a1", "b1")),
        BlockLog(1, 2.0, ("a2", "b2")),
        BlockLog(2, 3.0, ("a3", "b3")),
        BlockLog(3, 4.0, ("a1", "b2")),
    ]
    assert sorted(sorted(group) for group in start_groups(logs)) == [[1.0, 2.0, 4.0], [3.0]]


def test_a_baseline_that_is_never_restarted_makes_one_group() -> None:
    data = spread([BlockLog(i, 0.1, ("always", f"b{i}")) for i in range(5)])
    assert data is not None
    assert (data.groups, data.starts_known) == (1, False)


def test_restarted_servers_put_the_noise_of_starts_into_the_interval() -> None:
    values = [0.30, 0.31, 0.10, 0.11, 0.20, 0.21]
    fresh = spread([BlockLog(i, v, (f"s{i // 2}",)) for i, v in enumerate(values)])
    assert fresh is not None
    assert (fresh.groups, fresh.freedom, fresh.starts_known) == (3, 2, True)
    assert fresh.se == pytest.approx(0.1 / math.sqrt(3))
    kept = spread([BlockLog(i, v, ("s",)) for i, v in enumerate(values)], StartNoise(0.05))
    assert kept is not None
    assert kept.starts_known
    assert kept.half_width(0.01) > critical(0.01, 0) * 0.05


def test_blocks_that_agree_better_than_equal_servers_do_so_by_luck() -> None:
    lucky = [BlockLog(i, v, (f"a{i}", f"b{i}")) for i, v in enumerate((0.27, 0.25, 0.30))]
    alone, beside = spread(lucky), spread(lucky, equal_sd=0.2)
    assert alone is not None
    assert beside is not None
    assert beside.se == pytest.approx(0.15 / math.sqrt(3))
    assert (beside.mean, beside.freedom) == (alone.mean, alone.freedom)
    assert spread(lucky, equal_sd=0.02) == alone, "their own spread is the larger one"

    kept = spread([BlockLog(i, v, ("s",)) for i, v in enumerate((0.27, 0.25, 0.30))], StartNoise(0.05), 0.2)
    assert kept is not None
    assert kept.se == pytest.approx(0.15 / math.sqrt(3))


def test_the_estimate_pairs_prompts_and_refuses_too_few_of_them() -> None:
    world = World(plan_of(), FAST, block_noise=0.0)
    trials = world.trials(1)
    base, cand = (next(t for t in trials if t.arm == arm and t.traffic == "own") for arm in ("standing", "tailored"))

    def ratio(kept: slice) -> list[BlockLog]:
        table = cells([base, cand.model_copy(update={"samples": cand.samples[kept]})], "c1", "own")
        return tpot_logs(table["standing"], table["tailored"])

    # The last prompts are the slow ones: pairing keeps their slowness out of the ratio.
    assert math.exp(ratio(slice(8, None))[0].value) == pytest.approx(0.045 / 0.0265, rel=0.02)
    assert ratio(slice(16, None)) == []


def test_an_arm_measured_twice_in_a_block_is_averaged_by_prompt() -> None:
    world = World(plan_of(), FAST)
    trials = [t for t in world.trials(1) if t.traffic == "own"]
    again = [t.model_copy(update={"order": 9, "trial_id": t.trial_id + "/2"}) for t in trials]
    table = cells([*trials, *again], "c1", "own")
    assert len(table["standing"][0]) == 2
    once = cells(trials, "c1", "own")
    assert tpot_logs(table["standing"], table["tailored"])[0].value == pytest.approx(
        tpot_logs(once["standing"], once["tailored"])[0].value
    )


def test_the_floor_tells_blocks_from_starts() -> None:
    rng = random.Random(7)
    jumps = [rng.gauss(0, 0.05) for _ in range(40)]
    logs = [BlockLog(i, jumps[i // 3] + rng.gauss(0, 0.01), (f"a{i // 3}", f"b{i // 3}")) for i in range(120)]
    floor = floor_of(logs, plan_of())
    assert floor.between_blocks == pytest.approx(0.01, rel=0.2)
    assert floor.between_starts == pytest.approx(0.05, rel=0.3)
    assert floor.start_pairs == 40
    assert floor.start_noise() == StartNoise(floor.between_starts, 40)


def test_twins_on_one_server_say_nothing_about_starts() -> None:
    floor = floor_of([BlockLog(i, 0.01 * (-1) ** i, ("one",)) for i in range(4)], plan_of())
    assert (floor.between_starts, floor.start_pairs, floor.start_noise()) == (None, 0, None)
    assert floor.between_blocks == pytest.approx(0.01)


def test_a_noisy_floor_raises_what_must_be_shown() -> None:
    quiet = World(plan_of(), FAST, aa=True).decide(4)
    noisy = World(plan_of(), FAST, aa=True, block_noise=0.15).decide(4)
    assert quiet.pairs[0].min_speedup == pytest.approx(1.015)
    assert noisy.aa_floor is not None
    assert noisy.pairs[0].min_speedup == pytest.approx(1 + noisy.aa_floor / 2, rel=0.02)
    assert noisy.aa_floor > 0.08
    assert any(note.startswith("A/A over 4 pairs") for note in noisy.notes)


def test_a_single_twin_is_compared_with_the_ordinary_trial() -> None:
    def drop(trial: Trial) -> Trial | None:
        return None if trial.arm == "standing#b" else trial

    world = World(plan_of(), FAST, aa=True, change=drop)
    floor = noise_floor(world.plan, world.trials(3), "c1")
    assert floor is not None
    assert (floor.pairs, floor.usable) == (3, True)
    assert noise_floor(world.plan, World(world.plan, FAST).trials(3), "c1") is None


def test_more_noise_or_less_gain_needs_more_blocks() -> None:
    assert blocks_needed(0.02, 0.5, 0.95) == 3
    needed = [blocks_needed(sd, 0.05, 0.95) or 999 for sd in (0.005, 0.02, 0.04)]
    assert needed == sorted(needed)
    assert needed[1] <= 10
    assert blocks_needed(0.02, 0.03, 0.95) is None
    assert blocks_needed(0.0, 0.05, 0.95) == 3
    assert blocks_needed(0.5, 0.04, 0.95) is None


def points(*levels: int) -> tuple[OperatingPoint, ...]:
    return tuple(C1.model_copy(update={"name": f"c{c}", "concurrency": c, "primary": c == levels[0]}) for c in levels)


def test_a_schedule_is_proposed_where_the_load_changes_the_winner() -> None:
    plan = plan_of(NO_SPEC, CANDIDATE, baseline="no-spec", points=points(1, 8, 32))
    world = World(plan, {"no-spec": 0.045, "tailored": 0.0265})
    slow = World(plan, {"no-spec": 0.045, "tailored": 0.060})
    trials = [t for t in world.trials(4) if t.point != "c32"] + [t for t in slow.trials(4) if t.point == "c32"]
    decision = decide(plan, trials, world.facts(trials), samples_sha256="x")
    assert propose(plan, decision) == [[1, 31, 3], [32, 32, 0]]


def test_no_schedule_where_one_length_serves_all() -> None:
    plan = plan_of(NO_SPEC, CANDIDATE, baseline="no-spec", points=points(1, 8))
    world = World(plan, {"no-spec": 0.045, "tailored": 0.0265})
    assert propose(plan, world.decide(3)) == []


def test_no_schedule_between_different_drafts() -> None:
    plan = plan_of(STANDING, CANDIDATE, points=points(1, 8))
    world = World(plan, {"standing": 0.045, "tailored": 0.0265})
    trials = [t for t in world.trials(3) if t.point == "c1"]
    decision = decide(plan, trials, world.facts(trials), samples_sha256="x")
    assert propose(plan, decision) == []
