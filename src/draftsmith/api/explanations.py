"""A run and a decision in words, and the report of a run as far as it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from draftsmith.api.runs import get_run
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import CompareResult
from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.contract.view import PhaseView, RunView
from draftsmith.kit.files import read_json, read_lines
from draftsmith.store.runs import Run
from draftsmith.verdict.divergence import Divergence, divergences, sentence
from draftsmith.verdict.schedule import propose, schedule_sentence
from draftsmith.verdict.validate import valid_trials


class Explanation(Frozen):
    """A run in full: every gate, and the decision with what only its samples and its plan know.

    `decision` None: nothing was compared yet. `text` is all of it for a reader.
    """

    run_id: str
    phases: tuple[PhaseView, ...]
    decision: Decision | None = None
    schedule: tuple[tuple[int, int, int], ...] = ()
    divergence: tuple[dict[str, Any], ...] = ()
    text: str = Field("", exclude=True)

    model_config = Frozen.model_config | {"serialize_by_alias": True}


class Report(Frozen):
    """Path of report.html, and the phases that are not in it because they are not done. `tier` of the verdict, if there is one."""

    report: str
    missing: tuple[str, ...] = ()
    tier: str | None = None

    @property
    def lacking(self) -> tuple[str, ...]:
        """What keeps it from being a verdict to act on, a sentence each."""
        notes = [f"not done: {', '.join(self.missing)}"] if self.missing else []
        if self.tier != "verdict":
            notes.append(f"its verdict is of tier {self.tier}" if self.tier else "there is no verdict")
        return tuple(notes)


def closing(run: RunView) -> str:
    """How a run ended: the verdict, the speed-up with its interval, the report."""
    verdict = run.verdict
    if verdict is None:
        if (stopped := run.stopped) is not None:
            return f"stopped at the gate of {stopped.phase}: {stopped.headline}; change what it names, or give --new"
        compared = run.phase("compare")
        if compared.state == "done":
            return "\n".join([f"verdict  {compared.headline}", *([f"report   {run.report}"] if run.report else [])])
        return "stopped before the comparison; run the same command to go on"
    lines = [f"verdict  {verdict.outcome} (tier {verdict.tier}): {verdict.reason}"]
    if speed := verdict.speedup:
        span = f"[{speed.low:.3f}, {speed.high:.3f}] at {speed.confidence:.0%} confidence"
        lines.append(f"speed-up {speed.value:.3f}x {span}")
    if verdict.schedule_sentence:
        lines.append(f"schedule {verdict.schedule_sentence}")
    if run.report:
        lines.append(f"report   {run.report}")
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


def comparison_text(plan: ComparisonPlan, decision: Decision, divergence: Sequence[Divergence]) -> str:
    """A decision with what only the samples and the plan know: divergence between arms, and K by load."""
    lines = [decision_text(decision)]
    lines += [f"  answers of {item.arm} at {item.point}: {sentence(item)}" for item in divergence]
    schedule = schedule_sentence(plan, decision)
    return "\n".join([*lines, *([f"  schedule: {schedule}"] if schedule else [])])


def explain(config: Config, run_id: str | None = None) -> Explanation:
    """Why a run (the newest without an id) promoted, kept or stopped. Raises InputError if there is no such run."""
    from draftsmith.loop.driver import results
    from draftsmith.loop.view import run_view

    run = get_run(config, run_id)
    view = run_view(run)
    lines = [f"{phase.phase:8} {phase.state:7} {phase.headline}" for phase in view.phases]
    done = results(run)
    if (
        "compare" not in done or "verdict" not in done["compare"].outputs
    ):  # not compared yet, or what serves is the candidate
        return Explanation(run_id=view.run_id, phases=view.phases, text="\n".join(lines))
    compare = CompareResult.of(done["compare"])
    decision = Decision.model_validate(read_json(Path(compare.verdict)))
    plan = ComparisonPlan.model_validate(read_json(Path(compare.plan)))
    trials = [Trial.model_validate(orjson.loads(line)) for line in read_lines(Path(compare.samples))]
    result = divergences(plan, valid_trials(plan, trials)[0])
    return Explanation(
        run_id=view.run_id,
        phases=view.phases,
        decision=decision,
        schedule=tuple((low, high, k) for low, high, k in propose(plan, decision)),
        divergence=tuple(asdict(divergence) for divergence in result),
        text="\n".join([*lines, "", comparison_text(plan, decision, result)]),
    )


def report(config: Config, run_id: str | None = None) -> Report:
    """Write evidence bundle and report.html of a run from what it has so far. Raises InputError if no phase is done yet."""
    return republish(get_run(config, run_id))


def republish(run: Run) -> Report:
    """See report."""
    from draftsmith.api.runs import context_of
    from draftsmith.loop.driver import results
    from draftsmith.phases.pipeline import JOBS, PIPELINE
    from draftsmith.work.publish import publish

    done = results(run)
    if not done:
        raise InputError(
            f"{run.record.run_id} has nothing to report yet: no phase is done", "let it go on: `draftsmith run`"
        )
    made = publish(JOBS["publish"].plan(context_of(run, done)).plan)
    tier = done["compare"].figures.get("tier") if "compare" in done else None
    missing = tuple(phase for phase in PIPELINE[:-1] if phase not in done)
    return Report(report=made.report, missing=missing, tier=str(tier) if tier else None)
