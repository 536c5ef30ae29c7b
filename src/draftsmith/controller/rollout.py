"""The laws of live traffic: shares, guards, fallback, restoring. Pure.

Without data no share grows and none is taken back: the controller waits.
"""

from __future__ import annotations

from draftsmith.contract import control as c
from draftsmith.contract.policy import Policy

HOUR_S = 3600.0
HOLD_MOST_S = 24 * HOUR_S
FEWEST = 20
"""Requests of either side below which no guard is looked at, and no share grows."""


def tripped(memory: c.Memory, policy: Policy, at: c.Moment) -> c.TakeBack | None:
    """Take a share back if a guard of it is broken, also while an operator has paused the rest."""
    rollout = memory.rollout
    if rollout is None:
        return None
    name = rollout.run_id or "the draft"
    standing_config = memory.champion.config if memory.champion else None
    if at.standing_known and at.standing != standing_config and at.standing != rollout.config:
        return c.TakeBack(run_id=name, why="the standing configuration was switched by other hands meanwhile")
    why = broken_guard(memory, policy, at)
    return c.TakeBack(run_id=name, why=f"at {rollout.share} % of live traffic {why}") if why else None


def broken_guard(memory: c.Memory, policy: Policy, at: c.Moment) -> str | None:
    """Which guard is broken, with both figures; None if none is, or if it cannot be seen."""
    new, old, rollout = at.live, at.beside, memory.rollout
    if new is None or new.requests + new.failed < FEWEST:
        return None
    beside = old.failed / max(1, old.requests + old.failed) if old else 0.0
    errors = new.failed / (new.requests + new.failed)
    if new.failed >= 3 and errors > beside + policy.error_margin:
        return f"{errors:.1%} of requests failed, against {beside:.1%} beside it"
    floor, length = _floor(memory, policy), new.acceptance_length
    if floor is not None and length is not None and length < floor:
        return f"acceptance length is {length:.2f}, and pays from {floor:.2f} on"
    if old is None or old.requests < FEWEST:
        return None
    margin = 0.0 if rollout and rollout.restoring else policy.tpot_margin
    for label, new_value, other, room in (
        ("time per output token", new.tpot_s, old.tpot_s, margin),
        ("time to the first token", new.ttft_s, old.ttft_s, policy.ttft_margin),
    ):
        if new_value is not None and other is not None and new_value > other * (1 + room):
            return f"{label} is {new_value * 1000:.1f} ms, against {other * 1000:.1f} ms beside it"
    return None


def onward(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """The next share of a rollout, its end, or what it waits for."""
    rollout = memory.rollout
    if rollout is None:
        return None
    enough = max(policy.share_requests, FEWEST)
    if at.live is None or (at.live.requests >= enough and at.live.tpot_s is None):
        return c.Wait(
            state="blind",
            about="rollout metrics",
            why=f"the new side's figures could not be read: it stays at {rollout.share} % of live traffic",
        )
    long_enough = at.now_unix_s - rollout.since_unix_s >= policy.share_s
    beside = at.beside is not None and at.beside.requests >= FEWEST
    if not long_enough or at.live.requests < enough or not (beside or rollout.share >= 100):
        return c.Wait(
            state="promoting",
            about=f"share {rollout.share}",
            why=f"{rollout.share} % of live traffic is on the new side: {at.live.requests} requests, no guard is broken",
        )
    figures = _beside(at)
    if rollout.share >= 100:
        if rollout.restoring:
            return c.Settle(why=f"the draft serves all traffic again and pays: {figures}")
        return c.Promote(run_id=str(rollout.run_id), why=f"all guards held up to all of live traffic: {figures}")
    share = next_share(policy, rollout.share)
    why = f"guards held at {rollout.share} %: {figures}"
    if rollout.restoring:
        return c.Restore(share=share, why=why)
    return c.Shift(run_id=str(rollout.run_id), share=share, config=rollout.config, why=why)


def next_share(policy: Policy, share: int) -> int:
    """The share after `share`, in percent."""
    return next((step for step in policy.shares if step > share), 100)


def back_again(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """Try the draft again on the first share when the hold is over: coming back is a rollout of its own, with its guards."""
    back = memory.fallback
    if back is None or memory.run is not None:
        return None
    if at.now_unix_s - back.since_unix_s < back.hold_s or crowded(memory, policy, at):
        return None
    return c.Restore(
        share=policy.shares[0], why=f"it was away for {(at.now_unix_s - back.since_unix_s) / 60:.0f} minutes"
    )


def step_back(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """Fall back if live figures have been on the wrong side for long enough, over enough requests."""
    champion, live = memory.champion, at.live
    if (
        not policy.fallback
        or memory.fallback is not None
        or champion is None
        or champion.config is None
        or live is None
    ):
        return None
    if not live.below or live.below_s < policy.fallback_after_s or live.below_requests < policy.fallback_requests:
        return None
    why = f"{live.below}, for {live.below_s:.0f} s and {live.below_requests} requests"
    if not at.can_shift:
        return c.Wait(
            state="stuck",
            about="fallback by hand",
            why=f"{why}; this service cannot be switched from here: `draftsmith rollback`, or restart without the draft",
        )
    if crowded(memory, policy, at):
        return c.Wait(
            state="stuck", about="changes", why=f"{why}; but there were {len(memory.changes)} changes in the last hour"
        )
    hold = min(HOLD_MOST_S, policy.fallback_hold_s * 2**memory.steps_back)
    act = c.FallBack(hold_s=hold, why=why)
    key = f"fall_back {champion.since_unix_s:.0f} {memory.steps_back}"
    return with_yes(memory, policy, act, c.Propose(act="fall_back", key=key, why=why))


def crowded(memory: c.Memory, policy: Policy, at: c.Moment) -> bool:
    """Whether what serves was changed as often as it may be in one hour."""
    return sum(0 <= at.now_unix_s - change < HOUR_S for change in memory.changes) >= policy.changes_per_hour


def with_yes(memory: c.Memory, policy: Policy, act: c.Act, proposal: c.Propose) -> c.Act:
    """`act` where it may be done; in mode `propose` only after a yes to exactly this. A no is final for this key."""
    if policy.mode == "auto" or proposal.key in memory.approved:
        return act
    if proposal.key in memory.declined:
        return c.Wait(state="watching", about=f"declined {proposal.key}", why=f"an operator said no: {proposal.why}")
    if memory.proposal is not None and memory.proposal.key == proposal.key:
        return c.Wait(
            state="waiting", about=proposal.key, why=f"`draftsmith controller approve` or `decline`: {proposal.why}"
        )
    return proposal


def _floor(memory: c.Memory, policy: Policy) -> float | None:
    """Acceptance length from which the draft pays: the policy's, else of the comparison that it won."""
    if policy.floor_al is not None:
        return policy.floor_al
    if memory.rollout and memory.rollout.restoring:
        return memory.champion.floor_al if memory.champion else None
    concluded = memory.run.concluded if memory.run else None
    return concluded.floor_al if concluded else None


def _beside(at: c.Moment) -> str:
    new, old = at.live, at.beside
    parts = []
    if new and new.acceptance_length is not None:
        parts.append(f"acceptance length {new.acceptance_length:.2f}")
    if new and new.tpot_s is not None:
        beside = f" against {old.tpot_s * 1000:.1f}" if old and old.tpot_s is not None else ""
        parts.append(f"time per output token {new.tpot_s * 1000:.1f} ms{beside}")
    if new:
        parts.append(f"{new.requests} requests, {new.failed} failed")
    return ", ".join(parts)
