"""What is wrong with trials as a record of a campaign, whatever they say of speed. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.verdict.visits import is_second, visits

ENOUGH_TIMES = 4  # requests: two equal latencies may be chance, four to the last digit are not


def copies(trials: Sequence[Trial]) -> list[str]:
    """Trials whose requests took the same times to the last digit. Times of two requests are never all equal."""
    seen: dict[tuple[float, ...], str] = {}
    sentences = []
    for trial in trials:
        times = tuple(s.latency_s for s in trial.samples if s.latency_s is not None)
        if len(set(times)) < ENOUGH_TIMES:
            continue
        if (first := seen.setdefault(times, trial.trial_id)) != trial.trial_id:
            sentences.append(
                f"samples.jsonl: {trial.trial_id} has the times of {first} to the last digit: one is a copy"
            )
    return sentences


def gaps(plan: ComparisonPlan, trials: Sequence[Trial]) -> list[str]:
    """Blocks that are not there, and visits that a block should have and has not. First editions are not looked at."""
    if not is_second(plan):
        return []
    present = {(t.block, t.point, t.arm, t.traffic, t.visit) for t in trials}  # that a server died is on record too
    blocks = {t.block for t in trials if t.samples and t.traffic != "tuning"}
    sentences = [
        f"samples.jsonl has no block {n}, but later ones" for n in range(max(blocks, default=-1)) if n not in blocks
    ]
    for block in sorted(blocks):
        lost = [v for v in visits(plan, block) if (block, v.point, v.arm, v.traffic, v.visit) not in present]
        if lost:
            names = f"{lost[0].arm} ({lost[0].traffic}) at {lost[0].point}"
            sentences.append(f"samples.jsonl: block {block} lacks {len(lost)} visits, the first to {names}")
    return sentences
