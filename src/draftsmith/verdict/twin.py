"""The baseline's twin: its second pass in every block. It must be equal, and shows how far equal servers differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.verdict.blocks import critical
from draftsmith.verdict.modes import mode_mismatch, settings_mismatch
from draftsmith.verdict.validate import base_arm

BEYOND_CHANCE = 0.001


def equal_twins(
    plan: ComparisonPlan, trials: Sequence[Trial], facts: Mapping[str, EngineFacts]
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The trials without a twin that was served otherwise than the baseline by the engines' own words, and why."""
    own = {t.engine_start_id for t in trials if t.arm == plan.baseline and t.traffic == "own"}
    spoken = [facts[start] for start in sorted(own) if start in facts]
    others = sorted({t.engine_start_id for t in trials if t.traffic == "aa"} - own)
    wrong: dict[str, str] = {}
    for start in others:
        if start in facts and spoken:
            facts_of = {plan.baseline: spoken, "its twin": [facts[start]]}
            if differs := [*mode_mismatch(facts_of), *settings_mismatch(facts_of)]:
                wrong[start] = differs[0]
    kept = tuple(t for t in trials if not (t.traffic == "aa" and t.engine_start_id in wrong))
    arms = sorted(
        {(t.arm, wrong[t.engine_start_id]) for t in trials if t.traffic == "aa" and t.engine_start_id in wrong}
    )
    return kept, tuple(f"{name} is no twin of {base_arm(name)} and was not used: {why}" for name, why in arms)


def floor_of(aparts: Sequence[float]) -> float | None:
    """How far one block's two passes of the baseline differ, as a fraction (rms of the log ratios); None without any."""
    if not aparts:
        return None
    return math.expm1(math.sqrt(sum(value * value for value in aparts) / len(aparts)))


def unequal(aparts: Sequence[float], tolerated: float) -> str | None:
    """A sentence if the two passes of the baseline differ by more than chance and than `tolerated` (log)."""
    count = len(aparts)
    if count < 3:
        return None
    mean = sum(aparts) / count
    error = math.sqrt(sum((value - mean) ** 2 for value in aparts) / (count - 1) / count)
    if abs(mean) <= max(tolerated, critical(BEYOND_CHANCE / 2, count - 1) * error):
        return None
    return (
        f"the two passes of the baseline differ by {100 * math.expm1(abs(mean)):.2g} % in block after block: one of them is "
        "not what it should be, or something hits it alone"
    )


def floor_note(aparts: Sequence[float]) -> str:
    """What the second passes showed, in one sentence."""
    if not aparts:
        return "no second pass of the baseline (A/A): how far equal servers differ here was not measured"
    mean, floor = sum(aparts) / len(aparts), floor_of(aparts) or 0.0
    lean = math.expm1(abs(mean) / 2)
    return (
        f"A/A over {len(aparts)} block{'s' if len(aparts) > 1 else ''}: two passes of the baseline differ by {100 * floor:.2g} % "
        f"(rms of a block); half of their mean difference, {100 * lean:.2g} %, is added to every interval"
    )
