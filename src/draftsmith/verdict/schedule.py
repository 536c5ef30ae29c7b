"""Speculation length by concurrency, where the winner changes with the load."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.measure import Arm, ComparisonPlan
from draftsmith.contract.speculation import SpecConfig, read
from draftsmith.contract.verdict import Decision, PairResult

SETTING = "num_speculative_tokens_per_batch_size"


def propose(plan: ComparisonPlan, decision: Decision) -> list[list[int]]:
    """`[[lo, hi, K], ...]` over batch sizes, as the engine's `num_speculative_tokens_per_batch_size` wants it.

    At each compared concurrency the fastest arm that won there gives its K; without a winner the baseline's K stays.
    A tier reaches from its own concurrency to just below the next one, the first from 1. Empty if the points agree on
    one K (no schedule is needed), if only one was compared, or if the winners differ in more than K. Points of an open
    loop have no concurrency of their own and are left out.
    """
    arms = {arm.name: arm for arm in plan.arms}
    chosen = _chosen(plan, decision)
    lengths = [_length(arms[name]) for _, name in chosen]
    if None in lengths or len(set(lengths)) < 2:
        return []
    if len({speculates.family for _, name in chosen if (speculates := arms[name].speculation)}) > 1:
        return []
    tiers: list[list[int]] = []
    for index, (concurrency, _) in enumerate(chosen):
        low = concurrency if index else 1
        high = chosen[index + 1][0] - 1 if index + 1 < len(chosen) else max(concurrency, low)
        length = lengths[index] or 0
        if tiers and tiers[-1][2] == length:
            tiers[-1][1] = high
        else:
            tiers.append([low, high, length])
    return tiers


def scheduled_config(plan: ComparisonPlan, decision: Decision) -> dict[str, Any] | None:
    """A speculative config that carries the proposed schedule out; None without one.

    It was not measured itself: it is to be compared like any other arm before it serves.
    """
    tiers = propose(plan, decision)
    if not tiers:
        return None
    arms = {arm.name: arm.spec_config for arm in plan.arms}
    longest = max((arms[name] or {} for _, name in _chosen(plan, decision)), key=_tokens)
    return {**longest, SETTING: tiers}


def schedule_sentence(plan: ComparisonPlan, decision: Decision) -> str | None:
    """The proposal in words; None without one."""
    tiers = propose(plan, decision)
    if not tiers:
        return None
    words = [f"{f'{low} to {high}' if high > low else low}: {f'K={k}' if k else 'off'}" for low, high, k in tiers]
    return (
        f"the best speculation length changes with the load; by requests in flight: {', '.join(words)} "
        f"({SETTING} = {tiers}; compare it as an arm of its own before it serves)"
    )


def _chosen(plan: ComparisonPlan, decision: Decision) -> list[tuple[int, str]]:
    """(concurrency, the arm to use there), lowest first."""
    # Two points of one concurrency (say, at different lengths) give one tier: the primary one, else the last.
    by_load = {p.concurrency: p for p in sorted(plan.points, key=lambda p: p.primary) if not p.open_loop}
    chosen = []
    for _, point in sorted(by_load.items()):
        won = [pair for pair in decision.pairs if pair.point == point.name and pair.outcome == "WIN"]
        best = max(won, key=_speed, default=None)
        chosen.append((point.concurrency, best.candidate if best else plan.baseline))
    return chosen


def _speed(pair: PairResult) -> float:
    return pair.speedup.value if pair.speedup else 0.0


def _length(arm: Arm) -> int | None:
    """K of an arm, 0 without speculation; None where it is not known (a full command, a running server)."""
    if arm.spec_config is None:
        return 0 if arm.command is None and arm.endpoint is None else None
    return _tokens(arm.spec_config)


def _tokens(spec_config: SpecConfig) -> int:
    speculation = read(spec_config)
    return (speculation.k if speculation else None) or 0
