"""A campaign of the second edition as the job leaves it: visits, twins, chain and journal. Seeded; times are invented."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.measure import (
    Arm,
    ComparisonPlan,
    EngineFacts,
    OperatingPoint,
    RequestSample,
    SpecCounters,
    Trial,
)
from draftsmith.contract.verdict import Decision
from draftsmith.store import campaigns, chain
from draftsmith.store.evidence import BundleParts, recompute, write_bundle
from draftsmith.verdict.visits import General, Visit, visits

PROMPTS, TOKENS = 400, 40
TPOT = {"standing": 0.045, "tailored": 0.018}
STARTS = 3
BLOCKS_OF_START = 2
GENERAL = General(("standing", "tailored"), 12)  # asked in the first block of a start, twice in all


def plan(**changes: Any) -> ComparisonPlan:
    spec = {"method": "eagle3", "model": "{run}/draft", "num_speculative_tokens": 3}
    base = ComparisonPlan(
        schema="draftsmith_comparison_v2",
        arms=(
            Arm(name="standing", role="standing"),
            Arm(name="tailored", role="candidate", spec_config=spec, draft_sha256="d" * 64),
        ),
        baseline="standing",
        points=(OperatingPoint(name="c1", concurrency=1, primary=True),),
        prompts_sha256="a" * 64,
        general_prompts_sha256="b" * 64,
        n_prompts=PROMPTS,
        primary="cost",
        block_prompts=8,
        visit_prompts=4,
        versions={"vllm": "0.32.0"},
        trained_on=0,
        target_sha256="e" * 64,
        prompt_hashes=tuple(f"{n:016x}" for n in range(PROMPTS)),
    )
    return base.model_copy(update=changes)


def trial(under: ComparisonPlan, visit: Visit, began: float, tpot: float | None = None, noise: float = 0.004) -> Trial:
    chance = random.Random(f"{visit.block}/{visit.arm}/{visit.visit}/{visit.traffic}")
    level = (tpot or TPOT[visit.server]) * (1 + chance.gauss(0, noise))
    per = [level * (1 + chance.gauss(0, noise)) for _ in visit.prompts]
    samples = tuple(
        RequestSample(
            prompt_id=f"{visit.traffic[0]}{place}" if visit.traffic == "general" else f"p{place}",
            prompt_tokens=80,
            cached_tokens=0,
            output_tokens=TOKENS,
            ttft_s=0.1 + chance.random() / 1000,
            latency_s=0.102 + time * (TOKENS - 1),
            finish_reason="stop",
            output_sha256=f"{place:016x}",
        )
        for place, time in zip(visit.prompts, per, strict=True)
    )
    spec = visit.server == "tailored"
    return Trial(
        plan_sha256=digest(under),
        trial_id=f"c1/{visit.block}/{visit.arm}/{visit.traffic}/{visit.visit}",
        block=visit.block,
        order=visit.order,
        arm=visit.arm,
        point="c1",
        traffic=visit.traffic,
        node="node-a",
        engine_start_id=f"{visit.server}@{visit.block // BLOCKS_OF_START}",
        started_unix_s=began,
        wall_s=sum(s.latency_s or 0 for s in samples) + 0.05,
        peak_concurrency=1,
        samples=samples,
        hardware={"gpu_sm_clock_mhz": 1980.0},
        counters=SpecCounters(
            present=spec,
            drafts=15 * len(per) if spec else 0,
            draft_tokens=45 * len(per) if spec else 0,
            accepted_tokens=25 * len(per) if spec else 0,
            generation_tokens=TOKENS * len(per),
            requests=len(per),
            server_tpot_sum_s=sum(per),
            server_tpot_count=len(per),
        ),
        kv_tokens=10_000,
        visit=visit.visit,
    )


def trials_of(under: ComparisonPlan, blocks: int, began: float) -> list[Trial]:
    """Visit after visit, a second apart at least."""
    found = []
    for block in range(blocks):
        general = GENERAL if block in (0, BLOCKS_OF_START) else General()
        for visit in visits(under, block, general):
            found.append(trial(under, visit, began))
            began += found[-1].wall_s + 1
    return chain.linked(digest(under), found)


def facts_of(trials: list[Trial]) -> list[tuple[str, EngineFacts]]:
    starts = {t.engine_start_id: t.arm.split("#")[0] for t in trials}
    told: dict[str, Any] = {"version": "0.32.0", "device": "cpu", "dtype": "bfloat16", "enforce_eager": False}
    return [(arm, EngineFacts(start_id=start, **told)) for start, arm in sorted(starts.items())]


@dataclass(frozen=True)
class Left:
    """What a campaign left: its bundle, and the journal of the workspace."""

    bundle: Path
    journal: Path
    plan: ComparisonPlan
    decision: Decision


def campaign(folder: Path, *, before: int = 2) -> Left:
    """A campaign that was won; `before` others with the same arms were begun and came to nothing."""
    journal = folder / "campaigns.jsonl"
    for seed in range(1, before + 1):
        campaigns.begin(journal, plan(seed=seed))
    frozen = campaigns.begin(journal, plan())
    assert frozen.frozen_unix_s is not None
    trials = trials_of(frozen, STARTS * BLOCKS_OF_START, frozen.frozen_unix_s + 1)
    facts = facts_of(trials)
    decision = recompute(frozen, trials, facts)
    campaigns.end(journal, frozen, decision)
    parts = BundleParts(
        family="tiny",
        run_id="0001",
        plan=frozen,
        trials=trials,
        facts=facts,
        decision=decision,
        campaigns=journal,
    )
    return Left(write_bundle(folder / "bundle", parts), journal, frozen, decision)
