"""The frozen plan carried out: one block after the other, visit by visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from draftsmith.contract.base import digest
from draftsmith.contract.errors import EngineLostError
from draftsmith.contract.measure import ComparisonPlan, OperatingPoint, Trial
from draftsmith.corpus.prompts import Prompt
from draftsmith.kit import hardware
from draftsmith.verdict.arms import may_forget
from draftsmith.verdict.validate import inspect_trials
from draftsmith.verdict.visits import General, Visit, is_second, prompts_of_block, visits
from draftsmith.work.compare import warm
from draftsmith.work.compare.ledger import Ledger
from draftsmith.work.compare.memory import Memory
from draftsmith.work.compare.reach import Reach
from draftsmith.work.compare.spoiled import Repeats
from draftsmith.work.compare.trial import Answers, Endpoint, Slot, Visitor, with_divergence
from draftsmith.work.job import Watched

GENERAL_PASSES = 2
Done = list[tuple[Trial, Answers]]


class Measured:
    """Measures blocks and writes them down. `prompts` and `general` are the pinned ones."""

    def __init__(
        self,
        job: Watched,
        plan: ComparisonPlan,
        ledger: Ledger,
        visitor: Visitor,
        repeats: Repeats,
        prompts: Sequence[Prompt],
        general: Sequence[Prompt],
    ) -> None:
        self.job, self.plan, self.ledger, self.visitor, self.repeats = job, plan, ledger, visitor, repeats
        self.prompts, self.general = prompts, general
        self._points = {point.name: point for point in plan.points}
        self._sha = digest(plan)
        self._memory = Memory(visitor.engine)

    def block(self, reach: Reach, *, first_of_start: bool) -> None:
        """Measure one block whole, then write it down. General traffic goes with the first block of a start, twice in all."""
        block = self.ledger.blocks()
        with_general = not is_second(self.plan) or (first_of_start and self.general_passes() < GENERAL_PASSES)
        self._carry_out(reach, visits(self.plan, block, self._general() if with_general else General()))

    def general_again(self, reach: Reach) -> None:
        """Another pass over general traffic, after the last block. Nothing where that block asked it: a prompt counts once."""
        block = self.ledger.blocks() - 1
        before = [trial for trial in self.ledger.trials if trial.block == block]
        if any(trial.traffic == "general" for trial in before):
            return
        visits_again = [v for v in visits(self.plan, block, self._general()) if v.traffic == "general"]
        order = max(trial.order for trial in before) + 1
        self._carry_out(reach, [replace(v, order=order + n) for n, v in enumerate(visits_again)])

    def general_passes(self) -> int:
        """Number of complete passes over general traffic by the baseline."""
        general = self._general()
        if not general.arms or not general.prompts:
            return GENERAL_PASSES
        each = len([v for v in visits(self.plan, 0, general) if v.traffic == "general" and v.arm == self.plan.baseline])
        present = {
            (t.block, t.visit) for t in self.ledger.trials if t.traffic == "general" and t.arm == self.plan.baseline
        }
        return len(present) // each

    def _general(self) -> General:
        names = [arm.name for arm in self.plan.arms if may_forget(arm)]
        return General((self.plan.baseline, *names) if names else (), len(self.general))

    def _carry_out(self, reach: Reach, turns: Sequence[Visit]) -> None:
        done: Done = []
        warmed: set[str] = set()
        for _, together in groupby(turns, key=lambda visit: (visit.arm, visit.traffic == "aa")):
            group = list(together)
            with reach(group[0].server) as endpoint:
                if endpoint.start_id not in warmed:
                    self._fill_cache(endpoint, group[0])
                    warmed.add(endpoint.start_id)
                for visit in group:
                    limit = self.plan.thresholds.max_blocks
                    note = f"block {visit.block + 1} (at most {limit}), {visit.arm} at {visit.point}, {visit.traffic}"
                    self.job.progress("measuring", visit.order - turns[0].order, len(turns), "visits", note)
                    self._visit(endpoint, visit, done)
        for trial in with_divergence(done, self.plan.baseline):
            self.ledger.record(trial)

    def _fill_cache(self, endpoint: Endpoint, visit: Visit) -> None:
        """With a prefix cache, send the block's prompts to every server once before it is measured. Otherwise only the twin would
        find cached prefixes: those of its baseline.
        """
        if self.plan.cache_regime != "warm" or not is_second(self.plan):
            return
        prompts = [self.prompts[place] for place in prompts_of_block(self.plan, visit.block)]
        point = warm.closed(self._points[visit.point], max_tokens=1)
        self.visitor.measure(endpoint, prompts, point, Slot("warm", visit.block, 0, visit.arm, "tuning"))

    def _visit(self, endpoint: Endpoint, visit: Visit, done: Done) -> None:
        """One visit, repeated while it is spoiled and the rule allows it. What was spoiled is recorded with its reason."""
        general = visit.traffic == "general"
        prompts = [(self.general if general else self.prompts)[place] for place in visit.prompts]
        point = self._points[visit.point]
        if general:
            point = warm.closed(point)
        tried = self.ledger.attempts(visit)
        attempt = 0
        while True:
            self._memory.before(endpoint, prompts, lambda: self._fill_cache(endpoint, visit))
            trial, answers = self._measure(endpoint, visit, prompts, point, tried + attempt)
            busy = self.repeats.look(trial.contention)
            why = trial.invalid or self._fault(trial) or busy
            if why is None or not self.repeats.may_repeat(attempt):
                done.append((trial, answers))
                if busy:
                    self.job.progress(
                        "measuring on a busy machine", note=f"{visit.arm}: {busy}; it is measured as it is"
                    )
                return
            self.repeats.repeated += 1
            attempt += 1
            done.append((trial.model_copy(update={"invalid": f"spoiled and repeated: {why}"}), answers))
            self.job.progress("measuring again", attempt, self.repeats.rule.repeats, "times", f"{visit.arm}: {why}")

    def _measure(
        self, endpoint: Endpoint, visit: Visit, prompts: Sequence[Prompt], point: OperatingPoint, attempt: int
    ) -> tuple[Trial, Answers]:
        number = visit.visit if is_second(self.plan) else None
        slot = Slot(self._sha, visit.block, visit.order, visit.arm, visit.traffic, number, attempt)
        began = self.visitor.clock.unix()
        try:
            return self.visitor.measure(endpoint, prompts, point, slot)
        except EngineLostError as lost:
            if is_second(self.plan):
                self.ledger.record(self._lost(endpoint, slot, point, began, lost))
            raise

    def _lost(
        self, endpoint: Endpoint, slot: Slot, point: OperatingPoint, began: float, lost: EngineLostError
    ) -> Trial:
        """The line of a visit in which the server went away: it is evidence too."""
        return Trial(
            plan_sha256=slot.plan_sha256,
            trial_id=slot.trial_id(point.name),
            block=slot.block,
            order=slot.order,
            arm=slot.arm,
            point=point.name,
            traffic=slot.traffic,
            node=endpoint.node or hardware.node(),
            engine_start_id=endpoint.start_id,
            started_unix_s=began,
            wall_s=max(self.visitor.clock.unix() - began, 1e-6),
            peak_concurrency=1,
            samples=(),
            invalid=f"the server went away during the visit: {lost.message}",
            visit=slot.visit or 0,
        )

    def _fault(self, trial: Trial) -> str | None:
        """What the gate would set this visit aside for, so that it can be measured again at once."""
        if not is_second(self.plan):
            return None
        return inspect_trials(self.plan, [trial])[0].invalid
