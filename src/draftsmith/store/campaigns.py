"""The journal of campaigns: every comparison that was begun in a workspace, in a hash chain, whether it ended or not.

A line is written when a plan is frozen and another one when its campaign has its answer. The plan names the line before its own,
so that a campaign cannot be put in or taken out afterwards without another plan, and so other trials. Lines hold hashes and
times: no names, no prompts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen, canonical, digest
from draftsmith.contract.errors import EvidenceError
from draftsmith.contract.measure import ComparisonPlan, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import append_line, read_lines, write_atomic
from draftsmith.kit.lock import held

CAMPAIGNS = "campaigns.jsonl"
FIRST = "0" * 64
WAIT_S = 60.0
SLACK_S = 60.0  # of a clock's correction


class Campaign(Frozen):
    """One line. `question_sha256` is the same for campaigns that compare the same arms at the same points."""

    event: Literal["begun", "ended"]
    unix_s: float
    plan_sha256: str
    question_sha256: str
    outcome: str | None = None
    samples_sha256: str | None = None
    previous_sha256: str = Field(description="sha256 of the line before this one; zeros for the first")


def question(plan: ComparisonPlan) -> str:
    """What is compared, whatever the prompts, thresholds and times."""
    arms = [(a.name, a.role, a.spec_config, a.flags, a.draft_sha256, a.command, a.engine) for a in plan.arms]
    points = [point.model_dump(mode="json", exclude={"arrivals_s"}) for point in plan.points]
    return digest({"arms": arms, "points": points, "baseline": plan.baseline, "primary": plan.primary})


def begin(journal: Path, plan: ComparisonPlan) -> ComparisonPlan:
    """Stamp a plan with the time and the journal's last line, and write its own line. Returns the plan to freeze."""
    with held(_lock(journal), WAIT_S):
        last = _last(journal)
        now = time.time()
        frozen = plan.model_copy(update={"frozen_unix_s": now, "journal_sha256": last})
        _append(journal, frozen, "begun", now, last)
    return frozen


def end(journal: Path, plan: ComparisonPlan, decision: Decision) -> None:
    """Write that a campaign has its answer; nothing if the same answer stands there already."""
    with held(_lock(journal), WAIT_S):
        lines = [line for line in read(journal) if line.event == "ended" and line.plan_sha256 == digest(plan)]
        if lines and (lines[-1].outcome, lines[-1].samples_sha256) == (decision.outcome, decision.samples_sha256):
            return
        _append(journal, plan, "ended", time.time(), _last(journal), decision)


def read(journal: Path) -> list[Campaign]:
    """Every line; none if there is no journal. Raises EvidenceError for a line that is torn or none."""
    if not journal.is_file():
        return []
    lines = []
    for number, line in enumerate(read_lines(journal), start=1):
        try:
            lines.append(Campaign.model_validate(orjson.loads(line)))
        except (ValueError, ValidationError):
            raise EvidenceError(
                f"{journal.name} line {number} is torn or none of a journal", "restore it from a copy"
            ) from None
    return lines


def copy(journal: Path, to: Path) -> None:
    """The journal as it is now, beside the comparison that it goes with."""
    write_atomic(to, "".join(canonical(line) + "\n" for line in read(journal)))


def faults(plan: ComparisonPlan, trials: Sequence[Trial], decision: Decision, lines: Sequence[Campaign]) -> list[str]:
    """What is wrong with a plan's time and place among the campaigns. Plans of before there was a journal have neither."""
    if plan.journal_sha256 is None or plan.frozen_unix_s is None:
        return []
    faults = []
    first = min((t.started_unix_s for t in trials), default=plan.frozen_unix_s)
    if first < plan.frozen_unix_s - SLACK_S:
        faults.append(f"plan.json was frozen {plan.frozen_unix_s - first:.0f} s after the first trial began")
    if not lines:
        return [*faults, f"{CAMPAIGNS} is missing: the plan names its place among the campaigns that were begun"]
    last = FIRST
    for number, line in enumerate(lines, start=1):
        if line.previous_sha256 != last:
            faults.append(f"{CAMPAIGNS} line {number} does not follow the line before it: the chain is broken")
        last = digest(line)
    own = digest(plan)
    begun = [line for line in lines if line.plan_sha256 == own and line.event == "begun"]
    if len(begun) != 1:
        return [*faults, f"{CAMPAIGNS} says {len(begun)} times that this campaign was begun, not once"]
    if begun[0].previous_sha256 != plan.journal_sha256 or begun[0].unix_s != plan.frozen_unix_s:
        faults.append(f"{CAMPAIGNS} gives this campaign another place or time than plan.json")
    if begun[0].question_sha256 != question(plan):
        faults.append(f"{CAMPAIGNS} says that this campaign compared something else")
    ended = [line for line in lines if line.plan_sha256 == own and line.event == "ended"]
    recorded = (decision.outcome, decision.samples_sha256)
    if ended and (ended[-1].outcome, ended[-1].samples_sha256) != recorded:
        faults.append(f"{CAMPAIGNS} says that this campaign ended as {ended[-1].outcome}, or with other samples")
    return faults


def outcomes(plan: ComparisonPlan, lines: Sequence[Campaign]) -> dict[str, int]:
    """How the campaigns of the same question ended, this one among them; `unfinished` for those that never did."""
    wanted_question = question(plan)
    ends = {line.plan_sha256: line.outcome or "unfinished" for line in lines if line.event == "ended"}
    begun = {
        line.plan_sha256: None for line in lines if line.event == "begun" and line.question_sha256 == wanted_question
    }
    return dict(sorted(Counter(ends.get(sha, "unfinished") for sha in begun).items()))


def _last(journal: Path) -> str:
    lines = read(journal)
    return digest(lines[-1]) if lines else FIRST


def _append(
    journal: Path,
    plan: ComparisonPlan,
    event: Literal["begun", "ended"],
    unix_s: float,
    last: str,
    decision: Decision | None = None,
) -> None:
    line = Campaign(
        event=event,
        unix_s=unix_s,
        plan_sha256=digest(plan),
        question_sha256=question(plan),
        outcome=decision.outcome if decision else None,
        samples_sha256=decision.samples_sha256 if decision else None,
        previous_sha256=last,
    )
    append_line(journal, canonical(line))


def _lock(journal: Path) -> Path:
    return journal.with_name(f".{journal.name}.lock")
