"""What a comparison leaves in its folder, and what of it a later start may go on with.

A block is written when it is whole: it compares servers of one start, and those of a killed job are gone.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from draftsmith.contract.base import canonical, digest
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import append_line, read_json, read_lines, write_atomic, write_json
from draftsmith.store import campaigns, chain
from draftsmith.verdict.visits import Visit, visits
from draftsmith.work.compare import veil

Facts = list[tuple[str, EngineFacts]]
SAME = {
    "settings": "settings_sha256",
    "prompts": "prompts_sha256",
    "general prompts": "general_prompts_sha256",
}


class Ledger:
    """The plan, the trials in their order, and the engines' facts. `journal`: where begun campaigns are written down."""

    def __init__(self, folder: Path, journal: Path | None = None) -> None:
        self.folder, self.journal = folder, journal
        self.campaigns_file = folder / campaigns.CAMPAIGNS
        self.plan_file, self.samples_file = folder / "plan-frozen.json", folder / "samples.jsonl"
        self.facts_file, self.verdict_file = folder / "facts.json", folder / "verdict.json"
        self.forecast_file = folder / "forecast.json"
        self.plan = ComparisonPlan.model_validate(read_json(self.plan_file)) if self.plan_file.exists() else None
        self.trials: list[Trial] = []
        self._key = veil.read_key(folder)

    def freeze(self, plan: ComparisonPlan) -> ComparisonPlan:
        """From here on the plan does not change. It is on record before anything is measured under it."""
        self._key = self._key or veil.new_key(self.folder)
        if self.journal is not None:
            plan = campaigns.begin(self.journal, plan)
            campaigns.copy(self.journal, self.campaigns_file)
        write_json(self.plan_file, plan)
        self.plan = plan
        return plan

    def close(self, plan: ComparisonPlan, decision: Decision) -> None:
        """The campaign has its answer."""
        write_json(self.verdict_file, decision)
        if self.journal is not None and plan.journal_sha256 is not None:
            campaigns.end(self.journal, plan, decision)
            campaigns.copy(self.journal, self.campaigns_file)

    def resume(self, plan: ComparisonPlan) -> Facts:
        """Read back the blocks that are whole; returns what the engines said of their starts."""
        sha = digest(plan)
        read = [Trial.model_validate(orjson.loads(line)) for line in read_lines(self.samples_file)]
        of_plan = [trial for trial in read if trial.plan_sha256 == sha]
        whole = {block for block in {trial.block for trial in of_plan} if is_whole(plan, of_plan, block)}
        kept = [trial for trial in of_plan if trial.block in whole or _went_away(trial)]
        self.trials = chain.linked(sha, kept)
        if self.trials != read:
            write_atomic(self.samples_file, "".join(canonical_line(trial) for trial in self.trials))
        if not self.facts_file.exists():
            return []
        return [(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(self.facts_file)]

    def record(self, trial: Trial) -> None:
        """One more line of samples.jsonl, which names the line before it. Ids and hashes of answers are keyed there."""
        trial = veil.veiled(trial, self._key) if self._key else trial
        previous = chain.link(trial.plan_sha256, self.trials[-1] if self.trials else None)
        trial = trial.model_copy(update={"previous_sha256": previous})
        append_line(self.samples_file, canonical_line(trial).rstrip("\n"))
        self.trials.append(trial)

    def write_facts(self, facts: Facts) -> None:
        """What the engines said, by start."""
        write_json(self.facts_file, [[arm, fact.model_dump(mode="json")] for arm, fact in facts])

    def blocks(self) -> int:
        """Blocks that were measured whole."""
        return len({trial.block for trial in self.trials if not _went_away(trial)})

    def attempts(self, visit: Visit) -> int:
        """How often this visit was tried and its server went away."""
        place = (visit.block, visit.point, visit.arm, visit.traffic, visit.visit)
        return sum((t.block, t.point, t.arm, t.traffic, t.visit) == place for t in self.trials)


def require_same(plan: ComparisonPlan, now: dict[str, str | None]) -> None:
    """Blocks under other settings, other weights or other prompts would be averaged with those that are there.

    `now`: the hashes by the plan's field. Raises InputError naming what is other.
    """
    for key, field in SAME.items():
        if getattr(plan, field) not in (None, now[field]):
            raise InputError(
                f"this comparison was begun with other {key}",
                "go on with those it was begun with, or name another folder (in a run: --start-phase compare)",
            )


def is_whole(plan: ComparisonPlan, trials: list[Trial], block: int) -> bool:
    """Whether every visit of the block to held-out prompts has its line."""
    present = {(t.point, t.arm, t.traffic, t.visit) for t in trials if t.block == block and not _went_away(t)}
    return all((v.point, v.arm, v.traffic, v.visit) in present for v in visits(plan, block))


def canonical_line(trial: Trial) -> str:
    """One trial as a line of samples.jsonl."""
    return canonical(trial.model_dump(mode="json", by_alias=True)) + "\n"


def _went_away(trial: Trial) -> bool:
    """The line that says that a server died in a visit."""
    return trial.invalid is not None and not trial.samples
