"""What retraining is worth and what it costs, in hours of the served accelerators. Pure, and says what it does not know."""

from __future__ import annotations

from draftsmith.contract.base import Frozen
from draftsmith.contract.control import Memory, Moment, Reason
from draftsmith.contract.policy import Policy


class Forecast(Frozen):
    """`pays` None: it cannot be told. Hours are accelerator hours; `worth_h` within the policy's pay_back_days."""

    pays: bool | None
    worth_h: float | None
    cost_h: float
    sentence: str


def forecast(reason: Reason, memory: Memory, policy: Policy, at: Moment) -> Forecast:
    """What a run now would save by what is seen: the share of decode time that another draft would win back.

    Time per token goes with 1 / acceptance length, so a draft that fell from A to B takes A/B as long, and 1 - B/A of its
    time would be won back. A first draft is taken to save the policy's first_gain. Each run in a row that promoted nothing halves
    what the next is taken to be worth: it may be that there is nothing to win.
    """
    cost = memory.cost_gpu_hours or policy.run_gpu_hours
    saved, how = _saved(reason, memory, policy, at)
    if saved is None:
        return Forecast(pays=None, worth_h=None, cost_h=cost, sentence=f"what it is worth cannot be told: {how}")
    busy = at.live.busy_share if at.live and at.live.busy_share is not None else None
    if busy is None:
        unknown = "how busy the server is could not be seen"
        return Forecast(pays=None, worth_h=None, cost_h=cost, sentence=f"what it is worth cannot be told: {unknown}")
    worth = saved * busy * 24 * policy.pay_back_days * policy.accelerators * 0.5**memory.in_vain
    sentence = (
        f"{how}: {worth:.1f} hours saved in {policy.pay_back_days:.0f} days at this load, against {cost:.1f} hours that a "
        "run costs"
    )
    if memory.in_vain:
        sentence += f" (halved for each run in a row that promoted nothing: {memory.in_vain})"
    return Forecast(pays=worth > cost, worth_h=worth, cost_h=cost, sentence=sentence)


def _saved(reason: Reason, memory: Memory, policy: Policy, at: Moment) -> tuple[float | None, str]:
    champion = memory.champion
    if reason == "first" or champion is None or champion.config is None:
        return policy.first_gain, f"a first draft is taken to save {policy.first_gain:.0%} of decode time"
    was = champion.acceptance_length
    now = at.live.acceptance_length if at.live else None
    if was is None:
        return None, "what was promoted has no acceptance length on record"
    if memory.fallback is not None:
        floor = champion.floor_al or 1.0
        return max(0.0, 1 - floor / was), "the draft serves nothing at the moment"
    if now is None:
        return None, "live acceptance could not be seen"
    share = max(0.0, 1 - now / was)
    return share, f"acceptance length is {now:.2f} and was {was:.2f} ({share:.0%} of decode time)"
