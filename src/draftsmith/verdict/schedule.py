"""Speculation length by concurrency, where the winner changes with the load."""

from __future__ import annotations

from collections.abc import Mapping

from draftsmith.contract.measure import ComparisonPlan
from draftsmith.contract.verdict import Decision, PairResult


def propose(plan: ComparisonPlan, decision: Decision) -> list[list[int]]:
    """`[[lo, hi, K], ...]` over batch sizes, as the engine's `num_speculative_tokens_per_batch_size` wants it.

    At each compared concurrency the fastest arm that won there gives its K; without a winner the baseline's K stays.
    A tier reaches from its own concurrency to just below the next one, the first from 1. Empty if the points agree on
    one K (no schedule is needed), if only one was compared, or if the winners differ in more than K.
    """
    arms = {arm.name: arm.spec_config for arm in plan.arms}
    chosen: list[tuple[int, str]] = []
    # Two points of one concurrency (say, at different rates) give one tier: the primary one, else the last.
    by_load = {p.concurrency: p for p in sorted(plan.points, key=lambda p: p.primary)}
    for _, point in sorted(by_load.items()):
        won = [pair for pair in decision.pairs if pair.point == point.name and pair.outcome == "WIN"]
        best = max(won, key=_speed, default=None)
        chosen.append((point.concurrency, best.candidate if best else plan.baseline))
    lengths = [_length(arms[name]) for _, name in chosen]
    if len(set(lengths)) < 2 or len({_family(arms[name]) for _, name in chosen if arms[name]}) > 1:
        return []
    tiers: list[list[int]] = []
    for index, (concurrency, _) in enumerate(chosen):
        low = concurrency if index else 1
        high = chosen[index + 1][0] - 1 if index + 1 < len(chosen) else max(concurrency, low)
        if tiers and tiers[-1][2] == lengths[index]:
            tiers[-1][1] = high
        else:
            tiers.append([low, high, lengths[index]])
    return tiers


def _speed(pair: PairResult) -> float:
    return pair.speedup.value if pair.speedup else 0.0


def _length(spec: Mapping[str, object] | None) -> int:
    value = (spec or {}).get("num_speculative_tokens", 0)
    return value if isinstance(value, int) else 0


def _family(spec: Mapping[str, object] | None) -> tuple[object, object]:
    """What must be equal for one server to switch between two lengths: method and draft."""
    return (spec or {}).get("method"), (spec or {}).get("model")
