"""Job: the comparison. Pin, choose K, look at the noise, freeze, warm up, measure interleaved blocks, decide after each.

Every finished trial is one line of samples.jsonl. After a crash the finished blocks are kept, an unfinished one is
measured again whole: its servers are gone, and a block compares servers of one start.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from draftsmith import wiring
from draftsmith.contract.base import canonical, digest
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.corpus.prompts import Prompt
from draftsmith.kit.files import append_line, read_json, read_lines, write_atomic, write_json
from draftsmith.report.parts import ReportParts
from draftsmith.store.evidence import require_portable
from draftsmith.store.scrub import to_names
from draftsmith.verdict.arms import has_draft, may_forget
from draftsmith.verdict.decide import decide, primary_point
from draftsmith.verdict.samples import bundle_digest
from draftsmith.verdict.schedule import propose, schedule_sentence
from draftsmith.verdict.validate import inspect_trials
from draftsmith.work.compare import loaded, warm
from draftsmith.work.compare.canary_fleet import CanaryFleet
from draftsmith.work.compare.fleet import Fleet, Servers
from draftsmith.work.compare.pinning import pin_points, pin_prompts, sampling_seen, with_weights
from draftsmith.work.compare.reach import Alone, Reach, Together
from draftsmith.work.compare.trial import Answers, Endpoint, Slot, Traffic, measure_answers, with_divergence
from draftsmith.work.job import Job, Outputs

Task = tuple[OperatingPoint, Traffic]


def body(job: Job) -> Outputs:
    """Run the campaign in the plan."""
    campaign = Campaign(job)
    decision = campaign.run()
    chosen = next((arm for arm in campaign.arms if arm.name == decision.winner), None)
    forecast = campaign.forecast_file
    told = ReportParts(plan=campaign.plan, decision=decision)
    pair = told.pair(told.leading.name if told.leading else None, decision.primary_point)
    figures = {
        "outcome": decision.outcome,
        "tier": decision.tier,
        "reason": decision.reason,
        "winner": decision.winner,
        "speedup": pair.speedup.model_dump() if pair and pair.speedup else None,
        "acceptance_length": {a.arm: a.acceptance_length for a in decision.arms if a.acceptance_length},
        "median_tpot_ms": {f"{a.arm}@{a.point}": a.median_tpot_s * 1000 for a in decision.arms if a.median_tpot_s},
        "schedule": propose(campaign.plan, decision),
        "schedule_sentence": schedule_sentence(campaign.plan, decision),
        "forecast": read_json(forecast)["sentence"] if forecast.exists() else None,
    }
    outputs = {
        "plan": str(campaign.plan_file),
        "samples": str(campaign.samples_file),
        "facts": str(campaign.facts_file),
        "verdict": str(campaign.verdict_file),
        "winner_config": chosen.spec_config if chosen else None,
        "winner_sha256": chosen.draft_sha256 if chosen else None,
    }
    if campaign.fleet.served:
        outputs["served"] = campaign.fleet.served
    return outputs, figures


class Campaign:
    """One comparison, from its job plan to a decision."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config = Config.model_validate(job.plan["config"])
        self.arms = [with_weights(Arm.model_validate(arm)) for arm in job.plan["arms"]]
        pinned = pin_prompts(job, self.config)
        self.prompts, self.tuning, self.general = pinned["own"], pinned["tuning"].prompts, pinned["general"].prompts
        self.points = pin_points(job, len(self.prompts.prompts))
        self.names: dict[str, str] = job.plan.get("names", {})
        self.engine = wiring.engine(self.config, Path(job.plan["registry"]))
        self.fleet = self._fleet()
        out = job.workdir
        self.plan_file, self.samples_file = out / "plan-frozen.json", out / "samples.jsonl"
        self.facts_file, self.verdict_file = out / "facts.json", out / "verdict.json"
        self.forecast_file = out / "forecast.json"
        self.plan: ComparisonPlan
        self.trials: list[Trial] = []

    def _fleet(self) -> Servers:
        """Canaries in a cluster if the plan asks for them, otherwise servers of this job."""
        job = self.job
        if job.plan.get("canaries"):
            return CanaryFleet(job, self.config, self.engine)
        return Fleet(job, self.config, self.engine, job.plan["target"], job.plan.get("weight_bytes", 0))

    def run(self) -> Decision:
        """Measure until the gate has its answer; returns it and leaves it in verdict.json."""
        self.fleet.tidy()
        self._resume()
        decision = self._decision() if self.trials else None
        while decision is None or self._unfinished(decision):
            decision = self._session()
        write_json(self.verdict_file, decision)
        return decision

    # -- what survives a crash ------------------------------------------------------------------------------------

    def _resume(self) -> None:
        if not self.plan_file.exists():
            return
        self.plan = ComparisonPlan.model_validate(read_json(self.plan_file))
        self._require_same()
        sha = digest(self.plan)
        read = [Trial.model_validate(orjson.loads(line)) for line in read_lines(self.samples_file)]
        per_block = sum(len(tasks) for _, tasks in self._visits(0))
        sizes: dict[int, int] = {}
        for trial in read:
            sizes[trial.block] = sizes.get(trial.block, 0) + 1
        self.trials = [t for t in read if t.plan_sha256 == sha and sizes[t.block] >= per_block]
        write_atomic(self.samples_file, "".join(canonical_line(t) for t in self.trials))
        if self.facts_file.exists():
            self.fleet.facts = [(arm, EngineFacts.model_validate(f)) for arm, f in read_json(self.facts_file)]

    def _require_same(self) -> None:
        """Blocks under other settings, other weights or other prompts would be averaged with those that are there."""
        asked = self.plan.settings_sha256, self.plan.prompts_sha256, self.plan.general_prompts_sha256
        now = self._settings_sha256(), self.prompts.sha256, self._general_sha256()
        for what, before, after in zip(("settings", "prompts", "general prompts"), asked, now, strict=True):
            if before not in (None, after):
                raise InputError(
                    f"this comparison was begun with other {what}",
                    "go on with those it was begun with, or name another folder (in a run: --start-phase compare)",
                )

    def _record(self, trial: Trial) -> None:
        append_line(self.samples_file, canonical_line(trial).rstrip("\n"))
        self.trials.append(trial)

    # -- the campaign ---------------------------------------------------------------------------------------------

    def _unfinished(self, decision: Decision) -> bool:
        limits = self.plan.thresholds
        here = [t for t in inspect_trials(self.plan, self.trials) if t.point == decision.primary_point]
        spoiled = {
            t.block for t in here if t.invalid and t.traffic == "own"
        }  # measured again, as often as the gate allows
        preset = max(limits.min_blocks, limits.max_blocks) + len(spoiled)
        return self._blocks() < limits.min_blocks or (decision.need_more_blocks and self._blocks() < preset)

    def _session(self) -> Decision:
        """Measure as many blocks as one start of the servers may serve, and decide after each.

        Servers that do not fit together are started one after the other, anew for every block.
        """
        frozen = {arm.name for arm in self.plan.arms} if hasattr(self, "plan") else None
        wanted = {arm.name: arm for arm in self.arms if frozen is None or arm.name in frozen}
        together = self.plan.resident if frozen else self.fleet.together(list(wanted.values()))
        if not together:
            alone = Alone(self.fleet, wanted, self._warm_up)
            if not frozen:
                self._prepare(alone, together=False)
            self._block(alone)
            return self._decision()
        began = time.monotonic()
        with self.fleet.up(wanted) as endpoints:
            reach = Together(endpoints, time.monotonic() - began)
            if not frozen:
                self._prepare(reach, together=True)
            for arm in self.plan.arms:
                self._warm_up(arm, endpoints[arm.name])
            return self._blocks_of_one_start(reach)

    def _blocks_of_one_start(self, reach: Reach) -> Decision:
        restart = self.config.compare.restart_every
        began = self._blocks()
        while True:
            self._block(reach)
            decision = self._decision()
            if not self._unfinished(decision) or (restart and self._blocks() - began >= restart):
                return decision

    # -- before the plan is frozen --------------------------------------------------------------------------------

    def _prepare(self, reach: Reach, *, together: bool) -> None:
        """Choose K on the tuning prompts, look at the baseline's noise, then fix the plan and say what it will take."""
        keep = self._tune(reach)
        baseline: str = self.job.plan["baseline"]
        few = (self.tuning or self.prompts.prompts)[: warm.WARM_PROMPTS]
        point = warm.closed(next((p for p in self.points if p.primary), self.points[0]))
        with reach(baseline) as endpoint:
            self.job.progress("looking at the noise", 0, warm.PILOT_PASSES, "passes", baseline)
            slot = Slot("pilot", 0, 0, baseline, "tuning")
            passes = [self._measure(endpoint, few, point, slot)[0] for _ in range(warm.PILOT_PASSES)]
        self._freeze(keep, together=together)
        general = len(self.general) * len(self._general_arms())
        found = warm.forecast(self.plan, passes[1:], general=general, start_s=reach.start_s)
        write_json(self.forecast_file, found.record(self.plan.thresholds))
        self.job.say(found.sentence(self.plan.thresholds))

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
                self._measure(endpoint, self.tuning[: warm.WARM_PROMPTS], points[0], slot)
                for point in points:
                    trial, _ = self._measure(endpoint, self.tuning, point, slot)
                    table.setdefault(point.name, {})[arm.name] = warm.median_tpot(trial)
        for group in groups:
            names = {arm.name for arm in group}
            best = {min(names, key=lambda name: (row[name], name)) for row in table.values()}
            keep -= names - best
        if table:
            first = {"median_tpot_s": table[points[0].name], "point": points[0].name}
            write_json(self.job.workdir / "tuning.json", first | {"by_point": table})
        return keep

    def _freeze(self, keep: set[str], *, together: bool) -> None:
        compare = self.config.compare
        caching = any(fact.prefix_caching is not False for _, fact in self.fleet.facts)
        versions: dict[str, str] = dict(self.job.plan.get("versions", {}))
        told = next((fact for _, fact in self.fleet.facts if fact.version), None)
        self.plan = ComparisonPlan(
            arms=tuple(self._portable(arm) for arm in self.arms if arm.name in keep),
            baseline=self.job.plan["baseline"],
            points=tuple(self.points),
            prompts_sha256=self.prompts.sha256,
            n_prompts=len(self.prompts.prompts),
            general_prompts_sha256=self._general_sha256(),
            thresholds=compare.thresholds.model_copy(update={"min_blocks": max(compare.blocks, 1)}),
            cache_regime="warm" if caching else "cold",
            restarts=bool(compare.restart_every) or not together,
            resident=together,
            sampling_seen=sampling_seen(self.prompts.prompts, self.points[0]),
            seed=self.config.corpus.seed,
            settings_sha256=self._settings_sha256(),
            versions={told.engine: told.version or ""} | versions if told else versions,
        )
        require_portable(self.plan, self.names)
        write_json(self.plan_file, self.plan)

    def _general_sha256(self) -> str | None:
        return digest([p.model_dump(mode="json") for p in self.general]) if self.general else None

    def _settings_sha256(self) -> str:
        """Identity of what decides how servers are started and asked, as far as the frozen plan does not spell it out."""
        config, kept = self.config, {"target": self.job.plan["target"], "baseline": self.job.plan["baseline"]}
        settings = {
            "engine": config.engine.model_dump(mode="json", exclude_defaults=True, exclude={"start_timeout_s"}),
            "compare": config.compare.model_dump(
                mode="json", exclude_defaults=True, exclude={"dcgm_url", "api_key_env"}
            ),
            "arms": [arm.model_dump(mode="json", exclude_defaults=True) for arm in self.arms],
            "points": [point.model_dump(mode="json", exclude_defaults=True) for point in self.points],
        }
        return digest(settings | kept)

    def _portable(self, arm: Arm) -> Arm:
        return Arm.model_validate(to_names(arm.model_dump(mode="json"), self.names))

    # -- blocks ---------------------------------------------------------------------------------------------------

    def _warm_up(self, arm: Arm, endpoint: Endpoint) -> None:
        """Passes over a few prompts until times hold still; with a prefix cache also one over all; then the smoke test.

        Before the plan is fixed, passes over other prompts warm up what is looked at. A draft that was measured needs no
        smoke test after a restart.
        """
        if not hasattr(self, "plan"):
            return
        number = [other.name for other in self.plan.arms].index(arm.name)
        few = (self.tuning or self.prompts.prompts)[: warm.WARM_PROMPTS]
        point, slot = warm.closed(primary_point(self.plan)), Slot("warm", 0, number, arm.name, "tuning")
        self.job.progress("warming up", number, len(self.plan.arms), "arms", arm.name)
        warm.steady(lambda: self._measure(endpoint, few, point, slot)[0])
        if self.plan.cache_regime == "warm":
            self._measure(endpoint, self.prompts.prompts, point, slot)
        if arm.role == "candidate" and arm.spec_config is not None and has_draft(arm) and not self.trials:
            self._check_loaded(arm.name)
            self._smoke(arm.name, endpoint)

    def _check_loaded(self, name: str) -> None:
        """What the engine parsed, against what was asked and against the baseline: said before anything is measured."""
        facts = dict(self.fleet.facts)  # of the latest start of each arm
        arm = next(arm for arm in self.arms if arm.name == name)
        baseline = facts.get(self.plan.baseline)
        if arm.command is not None or arm.endpoint is not None or name not in facts or baseline is None:
            return
        loaded.require_as_asked(arm, facts[name])
        if differs := loaded.differences(baseline, facts[name]):
            self.job.say(f"the engine's own configuration of {name} is not that of {self.plan.baseline}: {differs}")

    def _smoke(self, name: str, endpoint: Endpoint) -> None:
        """32 short answers through a draft, before anything is measured: is it accepted at all?"""
        self.job.progress("smoke test", 0, warm.SMOKE_PROMPTS, "prompts", name)
        prompts = (*self.tuning, *self.prompts.prompts)[: warm.SMOKE_PROMPTS]
        few = min(8, self.config.engine.max_num_seqs)
        point = warm.closed(self.points[0], concurrency=few, max_tokens=warm.SMOKE_TOKENS)
        trial, _ = self._measure(endpoint, prompts, point, Slot("smoke", 0, 0, name, "tuning"))
        warm.smoke_test(name, trial)

    def _visits(self, block: int) -> list[tuple[str, list[Task]]]:
        """Which arm is measured when, and on what: every arm once at every point, in ABBA order over blocks, the baseline
        once more as its own twin. Servers that are up one at a time do all their points in one visit.
        """
        baseline, primary = self.plan.baseline, primary_point(self.plan)
        order: list[tuple[str, Traffic]] = [(arm.name, "own") for arm in self.plan.arms]
        order.append((baseline, "aa"))
        if block % 2:
            order.reverse()
        general = set(self._general_arms()) if self.general else set()
        if not self.plan.resident:
            return [
                (
                    name,
                    [(point, kind) for point in self.plan.points]
                    + ([(primary, "general")] if kind == "own" and name in general else []),
                )
                for name, kind in order
            ]
        visits: list[tuple[str, list[Task]]] = []
        for point in self.plan.points:
            visits += [(name, [(point, kind)]) for name, kind in order]
            if point.name == primary.name:
                visits += [(name, [(point, "general")]) for name in self._general_arms() if name in general]
        return visits

    def _block(self, reach: Reach) -> None:
        """Measure one block whole, then write it down."""
        block, sha, limit = self._blocks(), digest(self.plan), self.plan.thresholds.max_blocks
        visits = self._visits(block)
        total = sum(len(tasks) for _, tasks in visits)
        done: list[tuple[Trial, Answers]] = []
        for name, tasks in visits:
            with reach(name) as endpoint:
                for point, traffic in tasks:
                    note = f"block {block + 1} (at most {limit}), {name} at {point.name}, {traffic}"
                    self.job.progress("measuring", len(done), total, "trials", note)
                    general = traffic == "general"
                    prompts = self.general if general else self.prompts.prompts
                    there = warm.closed(point) if general else point
                    done.append(self._measure(endpoint, prompts, there, Slot(sha, block, len(done), name, traffic)))
        self._write_facts()
        for trial in with_divergence(done, self.plan.baseline):
            self._record(trial)

    def _write_facts(self) -> None:
        write_json(self.facts_file, [[arm, facts.model_dump(mode="json")] for arm, facts in self.fleet.facts])

    def _general_arms(self) -> list[str]:
        names = [arm.name for arm in self.plan.arms if may_forget(arm)]
        return [self.plan.baseline, *names] if names else []

    def _blocks(self) -> int:
        return len({trial.block for trial in self.trials})

    def _measure(
        self, endpoint: Endpoint, prompts: Sequence[Prompt], point: OperatingPoint, slot: Slot
    ) -> tuple[Trial, Answers]:
        return measure_answers(self.engine, endpoint, prompts, point, slot, self.config.compare.dcgm_url)

    def _decision(self) -> Decision:
        return decide(self.plan, self.trials, self.fleet.facts, samples_sha256=bundle_digest(self.trials))


def canonical_line(trial: Trial) -> str:
    """One trial as a line of samples.jsonl."""
    return canonical(trial.model_dump(mode="json", by_alias=True)) + "\n"
