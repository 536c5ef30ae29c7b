"""The comparison, from its job plan to a decision: start the servers, freeze the plan, measure block by block, decide.

Every start of the servers is a session. The first one also prepares: it warms up, chooses K and looks at the noise. A later
one is made when the decision needs another start, or when a server died.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.contract.errors import EngineLostError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Arm, ComparisonPlan
from draftsmith.contract.verdict import Decision
from draftsmith.store.campaigns import CAMPAIGNS
from draftsmith.verdict.arms import has_draft
from draftsmith.verdict.decide import decide, primary_point
from draftsmith.verdict.samples import bundle_digest
from draftsmith.verdict.validate import inspect_trials
from draftsmith.verdict.visits import is_second
from draftsmith.work.compare import loaded, warm
from draftsmith.work.compare.canary_fleet import CanaryFleet
from draftsmith.work.compare.fleet import Fleet, Servers
from draftsmith.work.compare.ledger import Ledger, require_same
from draftsmith.work.compare.measured import GENERAL_PASSES, Measured
from draftsmith.work.compare.pinning import pin_points, pin_prompts, require_apart, with_weights
from draftsmith.work.compare.preparing import Preparation, block_size, settings_sha256
from draftsmith.work.compare.reach import Alone, Reach, Together
from draftsmith.work.compare.spoiled import Repeats
from draftsmith.work.compare.subjects import subjects
from draftsmith.work.compare.trial import Endpoint, Slot, Visitor
from draftsmith.work.job import Job

DEATHS = 1  # of servers that a campaign survives: a second one is no accident


class Campaign:
    """One comparison, from its job plan to a decision."""

    def __init__(self, job: Job[ComparePlan]) -> None:
        self.job = job
        self.config = job.plan.config
        self.arms = [with_weights(arm) for arm in job.plan.arms]
        beside = job.workdir.parent / f".draftsmith-{CAMPAIGNS}"
        self.ledger = Ledger(job.workdir, Path(job.plan.journal) if job.plan.journal else beside)
        self.pinned = pin_prompts(job)
        self.prompts, self.tuning = self.pinned["own"].prompts, self.pinned["tuning"].prompts
        require_apart(self.arms, (*self.prompts, *self.tuning))
        plan = self.ledger.plan
        size = (plan.block_prompts or plan.n_prompts) if plan else block_size(self.config.compare, len(self.prompts))
        self.points = pin_points(job, size)
        self.engine = wiring.engine(self.config, Path(job.plan.registry))
        self.fleet = self._fleet()
        self.visitor = Visitor(self.engine, self.config.compare.dcgm_url)
        self.repeats = Repeats(plan.contention if plan else self.config.compare.contention)
        self.deaths = 0

    def _fleet(self) -> Servers:
        """Canaries in a cluster if the plan asks for them, otherwise servers of this job."""
        job = self.job
        if job.plan.canaries:
            return CanaryFleet(job, self.config, job.plan.canaries, self.engine)
        return Fleet(job, self._as_begun(), self.engine, job.plan.target, job.plan.weight_bytes, cwd=job.plan.cwd)

    def _as_begun(self) -> Config:
        """The settings. A comparison that was started without a prefix cache is resumed without one."""
        begun = self.ledger.plan
        if begun is None or begun.cache_regime != "cold" or self.config.engine.prefix_caching is not None:
            return self.config
        engine = self.config.engine.model_copy(update={"prefix_caching": False})
        return self.config.model_copy(update={"engine": engine})

    def run(self) -> tuple[ComparisonPlan, Decision]:
        """Measure until the gate has its answer; returns the plan and the answer, and leaves it in verdict.json."""
        self.fleet.tidy()
        plan = self.ledger.plan
        if plan is not None:
            require_same(plan, self._hashes())
            self.fleet.facts = self.ledger.resume(plan)
            for trial in self.ledger.trials:
                self.repeats.remember(trial.contention)
        decision = self._decision(plan) if plan and self.ledger.blocks() else None
        while plan is None or decision is None or self._unfinished(plan, decision):
            try:
                plan, decision = self._session()
            except EngineLostError as lost:
                self._survive(lost)
                plan = self.ledger.plan
        self.ledger.close(plan, decision)
        return plan, decision

    def _survive(self, lost: EngineLostError) -> None:
        """A server that died is started again once, and its block measured again. Raises `lost` after that."""
        self.deaths += 1
        if self.deaths > DEATHS or self.ledger.plan is None or not self.fleet.restartable(self.arms):
            raise lost
        self.job.say(f"{lost.message}; the servers are started again, and the block is measured again")

    def _hashes(self) -> dict[str, Any]:
        """What the plan holds of all that it does not spell out, by its field."""
        general = self.pinned["general"].prompts
        return {
            "settings_sha256": settings_sha256(self.job.plan, self.arms, self.points),
            "prompts_sha256": self.pinned["own"].sha256,
            "general_prompts_sha256": digest([p.model_dump(mode="json") for p in general]) if general else None,
        }

    def _subjects(self) -> dict[str, Any]:
        """Read once, before the plan is frozen: it can be many gigabytes."""
        plan = self.job.plan
        corpus = None if plan.prompts.get("own") or plan.corpus is None else Path(plan.corpus)
        return subjects(self.ledger.folder, self.prompts, corpus, Path(plan.target) if plan.target else None)

    # -- one start of the servers -----------------------------------------------------------------------------------

    def _session(self) -> tuple[ComparisonPlan, Decision]:
        """Measure as many blocks as one start of the servers may serve, and decide after each.

        Servers that do not fit together are started one after the other, anew for every block.
        """
        plan = self.ledger.plan
        wanted = {arm.name: arm for arm in self.arms if plan is None or arm.name in {a.name for a in plan.arms}}
        together = plan.resident if plan else self.fleet.together(list(wanted.values()))
        if not together:
            alone = Alone(self.fleet, wanted, self._ready_alone)
            plan = plan or self._prepare(alone, together=False)
            self._measured(plan).block(alone, first_of_start=True)
            self.ledger.write_facts(self.fleet.facts)
            return plan, self._decision(plan)
        began = time.monotonic()
        with self.fleet.up(wanted) as endpoints:
            self._ours(*endpoints.values())
            reach = Together(endpoints, time.monotonic() - began)
            if plan is None and (uneven := loaded.uneven_caches(dict(self.fleet.facts))):
                self.job.say(uneven)
            for name, arm in wanted.items():
                self._warm_up(arm, endpoints[name])
            plan = plan or self._prepare(reach, together=True)
            for arm in plan.arms:
                self._try_draft(plan, wanted[arm.name], endpoints[arm.name])
            return plan, self._blocks_of_one_start(plan, reach)

    def _blocks_of_one_start(self, plan: ComparisonPlan, reach: Reach) -> Decision:
        measured, began = self._measured(plan), self.ledger.blocks()
        while True:
            measured.block(reach, first_of_start=self.ledger.blocks() == began)
            self.ledger.write_facts(self.fleet.facts)
            decision = self._decision(plan)
            if not self._unfinished(plan, decision):
                if is_second(plan) and decision.outcome == "WIN" and measured.general_passes() < GENERAL_PASSES:
                    measured.general_again(reach)
                    decision = self._decision(plan)
                return decision
            if self._wants_start(plan, decision, self.ledger.blocks() - began):
                return decision

    def _wants_start(self, plan: ComparisonPlan, decision: Decision, blocks: int) -> bool:
        """Whether the next block needs servers that were started anew: as the error needs, and as often as asked for."""
        every = self.config.compare.restart_every
        if every == 0:
            return False
        wanted = plan.restarts if decision.need is None else decision.need == "start"
        return wanted or (every is not None and blocks >= every)

    def _unfinished(self, plan: ComparisonPlan, decision: Decision) -> bool:
        limits, blocks = plan.thresholds, self.ledger.blocks()
        if decision.need is not None:
            return decision.need != "done"
        at_primary = [t for t in inspect_trials(plan, self.ledger.trials) if t.point == decision.primary_point]
        # Blocks that were lost are measured again, as often as the gate allows.
        spoiled = {t.block for t in at_primary if t.invalid and t.traffic == "own"} if not is_second(plan) else set()
        preset = max(limits.min_blocks, limits.max_blocks) + len(spoiled)
        return blocks < limits.min_blocks or (decision.need_more_blocks and blocks < preset)

    def _prepare(self, reach: Reach, *, together: bool) -> ComparisonPlan:
        preparation = Preparation(
            self.job,
            self.arms,
            self.points,
            self.prompts,
            self.tuning,
            self.pinned["general"].prompts,
            self._hashes() | self._subjects(),
            self.visitor,
            self.repeats,
        )
        return preparation.freeze(self.ledger, reach, self.fleet.facts, together=together)

    def _measured(self, plan: ComparisonPlan) -> Measured:
        general = self.pinned["general"].prompts
        return Measured(self.job, plan, self.ledger, self.visitor, self.repeats, self.prompts, general)

    def _decision(self, plan: ComparisonPlan) -> Decision:
        trials = self.ledger.trials
        return decide(plan, trials, self.fleet.facts, samples_sha256=bundle_digest(trials))

    # -- a server that is ready -------------------------------------------------------------------------------------

    def _ready_alone(self, arm: Arm, endpoint: Endpoint) -> None:
        """Of servers that are up one at a time."""
        self._ours(endpoint)
        self._warm_up(arm, endpoint)
        if self.ledger.plan is not None:
            self._try_draft(self.ledger.plan, arm, endpoint)

    def _ours(self, *endpoints: Endpoint) -> None:
        """Whose use of the cores is not contention. Not known if one server's processes are not."""
        known = [endpoint.processes for endpoint in endpoints]
        self.visitor.own_processes = (
            None if None in known else [process for processes in known for process in processes or ()]
        )

    def _warm_up(self, arm: Arm, endpoint: Endpoint) -> None:
        """Short passes over a few prompts until times hold still."""
        number = [other.name for other in self.arms].index(arm.name)
        few = (self.tuning or self.prompts)[: warm.WARM_PROMPTS]
        primary = next((p for p in self.points if p.primary), self.points[0])
        point, slot = warm.closed(primary, max_tokens=warm.WARM_TOKENS), Slot("warm", 0, number, arm.name, "tuning")
        self.job.progress("warming up", number, len(self.arms), "arms", arm.name)
        warm.steady(lambda: self.visitor.measure(endpoint, few, point, slot)[0])
        plan = self.ledger.plan
        if plan and not is_second(plan) and plan.cache_regime == "warm":
            self.visitor.measure(endpoint, self.prompts, warm.closed(primary_point(plan)), slot)

    def _try_draft(self, plan: ComparisonPlan, arm: Arm, endpoint: Endpoint) -> None:
        """Before anything is measured: did the engine load the draft as asked, and is it accepted at all?

        A draft that was measured needs no such test after a restart.
        """
        if arm.role == "candidate" and arm.spec_config is not None and has_draft(arm) and not self.ledger.trials:
            self._check_loaded(plan, arm)
            self._smoke(arm.name, endpoint)

    def _check_loaded(self, plan: ComparisonPlan, arm: Arm) -> None:
        """Compare what the engine parsed with the arm's speculative config and with the baseline."""
        facts = dict(self.fleet.facts)  # of the latest start of each arm
        baseline = facts.get(plan.baseline)
        if arm.command is not None or arm.endpoint is not None or arm.name not in facts or baseline is None:
            return
        loaded.require_as_asked(arm, facts[arm.name])
        if differs := loaded.differences(baseline, facts[arm.name]):
            self.job.say(f"the engine's own configuration of {arm.name} is not that of {plan.baseline}: {differs}")

    def _smoke(self, name: str, endpoint: Endpoint) -> None:
        """A few short answers through a draft."""
        self.job.progress("smoke test", 0, warm.SMOKE_PROMPTS, "prompts", name)
        prompts = (*self.tuning, *self.prompts)[: warm.SMOKE_PROMPTS]
        few = min(8, self.config.engine.max_num_seqs)
        point = warm.closed(self.points[0], concurrency=few, max_tokens=warm.SMOKE_TOKENS)
        trial, _ = self.visitor.measure(endpoint, prompts, point, Slot("smoke", 0, 0, name, "tuning"))
        warm.smoke_test(name, trial)
