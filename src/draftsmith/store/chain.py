"""The hash chain of samples.jsonl: each trial names the one before it, the first one names the plan.

A trial that was dropped, moved, altered or put in afterwards breaks it. Links are taken over a trial's contents and not over
its bytes, so that a later version, which may write further fields with their defaults, reads the same chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from draftsmith.contract.measure import Trial
from draftsmith.verdict.samples import trial_digest


def link(plan_sha256: str, last: Trial | None) -> str:
    """What the next trial has to name: the sha256 of the last one, or of the plan if there is none."""
    return trial_digest(last) if last is not None else plan_sha256


def linked(plan_sha256: str, trials: Iterable[Trial]) -> list[Trial]:
    """The same trials, each naming the one before it."""
    trials_linked: list[Trial] = []
    for trial in trials:
        previous = link(plan_sha256, trials_linked[-1] if trials_linked else None)
        trials_linked.append(trial.model_copy(update={"previous_sha256": previous}))
    return trials_linked


def broken(plan_sha256: str, trials: Sequence[Trial]) -> list[str]:
    """One sentence for each place at which the chain does not hold; empty if it holds, or if no trial is in one."""
    if all(trial.previous_sha256 is None for trial in trials):
        return []
    faults, last = [], None
    for number, trial in enumerate(trials, start=1):
        if trial.previous_sha256 != link(plan_sha256, last):
            before = f"line {number - 1}" if last else "the plan"
            faults.append(
                f"samples.jsonl line {number} ({trial.trial_id}) does not follow {before}: the chain is broken"
            )
        last = trial
    return faults
