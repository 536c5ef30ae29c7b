"""A small comparison with a known end, as a bundle wants it. Seeded: the same on every machine."""

from __future__ import annotations

import random
from dataclasses import replace
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
from draftsmith.kit.files import write_atomic, write_json
from draftsmith.store import chain
from draftsmith.store.evidence import BundleParts, CommandRecord, recompute

PROMPTS = 20
TOKENS = 40


def plan(**changes: Any) -> ComparisonPlan:
    arms = (
        Arm(name="standing", role="standing"),
        Arm(
            name="tailored",
            role="candidate",
            spec_config={"method": "eagle3", "model": "{run}/draft", "num_speculative_tokens": 3},
        ),
    )
    base = ComparisonPlan(
        arms=arms,
        baseline="standing",
        points=(OperatingPoint(name="c1", concurrency=1, primary=True),),
        prompts_sha256="a" * 64,
        n_prompts=PROMPTS,
        versions={"vllm": "0.32.0"},
    )
    return base.model_copy(update=changes)


def trial(under: ComparisonPlan, arm: str, block: int, tpot: float, traffic: str = "own") -> Trial:
    chance = random.Random(f"{arm}/{block}/{traffic}")
    level = tpot * (1 + chance.gauss(0, 0.005))
    samples = tuple(
        RequestSample(
            prompt_id=f"p{i}",
            prompt_tokens=80 + i,
            output_tokens=TOKENS,
            ttft_s=0.1,
            latency_s=0.1 + level * (0.9 + 0.01 * i) * (TOKENS - 1),
            finish_reason="stop",
        )
        for i in range(PROMPTS)
    )
    spec = arm == "tailored"
    return Trial(
        plan_sha256=digest(under),
        trial_id=f"c1/{block}/{arm}/{traffic}",
        block=block,
        order=("standing", "tailored").index(arm),
        arm=arm,
        point="c1",
        traffic=traffic,  # type: ignore[arg-type]
        node="node-a",
        engine_start_id=f"{arm}@{block}",
        started_unix_s=1.0e9 + block,
        wall_s=sum(s.latency_s or 0 for s in samples) + 0.1,
        peak_concurrency=1,
        samples=samples,
        counters=SpecCounters(
            present=spec,
            drafts=300 if spec else 0,
            draft_tokens=900 if spec else 0,
            accepted_tokens=480 if spec else 0,
            generation_tokens=PROMPTS * TOKENS,
            requests=PROMPTS,
            server_tpot_sum_s=sum(s.tpot_s or 0 for s in samples),
            server_tpot_count=PROMPTS,
        ),
        kv_tokens=10_000,
    )


def parts(blocks: int = 4, **changes: Any) -> BundleParts:
    frozen = plan()
    trials = [
        trial(frozen, arm, block, tpot, traffic)
        for block in range(blocks)
        for arm, tpot in (("standing", 0.045), ("tailored", 0.0265))
        for traffic in ("own", "general")
    ]
    facts = [
        (t.arm, EngineFacts(start_id=t.engine_start_id, version="0.32.0", device="cpu", dtype="bfloat16"))
        for t in trials
        if t.traffic == "own"
    ]
    whole = BundleParts(
        family="smollm2",
        run_id="0001",
        source={"model": "SmolLM2-135M-Instruct", "hardware": "2 cores x86"},
        plan=frozen,
        trials=trials,
        facts=facts,
        decision=recompute(frozen, trials, facts),
        training=[{"train": {"loss": 3.5}, "global_step": 1, "epoch": 0}],
        commands=[CommandRecord(step="compare", argv=("draftsmith", "compare"), stdout="done\n", exit_code=0)],
    )
    return replace(whole, **changes)


def won(folder: Path) -> dict[str, str]:
    """The files that a comparison leaves, of one that was won at tier `verdict`: what a promotion decides on again."""
    made = parts()
    assert made.plan is not None
    trials = chain.linked(digest(made.plan), made.trials)
    decision = recompute(made.plan, trials, list(made.facts))
    assert (decision.outcome, decision.tier) == ("WIN", "verdict"), decision.reason
    files = {name: folder / f"won-{name}.json" for name in ("plan", "samples", "facts", "verdict")}
    write_json(files["plan"], made.plan)
    write_atomic(files["samples"], "".join(t.model_dump_json(by_alias=True) + "\n" for t in trials))
    write_json(files["facts"], [[arm, fact.model_dump(mode="json")] for arm, fact in made.facts])
    write_json(files["verdict"], decision)
    return {name: str(path) for name, path in files.items()}
