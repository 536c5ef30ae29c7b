"""Job: the comparison. Pin, start, tune K, freeze, warm up, measure interleaved blocks, decide after each.

Every finished trial is one line of samples.jsonl. After a crash the finished blocks are kept, an unfinished one is
measured again whole: its servers are gone, and a block compares servers of one start.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from draftsmith import wiring
from draftsmith.contract.base import canonical, digest
from draftsmith.contract.config import Config
from draftsmith.contract.errors import EngineError, InputError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import append_line, read_json, read_lines, write_atomic, write_json
from draftsmith.store.evidence import require_portable
from draftsmith.store.scrub import to_names
from draftsmith.traffic.importers import read_records
from draftsmith.traffic.prompts import (
    Prompt,
    PromptSet,
    general_prompts,
    heldout_prompts,
    read_prompts,
    tuning_prompts,
    write_prompts,
)
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest
from draftsmith.work.fleet import Fleet
from draftsmith.work.job import Job, Outputs, run_job
from draftsmith.work.measure import Endpoint, Slot, measure

WARM_PROMPTS = 3
WARM_PASSES = 4
WARM_TOLERANCE = 0.05
SMOKE_POSITION0 = 0.15
SMOKE_PROMPTS = 32
SMOKE_TOKENS = 24
GENERAL_TOKENS = 32


def body(job: Job) -> Outputs:
    """Run the campaign in the plan."""
    campaign = Campaign(job)
    decision = campaign.run()
    chosen = next((arm for arm in campaign.arms if arm.name == decision.winner), None)
    figures = {
        "outcome": decision.outcome,
        "tier": decision.tier,
        "reason": decision.reason,
        "winner": decision.winner,
        "speedup": next((p.speedup.model_dump() for p in decision.pairs if p.speedup), None),
        "acceptance_length": {a.arm: a.acceptance_length for a in decision.arms if a.acceptance_length},
        "median_tpot_ms": {f"{a.arm}@{a.point}": a.median_tpot_s * 1000 for a in decision.arms if a.median_tpot_s},
    }
    outputs = {
        "plan": str(campaign.plan_file),
        "samples": str(campaign.samples_file),
        "facts": str(campaign.facts_file),
        "verdict": str(campaign.verdict_file),
        "winner_config": chosen.spec_config if chosen else None,
    }
    return outputs, figures


class Campaign:
    """One comparison, from its job plan to a decision."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config = Config.model_validate(job.plan["config"])
        self.arms = [Arm.model_validate(arm) for arm in job.plan["arms"]]
        self.points = [OperatingPoint.model_validate(point) for point in job.plan["points"]]
        pinned = pin_prompts(job, self.config)
        self.prompts, self.tuning, self.general = pinned["own"], pinned["tuning"].prompts, pinned["general"].prompts
        self.names: dict[str, str] = job.plan.get("names", {})
        self.engine = wiring.engine(self.config, Path(job.plan["registry"]))
        self.fleet = Fleet(job, self.config, self.engine, job.plan["target"], job.plan.get("weight_bytes", 0))
        out = job.workdir
        self.plan_file, self.samples_file = out / "plan-frozen.json", out / "samples.jsonl"
        self.facts_file, self.verdict_file = out / "facts.json", out / "verdict.json"
        self.plan: ComparisonPlan
        self.trials: list[Trial] = []

    def run(self) -> Decision:
        """Measure until the gate has its answer; returns it and leaves it in verdict.json."""
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
        sha = digest(self.plan)
        read = [Trial.model_validate(orjson.loads(line)) for line in read_lines(self.samples_file)]
        per_block = self._trials_a_block()
        sizes: dict[int, int] = {}
        for trial in read:
            sizes[trial.block] = sizes.get(trial.block, 0) + 1
        self.trials = [t for t in read if t.plan_sha256 == sha and sizes[t.block] >= per_block]
        write_atomic(self.samples_file, "".join(canonical_line(t) for t in self.trials))
        if self.facts_file.exists():
            self.fleet.facts = [(arm, EngineFacts.model_validate(f)) for arm, f in read_json(self.facts_file)]

    def _record(self, trial: Trial) -> None:
        append_line(self.samples_file, canonical_line(trial).rstrip("\n"))
        self.trials.append(trial)

    # -- the campaign ---------------------------------------------------------------------------------------------

    def _unfinished(self, decision: Decision) -> bool:
        limits = self.plan.thresholds
        return self._blocks() < min(limits.min_blocks, limits.max_blocks) or (
            decision.need_more_blocks and self._blocks() < limits.max_blocks
        )

    def _session(self) -> Decision:
        """Start the servers, measure as many blocks as one start may serve, and decide after each."""
        frozen = {arm.name for arm in self.plan.arms} if hasattr(self, "plan") else None
        wanted = {arm.name: arm for arm in self.arms if frozen is None or arm.name in frozen}
        if not self.fleet.fits(len(wanted)):
            raise EngineError(
                f"{len(wanted)} servers do not fit this machine's memory together",
                "lower engine.cpu_kv_gib, try fewer compare.k_values, or set compare.ngram = false",
            )
        with self.fleet.up(wanted) as endpoints:
            if not hasattr(self, "plan"):
                endpoints = self._freeze(endpoints)
            write_json(self.facts_file, [[arm, facts.model_dump(mode="json")] for arm, facts in self.fleet.facts])
            self._warm_up(endpoints)
            restart = self.config.compare.restart_every
            began = self._blocks()
            while True:
                self._block(endpoints)
                decision = self._decision()
                if not self._unfinished(decision) or (restart and self._blocks() - began >= restart):
                    return decision

    def _freeze(self, endpoints: dict[str, Endpoint]) -> dict[str, Endpoint]:
        """Choose K on the tuning prompts, then fix the plan. Arms that lost the tuning are not compared."""
        keep = self._tune(endpoints)
        thresholds = self.config.compare.thresholds.model_copy(
            update={"min_blocks": max(self.config.compare.blocks, 1)}
        )
        self.plan = ComparisonPlan(
            arms=tuple(self._portable(arm) for arm in self.arms if arm.name in keep),
            baseline=self.job.plan["baseline"],
            points=tuple(self.points),
            prompts_sha256=self.prompts.sha256,
            n_prompts=len(self.prompts.prompts),
            general_prompts_sha256=digest([p.model_dump(mode="json") for p in self.general]) if self.general else None,
            thresholds=thresholds,
            restarts=bool(self.config.compare.restart_every),
            seed=self.config.corpus.seed,
            versions=self.job.plan.get("versions", {}),
        )
        require_portable(self.plan, self.names)
        write_json(self.plan_file, self.plan)
        return {name: endpoint for name, endpoint in endpoints.items() if name in keep}

    def _portable(self, arm: Arm) -> Arm:
        return Arm.model_validate(to_names(arm.model_dump(mode="json"), self.names))

    def _tune(self, endpoints: dict[str, Endpoint]) -> set[str]:
        """Of several candidates that differ in K alone, the one with the lowest median TPOT on the tuning prompts."""
        candidates = [arm for arm in self.arms if arm.role == "candidate"]
        keep = {arm.name for arm in self.arms}
        if len(candidates) < 2 or not self.tuning:
            return keep
        medians: dict[str, float] = {}
        for index, arm in enumerate(candidates):
            self.job.progress("choosing K", index, len(candidates), "arms", arm.name)
            slot = Slot("tuning", 0, index, arm.name, "tuning")
            self._measure(endpoints[arm.name], self.tuning[:WARM_PROMPTS], self.points[0], slot)
            trial = self._measure(endpoints[arm.name], self.tuning, self.points[0], slot)
            medians[arm.name] = median_tpot(trial)
        write_json(self.job.workdir / "tuning.json", {"median_tpot_s": medians, "point": self.points[0].name})
        best = min(medians, key=lambda name: (medians[name], name))
        return keep - (medians.keys() - {best})

    def _warm_up(self, endpoints: dict[str, Endpoint]) -> None:
        """Passes over a few prompts until an arm's median TPOT changes by less than 5 %, then the smoke test of drafts."""
        roles = {arm.name: arm.role for arm in self.plan.arms}
        few = (self.tuning or self.prompts.prompts)[:WARM_PROMPTS]
        for number, (name, endpoint) in enumerate(endpoints.items()):
            last = None
            for _ in range(WARM_PASSES):
                self.job.progress("warming up", number, len(endpoints), "arms", name)
                trial = self._measure(endpoint, few, self.points[0], Slot("warm", 0, number, name, "tuning"))
                now = median_tpot(trial)
                if last is not None and abs(now / last - 1) < WARM_TOLERANCE:
                    break
                last = now
            if roles.get(name) == "candidate":
                self._smoke(name, endpoint)

    def _smoke(self, name: str, endpoint: Endpoint) -> None:
        """32 short answers through a draft, before anything is measured: is it accepted at all?"""
        self.job.progress("smoke test", 0, SMOKE_PROMPTS, "prompts", name)
        prompts = (*self.tuning, *self.prompts.prompts)[:SMOKE_PROMPTS]
        point = self.points[0].model_copy(
            update={
                "concurrency": min(8, self.config.engine.max_num_seqs),
                "max_tokens": SMOKE_TOKENS,
                "rate_per_s": None,
            }
        )
        smoke_test(name, self._measure(endpoint, prompts, point, Slot("smoke", 0, 0, name, "tuning")))

    def _block(self, endpoints: dict[str, Endpoint]) -> None:
        """Every arm once at every point, in ABBA order over blocks; the baseline once more as its own twin."""
        block, sha = self._blocks(), digest(self.plan)
        baseline = self.plan.baseline
        order = [arm.name for arm in self.plan.arms]
        sequence: list[tuple[str, str]] = [(name, "own") for name in order] + [(baseline, "aa")]
        if block % 2:
            sequence.reverse()
        if self.general:
            sequence += [(name, "general") for name in self._general_arms()]
        steps = [
            (point, *item) for point in self.plan.points for item in sequence if item[1] != "general" or point.primary
        ]
        done: list[Trial] = []
        for position, (point, name, traffic) in enumerate(steps):
            limit = self.plan.thresholds.max_blocks
            note = f"block {block + 1} (at most {limit}), {name} at {point.name}, {traffic}"
            self.job.progress("measuring", position, len(steps), "trials", note)
            prompts = self.general if traffic == "general" else self.prompts.prompts
            done.append(self._measure(endpoints[name], prompts, point, Slot(sha, block, position, name, traffic)))  # type: ignore[arg-type]
        for trial in done:
            self._record(trial)

    def _general_arms(self) -> list[str]:
        names = [arm.name for arm in self.plan.arms if arm.role == "candidate"]
        return [self.plan.baseline, *names]

    def _trials_a_block(self) -> int:
        arms = len(self.plan.arms) + 1
        return arms * len(self.plan.points) + (len(self._general_arms()) if self.general else 0)

    def _blocks(self) -> int:
        return len({trial.block for trial in self.trials})

    def _measure(self, endpoint: Endpoint, prompts: Sequence[Prompt], point: OperatingPoint, slot: Slot) -> Trial:
        return measure(self.engine, endpoint, prompts, point, slot, self.config.compare.dcgm_url)

    def _decision(self) -> Decision:
        return decide(self.plan, self.trials, self.fleet.facts, samples_sha256=bundle_digest(self.trials))


def pin_prompts(job: Job, config: Config) -> dict[str, PromptSet]:
    """The prompts of this comparison, chosen once and kept: held out, for tuning, and of general traffic.

    They come from the corpus, or from the files that the plan names. Private: they hold text.
    """
    settings, found = config.compare, {}
    for kind in ("own", "tuning", "general"):
        path = job.workdir / f"prompts-{kind}.jsonl"
        if path.exists():
            found[kind] = read_prompts(path) if path.stat().st_size else PromptSet(prompts=(), sha256="")
            continue
        named = job.plan.get("prompts", {}).get(kind)
        if named:
            found[kind] = read_prompts(Path(named))
        elif kind == "general" and settings.general_prompts:
            log = read_records([settings.general_log]) if settings.general_log else None
            found[kind] = general_prompts(log, settings.general_prompts, config.corpus.seed, max_tokens=GENERAL_TOKENS)
        elif kind != "general" and "corpus" in job.plan:
            choose = heldout_prompts if kind == "own" else tuning_prompts
            count = settings.prompts if kind == "own" else settings.tuning_prompts
            found[kind] = choose(Path(job.plan["corpus"]), count, config.corpus.seed, max_tokens=settings.max_tokens)
        else:
            found[kind] = PromptSet(prompts=(), sha256="")
        write_prompts(path, found[kind])
    if not found["own"].prompts:
        raise InputError("there are no prompts to compare on", "give a prompts file or a corpus with held-out rows")
    return found


def canonical_line(trial: Trial) -> str:
    """One trial as a line of samples.jsonl."""
    return canonical(trial.model_dump(mode="json", by_alias=True)) + "\n"


def median_tpot(trial: Trial) -> float:
    """Seconds per token. Raises InputError if no request of the trial has one."""
    values = [s.tpot_s for s in trial.samples if s.tpot_s is not None]
    if not values:
        errors: dict[str, Any] = {s.error: 1 for s in trial.samples if s.error}
        raise InputError(
            f"no request of arm {trial.arm} gave a time per token ({', '.join(errors) or 'answers of one token'})",
            "see the server's log, or give prompts with longer answers",
        )
    return statistics.median(values)


def smoke_test(arm: str, trial: Trial) -> None:
    """Raise EngineError if a draft is served but hardly ever accepted: that is wiring, not data."""
    counters = trial.counters
    if not counters.drafts:
        raise EngineError(
            f"{arm}: the engine made no draft at all", "look for the speculative config in the server's log"
        )
    first = counters.acceptance_by_position[0] if counters.acceptance_by_position else 0.0
    if first < SMOKE_POSITION0:
        raise EngineError(
            f"{arm}: acceptance at position 0 is {first:.3f} in the engine",
            "suspect the wiring (layers, vocabulary map, head) before the data: `draftsmith lint`",
        )


if __name__ == "__main__":
    raise SystemExit(run_job(body))
