"""What one arm did at one operating point, for the tables of a report."""

from __future__ import annotations

from collections.abc import Iterable

from draftsmith.contract.measure import ComparisonPlan, SpecCounters, Trial
from draftsmith.contract.verdict import ArmSummary
from draftsmith.verdict.estimate import quantile_of, rounded, tpot, ttft, values


def summarise(plan: ComparisonPlan, trials: Iterable[Trial]) -> tuple[ArmSummary, ...]:
    """One summary per arm and point that has valid trials of its own traffic, in the plan's order."""
    rows = [trial for trial in trials if trial.traffic == "own"]
    summaries = []
    for point in plan.points:
        for arm in plan.arms:
            own_trials = [trial for trial in rows if trial.arm == arm.name and trial.point == point.name]
            if own_trials:
                summaries.append(_summary(arm.name, point.name, own_trials))
    return tuple(summaries)


def merged(trials: Iterable[Trial]) -> SpecCounters:
    """The speculation counters of several trials added up."""
    counters = [trial.counters for trial in trials]
    width = max((len(c.accepted_per_position) for c in counters), default=0)
    return SpecCounters(
        present=any(c.present for c in counters),
        drafts=sum(c.drafts for c in counters),
        draft_tokens=sum(c.draft_tokens for c in counters),
        accepted_tokens=sum(c.accepted_tokens for c in counters),
        accepted_per_position=tuple(
            sum(c.accepted_per_position[i] for c in counters if i < len(c.accepted_per_position)) for i in range(width)
        ),
        generation_tokens=sum(c.generation_tokens for c in counters),
        requests=sum(c.requests for c in counters),
        preemptions=sum(c.preemptions for c in counters),
        decode_steps=None
        if any(c.decode_steps is None for c in counters)
        else sum(c.decode_steps or 0 for c in counters),
    )


def _summary(arm: str, point: str, trials: list[Trial]) -> ArmSummary:
    times, firsts = values(trials, tpot), values(trials, ttft)
    counters = merged(trials)
    good = [sample for trial in trials for sample in trial.samples if sample.error is None]
    tokens = sum(sample.output_tokens or 0 for sample in good)
    server_sum = sum(t.counters.server_tpot_sum_s or 0.0 for t in trials)
    server_count = sum(t.counters.server_tpot_count or 0 for t in trials)
    caches = [t.kv_tokens for t in trials if t.kv_tokens]
    return ArmSummary(
        arm=arm,
        point=point,
        trials=len(trials),
        requests=sum(len(trial.samples) for trial in trials),
        errors=sum(1 for trial in trials for sample in trial.samples if sample.error is not None),
        median_tpot_s=rounded(quantile_of(times, 0.5)) if times else None,
        p99_tpot_s=rounded(quantile_of(times, 0.99)) if times else None,
        server_mean_tpot_s=rounded(server_sum / server_count) if server_count else None,
        median_ttft_s=rounded(quantile_of(firsts, 0.5)) if firsts else None,
        throughput_tok_s=rounded(tokens / sum(trial.wall_s for trial in trials)),
        acceptance_length=rounded(counters.acceptance_length),
        acceptance_by_position=tuple(round(share, 9) for share in counters.acceptance_by_position),
        tokens_per_step=rounded(counters.tokens_per_step),
        preemptions=counters.preemptions,
        kv_tokens=min(caches) if caches else None,
    )
