"""What a report is made from. Every part is optional: a run that ended early, or a comparison alone, has a report too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from draftsmith.contract.context import Context
from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.counters import GpuCounters
from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.contract.verdict import ArmSummary, Decision, PairResult
from draftsmith.report.sol import SolInputs
from draftsmith.verdict.validate import valid_trials


@dataclass(frozen=True)
class PhaseTiming:
    """Wall time of one phase in seconds; `note` is a short remark (reused, resumed...)."""

    phase: str
    wall_s: float
    note: str = ""


@dataclass(frozen=True)
class ReportParts:
    """`hardware`: device, count, driver... by name. `context`: overrides what is derived from the other parts."""

    run_id: str = ""
    family: str = ""
    created_unix_s: float | None = None
    target: TargetFacts | None = None
    profile: WorkloadProfile | None = None
    corpus: CorpusManifest | None = None
    draft: DraftManifest | None = None
    training: Sequence[Mapping[str, Any]] = ()
    plan: ComparisonPlan | None = None
    trials: Sequence[Trial] = ()
    decision: Decision | None = None
    facts: Sequence[tuple[str, EngineFacts]] = ()
    timings: Sequence[PhaseTiming] = ()
    hardware: Mapping[str, str] = field(default_factory=dict)
    context: Context | None = None
    sol: SolInputs | None = None
    counters: GpuCounters | None = None

    @cached_property
    def good_trials(self) -> tuple[Trial, ...]:
        """The trials that the gate used: bad ones are left out here as they were there."""
        if self.plan is not None:
            return valid_trials(self.plan, self.trials)[0]
        return tuple(trial for trial in self.trials if trial.invalid is None)

    @cached_property
    def points(self) -> tuple[OperatingPoint, ...]:
        """The operating points by concurrency, lowest first."""
        return tuple(sorted(self.plan.points, key=lambda p: p.concurrency)) if self.plan else ()

    @cached_property
    def primary(self) -> str | None:
        """Name of the point that decides."""
        if self.decision is not None:
            return self.decision.primary_point
        if self.plan is not None and self.plan.points:
            return next((p.name for p in self.plan.points if p.primary), self.plan.points[0].name)
        return None

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of the plan, in its order."""
        return self.plan.arms if self.plan else ()

    def at(self, point: str | None, traffic: str = "own") -> tuple[Trial, ...]:
        """Usable trials of one point and kind of traffic, in block order."""
        trials = [t for t in self.good_trials if t.point == point and t.traffic == traffic]
        return tuple(sorted(trials, key=lambda t: (t.block, t.order)))

    def summary(self, arm: str | None, point: str | None) -> ArmSummary | None:
        """What the verdict says of one arm at one point."""
        rows = self.decision.arms if self.decision else ()
        return next((row for row in rows if row.arm == arm and row.point == point), None)

    def pair(self, arm: str | None, point: str | None) -> PairResult | None:
        """What the verdict says of one arm against the baseline at one point."""
        rows = self.decision.pairs if self.decision else ()
        return next((row for row in rows if row.candidate == arm and row.point == point), None)

    @cached_property
    def leading(self) -> Arm | None:
        """The arm that the run is about: the winner, else the fastest candidate, else the fastest on trial."""
        if self.plan is None:
            return None
        named = {arm.name: arm for arm in self.plan.arms}
        if self.decision is not None and self.decision.winner in named:
            return named[self.decision.winner]
        others = [arm for arm in self.plan.arms if arm.name != self.plan.baseline]
        pool = [arm for arm in others if arm.role == "candidate"] or others

        def speed(arm: Arm) -> float:
            pair = self.pair(arm.name, self.primary)
            return pair.speedup.value if pair and pair.speedup else 0.0

        return max(pool, key=speed, default=None)
