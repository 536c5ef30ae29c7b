"""The laws: the next act, from memory, policy and the present moment. Pure.

The first law that applies decides. Unknown is never "failed": a value of None means that the controller waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from draftsmith.contract import control as c
from draftsmith.contract.base import digest
from draftsmith.contract.policy import Policy
from draftsmith.controller import rollout
from draftsmith.controller.forecast import forecast
from draftsmith.controller.memory import act_of

DAY_S = 86400.0
JUMP_S = 120.0
URGENT = ("requested", "target", "engine")
"""Reasons that no forecast is asked for."""


def decide(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act:
    """The one next act."""
    for law in LAWS:
        act = law(memory, policy, at)
        if act is not None:
            return act
    return c.Wait(state="fallback" if memory.fallback else "watching", about="nothing", why=_quiet(memory, at))


def interrupted(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """An intent without an effect is carried out again before anything else: acts are safe to repeat."""
    if memory.open is None:
        return None
    try:
        return act_of(memory.open)
    except ValueError:
        return c.Wait(
            state="stuck", about="version", why="the act in progress was begun by another version of draftsmith"
        )


def clock(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """A wall clock that was set proves nothing about ages, pauses and windows: this look decides nothing."""
    if at.now_unix_s < memory.last_unix_s - JUMP_S:
        return c.Wait(
            state="blind",
            about="clock",
            why=f"the clock is {memory.last_unix_s - at.now_unix_s:.0f} s behind the journal: waiting until it has passed it",
        )
    if abs(at.jumped_s) > JUMP_S:
        return c.Wait(
            state="blind", about="clock", why=f"the clock moved by {at.jumped_s:+.0f} s: this look decides nothing"
        )
    return None


def guards(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """See rollout.tripped. It comes before a pause: a share that does harm is taken back even while paused."""
    return rollout.tripped(memory, policy, at)


def repair(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """What serves is put in order before anything else, also in a pause; a new side that went away is taken back.

    It is tried for ever, with growing pauses: a service that is down is never left alone.
    """
    if at.amiss is None or at.now_unix_s < memory.retry_unix_s:
        return None
    if memory.rollout is not None:
        return c.TakeBack(run_id=memory.rollout.run_id or "the draft", why=at.amiss)
    return c.Repair(why=at.amiss)


def paused(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """Nothing is begun while an operator has paused it."""
    if memory.paused is None:
        return None
    return c.Wait(state="paused", about="pause", why=memory.paused)


def failures(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """After a failure it waits, longer each time, and in the end for an operator."""
    if memory.failures > policy.retries:
        return c.Wait(
            state="stuck",
            about="failures",
            why=f"{memory.failures} failures in a row: {memory.why}; `draftsmith controller resume` tries again",
        )
    if at.now_unix_s < memory.retry_unix_s:
        return c.Wait(state="stuck", about="retry", why=f"{memory.why}; it is tried again")
    return None


def standing(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """Record the standing configuration: at the first look, and after an operator switched it."""
    if not at.standing_known:
        return c.Wait(state="blind", about="standing", why="the standing configuration could not be read")
    champion = memory.champion
    if champion is not None and (memory.rollout is not None or champion.config == at.standing):
        return None
    named = _named(at.standing)
    why = f"found standing: {named}" if champion is None else f"other hands switched to {named}"
    return c.Adopt(config=at.standing, target_sha256=at.target_sha256, engine=at.engine, why=why)


def onward(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """See rollout.onward."""
    return rollout.onward(memory, policy, at)


def fallback(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """See rollout.step_back and rollout.back_again."""
    return rollout.step_back(memory, policy, at) or rollout.back_again(memory, policy, at)


def in_hand(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """The run that was begun: waited for, taken note of, promoted."""
    run = memory.run
    if run is None:
        return None
    if run.concluded is not None:
        return _winner(memory, policy, at, run.concluded)
    seen = at.run
    if seen is None or seen.alive is None:
        return c.Wait(state="blind", about="run", why="whether the run goes on could not be seen")
    if seen.alive:
        return c.Wait(
            state="running", about=f"phase {seen.phase}", why=f"{seen.phase or 'the run'} is at work: {run.why}"
        )
    if seen.outcome in (None, "failed"):
        why = seen.why or "it ended without a word"
        with_us = run.life == memory.life  # else it ended because the controller did
        if not with_us or run.failed < policy.retries:
            again = (
                f"the run {'failed' if with_us else 'ended with its controller'} and goes on where it stopped: {why}"
            )
            return c.StartRun(reason=run.reason, traffic=run.traffic, attempt=run.attempt + 1, why=again)
        return c.Conclude(run_id=seen.run_id, outcome="failed", gpu_hours=seen.gpu_hours, why=why)
    promotes = seen.outcome == "WIN" and seen.tier == "verdict"
    return c.Conclude(
        run_id=seen.run_id, outcome=seen.outcome, why=seen.why, gpu_hours=seen.gpu_hours, floor_al=seen.floor_al,
        config=seen.config if promotes else None, promotes=promotes,
    )  # fmt: skip


def _winner(memory: c.Memory, policy: Policy, at: c.Moment, won: c.Conclude) -> c.Act:
    run_id = str(won.run_id)
    if f"promote {run_id}" in memory.declined:
        return won.model_copy(update={"promotes": False, "gpu_hours": 0.0, "why": "an operator declined the promotion"})
    if at.can_shift:
        if rollout.crowded(memory, policy, at):
            return c.Wait(
                state="cooling", about="changes", why="a winner waits: what serves was changed too often this hour"
            )
        act: c.Act = c.Shift(run_id=run_id, share=policy.shares[0], config=won.config, why=won.why)
    else:
        act = c.Promote(run_id=run_id, why=won.why)
    return rollout.with_yes(memory, policy, act, c.Propose(act="promote", key=f"promote {run_id}", why=won.why))


def retrain(memory: c.Memory, policy: Policy, at: c.Moment) -> c.Act | None:
    """Begin a run where something asks for one, nothing stands in the way, and it pays."""
    result = reason_to_train(memory, policy, at)
    if result is None:
        return None
    reason, why = result
    stop = obstacle(reason, memory, policy, at)
    if stop is not None or at.traffic is None:
        stop = stop or ("blind", "traffic", "the traffic could not be read")
        return c.Wait(state=stop[0], about=stop[1], why=f"{why}; but {stop[2]}")
    expected = forecast(reason, memory, policy, at)
    if reason not in URGENT:
        if expected.pays is False:
            return c.Wait(
                state="watching", about=f"pays {reason}", why=f"{why}; but it does not pay: {expected.sentence}"
            )
        why = f"{why}; {expected.sentence}"
    act = c.StartRun(reason=reason, traffic=at.traffic.identity, why=why)
    key = f"start_run {reason} {digest([at.traffic.identity if reason == 'requested' else '', memory.runs[-1:]])[:12]}"
    return rollout.with_yes(memory, policy, act, c.Propose(act="start_run", key=key, why=why))


def reason_to_train(memory: c.Memory, policy: Policy, at: c.Moment) -> tuple[c.Reason, str] | None:
    """The strongest reason for a run, with its figures; None if there is none."""
    champion = memory.champion or c.Champion()
    if memory.requested is not None:
        return "requested", memory.requested
    if champion.config is None:
        return "first", "no draft serves yet"
    if at.target_sha256 and champion.target_sha256 and at.target_sha256 != champion.target_sha256:
        return "target", "the target's weights are not those that the draft was trained for"
    if at.engine and champion.engine and at.engine != champion.engine:
        return "engine", f"the engine is {at.engine} now and was {champion.engine}: what was compared may not hold"
    if at.live and at.live.fell:
        return "acceptance", at.live.fell
    if memory.fallback is not None:
        return "acceptance", memory.fallback.why
    if at.traffic and at.traffic.moved >= policy.drift_windows:
        return "drift", f"{at.traffic.moved} windows in a row: {at.traffic.drift}"
    age = (at.now_unix_s - champion.since_unix_s) / DAY_S
    if champion.since_unix_s and age > policy.max_age_days:
        return "age", f"the champion is {age:.0f} days old"
    return None


def obstacle(
    reason: c.Reason, memory: c.Memory, policy: Policy, at: c.Moment
) -> tuple[c.ControllerState, str, str] | None:
    """What prevents a run: (state, subject, sentence). A request overrides pauses and quiet hours, not budgets."""
    now, seen = at.now_unix_s, at.traffic
    if at.other_run is not None:
        return "running", "other run", f"{at.other_run} is in progress, begun by other hands"
    if seen is None:
        return "blind", "traffic", "the traffic could not be read"
    if seen.new < policy.min_requests:
        return "watching", "few requests", f"only {seen.new} of {policy.min_requests} new requests have come since"
    if seen.identity in memory.tried:
        return "watching", "same traffic", "this very traffic was tried already"
    if reason != "requested":
        wait = cooldown_s(memory, policy) - (now - (memory.last_end_unix_s or float("-inf")))
        if wait > 0:
            grown = f", the {memory.in_vain}. run in a row that promoted nothing" if memory.in_vain else ""
            return "cooling", "cooldown", f"the last run ended a short time ago{grown}: {wait / 3600:.1f} hours to go"
        if policy.quiet_hours and _quiet_hour(policy.quiet_hours, now):
            return (
                "cooling",
                "quiet hours",
                f"it is a quiet hour ({policy.quiet_hours[0]} to {policy.quiet_hours[1]} UTC)",
            )
    begun = sum(0 <= now - run < DAY_S for run in memory.runs)
    if begun >= policy.runs_per_day:
        return "cooling", "runs", f"{begun} runs were begun in 24 hours, of {policy.runs_per_day}"
    spent = sum(hours for ended, hours in memory.gpu_hours if 0 <= now - ended < DAY_S)
    if spent + (memory.cost_gpu_hours or policy.run_gpu_hours) > policy.gpu_hours_per_day:
        return "cooling", "gpu hours", f"{spent:.1f} of {policy.gpu_hours_per_day:.1f} GPU hours of the day are spent"
    if at.free_gib is None:
        return "blind", "disk", "the disk could not be looked at"
    if at.free_gib < policy.min_free_gib:
        return (
            "stuck",
            "disk",
            f"{at.free_gib:.1f} GiB are free on the workspace's disk, {policy.min_free_gib:.1f} are needed",
        )
    return None


def cooldown_s(memory: c.Memory, policy: Policy) -> float:
    """Seconds between the end of the last run and the next: longer after each run that promoted nothing."""
    return min(policy.cooldown_most_s, policy.cooldown_s * policy.cooldown_factor ** min(memory.in_vain, 30))


def _quiet_hour(hours: tuple[int, int], now: float) -> bool:
    hour, (first, last) = time.gmtime(now).tm_hour, hours
    return first <= hour < last if first <= last else hour >= first or hour < last


def _named(config: dict[str, object] | None) -> str:
    return "no speculation" if config is None else f"{config.get('method')} K={config.get('num_speculative_tokens')}"


def _quiet(memory: c.Memory, at: c.Moment) -> str:
    if at.traffic is None:
        return "nothing asks for an act; the traffic could not be read"
    drift = at.traffic.drift or "no window of traffic is complete yet"
    return f"nothing asks for an act; {drift}"


Law = Callable[[c.Memory, Policy, c.Moment], c.Act | None]
LAWS: tuple[Law, ...] = (
    interrupted, clock, repair, guards, paused, failures, standing, onward, fallback, in_hand, retrain,
)  # fmt: skip
