"""Which configurations are to serve, and with what share of live traffic, by what is remembered. Pure."""

from __future__ import annotations

from draftsmith.contract import control as c
from draftsmith.contract.speculation import SpecConfig
from draftsmith.controller.memory import fold
from draftsmith.serving.managed.sides import Side


def wanted(memory: c.Memory, standing: SpecConfig, *, standby: bool) -> tuple[Side, ...]:
    """The sides of a managed service, what serves most first. `standing`: what stands, before anything is remembered.

    `standby`: keep a replica without a draft beside what serves, for a fallback within seconds.
    """
    serving_config = memory.champion.config if memory.champion else standing
    if memory.fallback is not None:
        serving_config = None
    rollout = memory.rollout
    if rollout is not None:
        return _merged(
            [Side(config=rollout.config, share=rollout.share), Side(config=serving_config, share=100 - rollout.share)]
        )
    sides = [Side(config=serving_config)]
    if standby and serving_config is not None:
        sides.append(Side(config=None, share=0))
    return _merged(sides)


def after(memory: c.Memory, act: c.Act, now_unix_s: float, **data: object) -> c.Memory:
    """What will be remembered once `act` is done: what it wants to serve follows from that."""
    event = c.ControlEvent(
        number=memory.last + 1, at_unix_s=now_unix_s, kind="effect", sentence="",
        data={"act": act.model_dump(mode="json"), **data},
    )  # fmt: skip
    return fold([event], memory)


def _merged(sides: list[Side]) -> tuple[Side, ...]:
    """One side a configuration: a new one that is the old one takes both shares."""
    result: list[Side] = []
    for side in sides:
        same = next((n for n, other in enumerate(result) if other.config == side.config), None)
        if same is None:
            result.append(side)
        else:
            result[same] = result[same].model_copy(update={"share": result[same].share + side.share})
    return tuple(result)
