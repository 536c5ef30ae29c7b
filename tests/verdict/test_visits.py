"""The order of a block's visits: a plan alone decides it, and it is fair to every arm."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint
from draftsmith.verdict.visits import General, prompts_of_block, rounds, turn_order, visits


def plan(arms: int = 2, **fields: Any) -> ComparisonPlan:
    names = ["standing", *(f"arm{n}" for n in range(1, arms))]
    values: dict[str, Any] = {
        "schema": "draftsmith_comparison_v2",
        "arms": tuple(Arm(name=name, role="standing" if name == "standing" else "candidate") for name in names),
        "baseline": "standing",
        "points": (OperatingPoint(name="c1", concurrency=1, primary=True),),
        "prompts_sha256": "0",
        "n_prompts": 60,
        "block_prompts": 12,
        "visit_prompts": 3,
    }
    return ComparisonPlan(**values | fields)


plans = st.builds(
    plan,
    arms=st.integers(2, 6),
    n_prompts=st.integers(1, 80),
    block_prompts=st.integers(1, 30),
    visit_prompts=st.integers(1, 6),
    seed=st.integers(0, 1000),
)


@given(plans, st.integers(0, 12))
def test_every_arm_and_the_twin_answer_the_same_prompts_once_a_block(some: ComparisonPlan, block: int) -> None:
    asked: dict[str, list[int]] = {}
    for visit in visits(some, block):
        asked.setdefault(visit.arm, []).extend(visit.prompts)
    assert set(asked) == {arm.name for arm in some.arms} | {"standing#b"}
    wanted = sorted(prompts_of_block(some, block))
    assert all(sorted(prompts) == wanted for prompts in asked.values())
    assert len(set(wanted)) == len(wanted) == min(some.block_prompts or 0, some.n_prompts)


@given(plans, st.integers(0, 6))
def test_every_arm_has_one_turn_in_each_round(some: ComparisonPlan, block: int) -> None:
    turns = visits(some, block)
    each = len(some.arms) + 1
    assert [visit.order for visit in turns] == list(range(len(turns)))
    for first in range(0, len(turns), each):
        together = turns[first : first + each]
        assert len({visit.arm for visit in together}) == each
        assert len({visit.prompts for visit in together}) == 1, "a round asks one piece of the block"
        assert len({visit.visit for visit in together}) == 1


@settings(deadline=None)
@given(plans)
def test_blocks_share_no_prompt_while_there_are_unused_ones(some: ComparisonPlan) -> None:
    size = min(some.block_prompts or 0, some.n_prompts)
    used: list[int] = []
    while len(used) + size <= some.n_prompts:
        used += prompts_of_block(some, len(used) // size)
    assert len(set(used)) == len(used)
    laps = [place for block in range(some.n_prompts) for place in prompts_of_block(some, block)]
    assert set(Counter(laps).values()) == {size}, "over many laps all prompts are asked equally often"


@given(st.integers(2, 9))
def test_every_arm_stands_at_every_place_and_behind_every_other_equally_often(entries: int) -> None:
    rows = [turn_order(entries, number) for number in range(2 * entries)]
    places = Counter((place, arm) for row in rows for place, arm in enumerate(row))
    assert set(places.values()) == {2}
    assert len(places) == entries**2
    behind = Counter(pair for row in rows for pair in pairwise(row))
    assert len(behind) == entries * (entries - 1)
    assert set(behind.values()) == {2}


@given(st.integers(1, 200), st.integers(1, 50))
def test_a_round_is_never_longer_than_asked_and_none_is_a_leftover(count: int, size: int) -> None:
    pieces = rounds(range(count), size)
    assert [place for piece in pieces for place in piece] == list(range(count))
    lengths = [len(piece) for piece in pieces]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_a_visit_grows_with_the_requests_in_flight_and_an_open_loop_is_asked_in_one_go() -> None:
    points = (
        OperatingPoint(name="c1", concurrency=1, primary=True),
        OperatingPoint(name="c2", concurrency=2),
        OperatingPoint(name="r5", concurrency=1, rate_per_s=5.0),
    )
    sizes = {visit.point: len(visit.prompts) for visit in visits(plan(points=points), 0)}
    assert sizes == {"c1": 3, "c2": 6, "r5": 12}


def test_general_traffic_takes_turns_too_where_it_is_asked() -> None:
    turns = visits(plan(3), 1, General(("standing", "arm1"), 6))
    general = [visit for visit in turns if visit.traffic == "general"]
    assert [len(visit.prompts) for visit in general] == [3, 3, 3, 3]
    assert {visit.arm for visit in general[:2]} == {"standing", "arm1"}
    assert [visit.arm for visit in general[:2]] != [visit.arm for visit in general[2:]]


def test_servers_that_are_up_one_at_a_time_do_everything_in_one_go_and_turn_over_the_blocks() -> None:
    one_by_one = plan(2, resident=False, visit_prompts=None)
    orders = [[visit.arm for visit in visits(one_by_one, block)] for block in range(6)]
    assert all(sorted(order) == ["arm1", "standing", "standing#b"] for order in orders)
    assert {order[0] for order in orders} == {"arm1", "standing", "standing#b"}
    assert visits(one_by_one, 0)[0].prompts != visits(one_by_one, 1)[0].prompts


@pytest.mark.parametrize("resident", [True, False])
def test_a_plan_of_the_first_edition_keeps_its_order(resident: bool) -> None:
    first = plan(
        2, schema="draftsmith_comparison_v1", block_prompts=None, visit_prompts=None, resident=resident, n_prompts=4
    )
    forward = [(visit.arm, visit.traffic) for visit in visits(first, 0)]
    assert forward == [("standing", "own"), ("arm1", "own"), ("standing", "aa")]
    assert [(visit.arm, visit.traffic) for visit in visits(first, 1)] == forward[::-1]
    assert {visit.prompts for block in range(3) for visit in visits(first, block)} == {(0, 1, 2, 3)}
