"""How far a decision may be trusted. Tier `verdict` is needed to touch what serves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, Trial
from draftsmith.verdict.modes import mode_mismatch, settings_mismatch
from draftsmith.verdict.pair import Judged
from draftsmith.verdict.twin import unequal

FEWEST_TRIALS = 3
ENOUGH_TWINS = 0.75


def tier_reasons(
    plan: ComparisonPlan,
    arms: Sequence[Arm],
    trials: Sequence[Trial],
    facts: Mapping[str, EngineFacts],
    pairs: Sequence[Judged],
) -> tuple[str, ...]:
    """Why the tier is only `draft`; empty means `verdict`.

    `arms`: the compared ones, baseline first. `trials`: valid ones of the primary point. `facts`: by server start.
    `pairs`: the judged pairs that the outcome rests on.
    """
    names = {arm.name for arm in arms}
    used = [trial for trial in trials if trial.arm in names and trial.traffic == "own"]
    return (
        *_baseline(plan),
        *_running(arms, used, facts),
        *_trial_count(plan, arms, used),
        *_node(used),
        *_eager(arms, used, facts),
        *_modes(arms, used, facts),
        *_settings(arms, used, facts),
        *_pair_reasons(pairs),
    )


def is_eager(arm: Arm, facts: Collection[EngineFacts] = ()) -> bool:
    """Whether an arm runs without compilation, by its flags or by what its engine said."""
    words = (*arm.flags, *(arm.command or ()))
    return any(word.split("=")[0] == "--enforce-eager" for word in words) or any(f.enforce_eager for f in facts)


def _baseline(plan: ComparisonPlan) -> list[str]:
    role = next(arm.role for arm in plan.arms if arm.name == plan.baseline)
    standing = [arm.name for arm in plan.arms if arm.role == "standing"]
    if role == "standing" or (role == "no_spec" and not standing):
        return []
    sentence = f"not the standing configuration ({standing[0]})" if standing else f"of role {role}, not what serves"
    return [f"strawman baseline: {plan.baseline} is {sentence}"]


def _running(arms: Sequence[Arm], used: Sequence[Trial], facts: Mapping[str, EngineFacts]) -> list[str]:
    """A server that ran already counts like one that was started if it publishes its start and all its settings; how far
    two starts differ is another reason, which such a comparison has unless the spread is given."""
    facts_of = _by_arm(arms, used, facts)
    return [
        f"{arm.name} is a server that was running already: it can be neither restarted nor its log read"
        for arm in arms
        if arm.endpoint is not None and not (facts_of[arm.name] and all(map(_complete, facts_of[arm.name])))
    ]


def _complete(fact: EngineFacts) -> bool:
    needed = (fact.version, fact.device, fact.dtype, fact.enforce_eager, fact.graph_mode, fact.max_model_len)
    return bool(fact.settings) and None not in needed


def _trial_count(plan: ComparisonPlan, arms: Sequence[Arm], used: Sequence[Trial]) -> list[str]:
    floor = max(FEWEST_TRIALS, plan.thresholds.min_blocks)
    reasons = []
    for arm in arms:
        blocks = len({trial.block for trial in used if trial.arm == arm.name})
        if blocks < floor:
            reasons.append(f"fewer than {floor} valid trials of {arm.name}: {blocks}")
    return reasons


def _node(used: Sequence[Trial]) -> list[str]:
    nodes = sorted({trial.node for trial in used})
    return [f"measured on more than one node: {', '.join(nodes)}"] if len(nodes) > 1 else []


def _eager(arms: Sequence[Arm], used: Sequence[Trial], facts: Mapping[str, EngineFacts]) -> list[str]:
    facts_of = _by_arm(arms, used, facts)
    return [f"{arm.name} runs in eager mode" for arm in arms if is_eager(arm, facts_of[arm.name])]


def _modes(arms: Sequence[Arm], used: Sequence[Trial], facts: Mapping[str, EngineFacts]) -> list[str]:
    silent = sorted({trial.arm for trial in used if trial.engine_start_id not in facts})
    reasons = [f"no engine facts for a server start of {arm}" for arm in silent]
    facts_of = {arm: starts for arm, starts in _by_arm(arms, used, facts).items() if starts}
    return reasons + [f"unmatched modes: {sentence}" for sentence in mode_mismatch(facts_of)]


def _settings(arms: Sequence[Arm], used: Sequence[Trial], facts: Mapping[str, EngineFacts]) -> list[str]:
    """Arms that the plan starts with the same flags have to say the same of themselves.

    Other flags, or a whole command, are what is on trial: there only starts of one arm are compared.
    """
    baseline, facts_of = arms[0], _by_arm(arms, used, facts)
    alike = [arm for arm in arms if arm.flags == baseline.flags and arm.command is None and baseline.command is None]
    groups = [[arm.name for arm in alike], *([arm.name] for arm in arms if arm not in alike)]
    return [sentence for names in groups for sentence in settings_mismatch({name: facts_of[name] for name in names})]


def _by_arm(
    arms: Sequence[Arm], used: Sequence[Trial], facts: Mapping[str, EngineFacts]
) -> dict[str, list[EngineFacts]]:
    starts = {arm.name: sorted({t.engine_start_id for t in used if t.arm == arm.name}) for arm in arms}
    return {arm: [facts[start] for start in ids if start in facts] for arm, ids in starts.items()}


def _pair_reasons(pairs: Sequence[Judged]) -> list[str]:
    reasons = []
    for pair in pairs:
        name = pair.result.candidate
        for check in pair.checks:
            if check.suspect and check.state == "failed":
                reasons.append(f"client and server disagree on {name}: {check.sentence}")
            elif check.state == "unmeasured":
                reasons.append(f"guard {check.name} of {name} {check.sentence}")
        if pair.data is None:
            continue
        if not pair.data.starts_known and pair.data.blocks >= FEWEST_TRIALS:
            reasons.append(
                f"{name} is compared for these servers alone: none was started anew, and how far two starts differ here is "
                "not known"
            )
        reasons += _twin(pair)
    return reasons


def _twin(pair: Judged) -> list[str]:
    """The second pass of the baseline has to be there, and to be equal."""
    blocks = pair.data.blocks if pair.data else 0
    if len(pair.aparts) < ENOUGH_TWINS * blocks:
        return [f"A/A is missing: {len(pair.aparts)} of {blocks} blocks have a second pass of {pair.result.baseline}"]
    sentence = unequal(pair.aparts, math.log(pair.result.min_speedup))
    return [sentence] if sentence else []
