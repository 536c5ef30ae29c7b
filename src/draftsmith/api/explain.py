"""Words for a run's end, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import read_json, read_lines
from draftsmith.store.runs import Run
from draftsmith.verdict.divergence import Divergence, divergences, sentence
from draftsmith.verdict.schedule import propose, schedule_sentence
from draftsmith.verdict.validate import valid_trials


def closing(overview: dict[str, Any]) -> str:
    """The last lines of `run`: the verdict, the speed-up with its interval, the report."""
    verdict = overview["verdict"]
    if not verdict:
        stopped = next((row for row in overview["phases"] if row["state"] == "stopped"), None)
        if stopped:
            return (
                f"stopped at the gate of {stopped['phase']}: {stopped['headline']}; change what it names, or give --new"
            )
        return "stopped before the comparison; run the same command to go on"
    lines = [f"verdict  {verdict['outcome']} (tier {verdict['tier']}): {verdict['reason']}"]
    if speed := verdict.get("speedup"):
        span = f"[{speed['low']:.3f}, {speed['high']:.3f}] at {speed['confidence']:.0%} confidence"
        lines.append(f"speed-up {speed['value']:.3f}x {span}")
    if schedule := verdict.get("schedule_sentence"):
        lines.append(f"schedule {schedule}")
    if overview["report"]:
        lines.append(f"report   {overview['report']}")
    return "\n".join(lines)


def decision_text(decision: Decision) -> str:
    """A decision for the terminal: outcome, reason, arms, guards."""
    lines = [f"{decision.outcome} (tier {decision.tier}): {decision.reason}"]
    lines += [f"  tier draft because {reason}" for reason in decision.tier_reasons]
    for arm in decision.arms:
        tpot = f"{arm.median_tpot_s * 1000:.2f} ms/token" if arm.median_tpot_s else "no times"
        length = f", AL {arm.acceptance_length:.2f}" if arm.acceptance_length else ""
        lines.append(
            f"  {arm.arm:16} at {arm.point}: median TPOT {tpot}{length}, {arm.requests} requests, {arm.trials} trials"
        )
    for pair in decision.pairs:
        if pair.speedup:
            speed = pair.speedup
            lines.append(
                f"  {pair.candidate} against {pair.baseline} at {pair.point}: {speed.value:.3f}x "
                f"[{speed.low:.3f}, {speed.high:.3f}], must clear {pair.min_speedup:.3f}: {pair.outcome}"
            )
        lines += [f"    guard {guard.name}: {guard.sentence}" for guard in pair.guards if guard.passed is not True]
    lines += [f"  note: {note}" for note in decision.notes]
    return "\n".join(lines)


def comparison_text(plan: ComparisonPlan, decision: Decision, told: Sequence[Divergence]) -> str:
    """A decision with what only the samples and the plan know: divergence between arms, and K by load."""
    lines = [decision_text(decision)]
    lines += [f"  answers of {one.arm} at {one.point}: {sentence(one)}" for one in told]
    schedule = schedule_sentence(plan, decision)
    return "\n".join([*lines, *([f"  schedule: {schedule}"] if schedule else [])])


def explanation(run: Run) -> tuple[dict[str, Any], str]:
    """Every gate of a run, and the decision in full."""
    from draftsmith.loop.driver import results, summary

    rows = summary(run)
    lines = [f"{row['phase']:8} {row['state']:7} {row['headline']}" for row in rows]
    value: dict[str, Any] = {"run_id": run.record.run_id, "phases": rows, "decision": None}
    compare = results(run).get("compare")
    if compare:
        decision = Decision.model_validate(read_json(Path(compare.outputs["verdict"])))
        plan = ComparisonPlan.model_validate(read_json(Path(compare.outputs["plan"])))
        trials = [Trial.model_validate(orjson.loads(line)) for line in read_lines(Path(compare.outputs["samples"]))]
        told = divergences(plan, valid_trials(plan, trials)[0])
        value["decision"] = decision.model_dump(mode="json", by_alias=True)
        value["schedule"] = propose(plan, decision)
        value["divergence"] = [asdict(one) for one in told]
        lines += ["", comparison_text(plan, decision, told)]
    return value, "\n".join(lines)


def republish(run: Run) -> tuple[Path, list[str]]:
    """Write bundle and report of a run from what is there now. Returns the report's path and the phases not in it.

    Raises InputError if no phase is done yet.
    """
    from draftsmith.api.runs import context_of
    from draftsmith.loop.driver import results
    from draftsmith.phases.pipeline import JOBS, PIPELINE
    from draftsmith.work.publish import publish

    done = results(run)
    if not done:
        raise InputError(
            f"{run.record.run_id} has nothing to report yet: no phase is done", "let it go on: `draftsmith run`"
        )
    outputs, _ = publish(JOBS["publish"].plan(context_of(run, done)).plan)
    return Path(outputs["report"]), [phase for phase in PIPELINE[:-1] if phase not in done]
