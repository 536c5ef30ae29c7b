"""Before a plan is frozen: warm up, choose K, look at the noise. Nothing of it decides, and all of it uses other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.compare_config import CompareConfig
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Thresholds, Trial
from draftsmith.corpus.prompts import Prompt
from draftsmith.kit.files import write_json
from draftsmith.store.evidence import require_portable
from draftsmith.store.scrub import to_names
from draftsmith.verdict.arms import may_forget
from draftsmith.verdict.visits import SECOND
from draftsmith.work.compare import warm
from draftsmith.work.compare.ledger import Facts, Ledger
from draftsmith.work.compare.pinning import sampling_seen
from draftsmith.work.compare.reach import Reach
from draftsmith.work.compare.spoiled import Repeats
from draftsmith.work.compare.trial import Slot, Visitor
from draftsmith.work.job import Job

LEAST_ANSWERS = 24  # of an arm over the first blocks: tails and guards say nothing of fewer


def block_size(settings: CompareConfig, prompts: int) -> int:
    """Prompts of one block: as many as asked for, fewer where the first blocks could not have their own otherwise.

    Where there are very few held-out prompts, blocks have to share them.
    """
    blocks = max(1, settings.blocks)
    own, least = -(-prompts // blocks), -(-LEAST_ANSWERS // blocks)
    return min(prompts, settings.prompts, max(own, least))


@dataclass
class Preparation:
    """What is known before the plan. `freeze` looks at running servers and writes the plan down."""

    job: Job[ComparePlan]
    arms: Sequence[Arm]
    points: Sequence[OperatingPoint]
    prompts: Sequence[Prompt]
    tuning: Sequence[Prompt]
    general: Sequence[Prompt]
    hashes: dict[str, Any]
    visitor: Visitor
    repeats: Repeats

    def freeze(self, ledger: Ledger, reach: Reach, facts: Facts, *, together: bool) -> ComparisonPlan:
        """Choose K on the tuning prompts, look at the baseline's noise, fix the plan and say what it will take."""
        keep = self._tune(reach)
        passes = self._pilot(reach)
        plan = ledger.freeze(self._plan(keep, facts, together=together))
        drafts = sum(1 for arm in plan.arms if may_forget(arm))
        forecast = warm.forecast(
            plan,
            passes,
            answer_tokens=self._answer_tokens(),
            general=len(self.general) * (drafts + 1) if drafts else 0,
            start_s=reach.start_s,
        )
        write_json(ledger.forecast_file, forecast.record(plan.thresholds))
        self.job.say(forecast.sentence(plan.thresholds))
        return plan

    @property
    def _few(self) -> Sequence[Prompt]:
        return (self.tuning or self.prompts)[: warm.WARM_PROMPTS]

    def _tune(self, reach: Reach) -> set[str]:
        """Of arms that differ in K alone, those that are fastest at some operating point, on the tuning prompts."""
        keep = {arm.name for arm in self.arms}
        groups = warm.families(self.arms) if self.tuning else []
        points = [p for p in self.points if not p.open_loop] or [warm.closed(self.points[0])]
        table: dict[str, dict[str, float]] = {}
        rivals = [arm for group in groups for arm in group]
        for index, arm in enumerate(rivals):
            self.job.progress("choosing K", index, len(rivals), "arms", arm.name)
            with reach(arm.name) as endpoint:
                slot = Slot("tuning", 0, index, arm.name, "tuning")
                for point in points:
                    trial, _ = self.visitor.measure(endpoint, self.tuning, point, slot)
                    table.setdefault(point.name, {})[arm.name] = warm.median_tpot(trial)
        for group in groups:
            names = {arm.name for arm in group}
            best = {min(names, key=lambda name: (row[name], name)) for row in table.values()}
            keep -= names - best
        if table:
            first = {"median_tpot_s": table[points[0].name], "point": points[0].name}
            write_json(self.job.workdir / "tuning.json", first | {"by_point": table})
        return keep

    def _pilot(self, reach: Reach) -> list[Trial]:
        """A few passes over one server of the baseline: how far it differs from itself, and what else the machine does."""
        baseline = self.job.plan.baseline
        point = next((p for p in self.points if p.primary), self.points[0])
        short = warm.closed(point, max_tokens=warm.PILOT_TOKENS)
        passes = []
        with reach(baseline) as endpoint:
            for number in range(warm.PILOT_PASSES):
                self.job.progress("looking at the noise", number, warm.PILOT_PASSES, "passes", baseline)
                slot = Slot("pilot", 0, number, baseline, "tuning")
                trial, _ = self.visitor.measure(endpoint, self._few, short, slot)
                self.repeats.remember(trial.contention)
                passes.append(trial)
        return passes

    def _answer_tokens(self) -> float:
        """How long an answer is likely to be: as in the traffic, or the limit."""
        point = next((p for p in self.points if p.primary), self.points[0])
        limits = [min(p.max_tokens, point.max_tokens or p.max_tokens) for p in self.prompts]
        mean = sum(limits) / len(limits)
        return min(mean, point.osl_p50) if point.osl_p50 else mean

    def _deciding(self) -> tuple[str, ...]:
        """Points that decide together: those asked for and the primary one."""
        configured = self.job.plan.config.compare.deciding
        if not configured:
            return ()
        names = [point.name for point in self.points]
        wanted = {
            *(names if "all" in configured else configured),
            *(point.name for point in self.points if point.primary),
        }
        return tuple(name for name in names if name in wanted)

    def _plan(self, keep: set[str], facts: Facts, *, together: bool) -> ComparisonPlan:
        request = self.job.plan
        compare = request.config.compare
        caching = any(fact.prefix_caching is not False for _, fact in facts)
        engine = next((fact for _, fact in facts if fact.version), None)
        own = {engine.engine: engine.version or ""} if engine else {}
        plan = ComparisonPlan(
            schema=SECOND,
            arms=tuple(portable(arm, request.names) for arm in self.arms if arm.name in keep),
            baseline=request.baseline,
            points=tuple(self.points),
            n_prompts=len(self.prompts),
            thresholds=Thresholds.model_validate(
                compare.thresholds.model_dump() | {"min_blocks": max(compare.blocks, 1)}
            ),
            cache_regime="warm" if caching else "cold",
            restarts=compare.restart_every != 0 or not together,
            resident=together,
            primary=compare.primary,
            slo_ttft_s=compare.slo_ttft_s,
            slo_tpot_s=compare.slo_tpot_s,
            block_prompts=block_size(compare, len(self.prompts)),
            deciding=self._deciding(),
            visit_prompts=compare.visit_prompts if together else None,
            contention=compare.contention,
            sampling_seen=sampling_seen(self.prompts, self.points[0]),
            seed=request.config.corpus.seed,
            versions=own | request.versions,
            **self.hashes,
        )
        require_portable(plan, request.names)
        return plan


def portable(arm: Arm, names: dict[str, str]) -> Arm:
    """The arm with names in place of this machine's paths."""
    return Arm.model_validate(to_names(arm.model_dump(mode="json"), names))


def settings_sha256(request: ComparePlan, arms: Sequence[Arm], points: Sequence[OperatingPoint]) -> str:
    """Identity of what decides how servers are started and asked, as far as the frozen plan does not spell it out."""
    config = request.config
    settings = {
        "engine": config.engine.model_dump(mode="json", exclude_defaults=True, exclude={"start_timeout_s"}),
        "compare": config.compare.model_dump(mode="json", exclude_defaults=True, exclude={"dcgm_url", "api_key_env"}),
        "arms": [arm.model_dump(mode="json", exclude_defaults=True) for arm in arms],
        "points": [point.model_dump(mode="json", exclude_defaults=True) for point in points],
    }
    return digest(settings | {"target": request.target, "baseline": request.baseline})
