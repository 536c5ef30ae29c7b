"""Which configurations serve, by what is remembered: the whole way of a share, there and back."""

from __future__ import annotations

import pytest
from moments import CHAMPION, DRAFT, NEXT, NOW, RUN, WON, memory, rollout

from draftsmith.contract import control as c
from draftsmith.controller.sides import after, wanted
from draftsmith.serving.managed.sides import Side

BACK = c.Fallback(since_unix_s=NOW, why="", hold_s=9)
WINNER = memory(run=RUN.model_copy(update={"concluded": WON}))


@pytest.mark.parametrize(
    ("remembered", "sides"),
    [
        (memory(), (Side(config=DRAFT), Side(share=0))),
        (memory(champion=None), (Side(config=None),)),
        (memory(champion=CHAMPION.model_copy(update={"config": None})), (Side(),)),
        (memory(rollout=rollout(5)), (Side(config=NEXT, share=5), Side(config=DRAFT, share=95))),
        (memory(rollout=rollout(100)), (Side(config=NEXT, share=100), Side(config=DRAFT, share=0))),
        (memory(fallback=BACK), (Side(),)),
        (memory(fallback=BACK, rollout=rollout(5)), (Side(config=NEXT, share=5), Side(share=95))),
        (memory(rollout=rollout(5, config=DRAFT)), (Side(config=DRAFT, share=100),)),
    ],
)
def test_sides(remembered: c.Memory, sides: tuple[Side, ...]) -> None:
    assert wanted(remembered, None, standby=True) == sides
    assert sum(side.share for side in sides) == 100


def test_without_a_standby_there_is_one_engine() -> None:
    assert wanted(memory(), None, standby=False) == (Side(config=DRAFT),)


def test_every_act_leaves_somebody_to_serve_all_of_it() -> None:
    acts: list[tuple[c.Memory, c.Act]] = [
        (WINNER, c.Shift(run_id="r2", share=5, config=NEXT, why="")),
        (WINNER.model_copy(update={"rollout": rollout(5)}), c.TakeBack(run_id="r2", why="")),
        (WINNER.model_copy(update={"rollout": rollout(100)}), c.Promote(run_id="r2", why="")),
        (memory(), c.FallBack(hold_s=9, why="")),
        (memory(fallback=BACK), c.Restore(share=5, why="")),
        (memory(fallback=BACK, rollout=rollout(100, config=DRAFT, restoring=True)), c.Settle(why="")),
        (memory(), c.Adopt(config=None, why="")),
        (memory(), c.Repair(why="")),
    ]
    served = [wanted(after(m, act, NOW, config=NEXT), None, standby=True) for m, act in acts]
    assert all(sum(side.share for side in sides) == 100 for sides in served)
    assert [sides[0] for sides in served] == [
        Side(config=NEXT, share=5), Side(config=DRAFT), Side(config=NEXT), Side(), Side(config=DRAFT, share=5),
        Side(config=DRAFT), Side(), Side(config=DRAFT),
    ]  # fmt: skip
