"""A small world for the gate's tests: servers with a known speed, measured with a known noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.measure import (
    Arm,
    ComparisonPlan,
    EngineFacts,
    OperatingPoint,
    RequestSample,
    SpecCounters,
    Thresholds,
    Trial,
)
from draftsmith.contract.verdict import Decision
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest

STANDING = Arm(name="standing", role="standing", spec_config={"method": "eagle3", "num_speculative_tokens": 2})
NO_SPEC = Arm(name="no-spec", role="no_spec")
CANDIDATE = Arm(
    name="tailored",
    role="candidate",
    spec_config={"method": "eagle3", "model": "draft", "num_speculative_tokens": 3},
    draft_sha256="d" * 64,
)
NGRAM = Arm(name="ngram", role="trainless", spec_config={"method": "ngram", "num_speculative_tokens": 3})
C1 = OperatingPoint(name="c1", concurrency=1, primary=True)
PROMPTS = 24
TOKENS = 50


def plan_of(
    *arms: Arm, baseline: str = "standing", points: tuple[OperatingPoint, ...] = (C1,), **limits: Any
) -> ComparisonPlan:
    return ComparisonPlan(
        arms=arms or (STANDING, NO_SPEC, CANDIDATE),
        baseline=baseline,
        points=points,
        prompts_sha256="p" * 64,
        general_prompts_sha256="g" * 64,
        n_prompts=PROMPTS,
        thresholds=Thresholds(**limits),
    )


@dataclass
class World:
    """True TPOT per arm in seconds, and how noisy looking at it is. One trial is 24 requests, one after the other."""

    plan: ComparisonPlan
    tpot: Mapping[str, float]
    general: Mapping[str, float] = field(default_factory=dict)
    block_noise: float = 0.02
    start_noise: float = 0.0
    restarts: bool = True
    acceptance: float = 2.1
    seed: int = 0
    aa: bool = False
    node: Callable[[str, int], str] = lambda arm, block: "node-a"
    change: Callable[[Trial], Trial | None] = lambda trial: trial

    def trials(self, blocks: int) -> list[Trial]:
        found = []
        for point in self.plan.points:
            for block in range(blocks):
                for order, arm in enumerate(self.plan.arms):
                    found.append(self.trial(point, block, order, arm.name, "own"))
                    if arm.role in ("standing", "candidate", "other") or arm.name == self.plan.baseline:
                        found.append(self.trial(point, block, order, arm.name, "general"))
                if self.aa:
                    found += [self.trial(point, block, 8 + i, f"{self.plan.baseline}#{'ab'[i]}", "aa") for i in (0, 1)]
        return [kept for trial in found if (kept := self.change(trial)) is not None]

    def start(self, arm: str, block: int) -> str:
        return f"{arm}@{block if self.restarts else 0}"

    def trial(self, point: OperatingPoint, block: int, order: int, arm: str, traffic: str) -> Trial:
        plain = arm.split("#")[0]
        chance = random.Random(f"{self.seed}/{point.name}/{block}/{arm}/{traffic}")
        start = random.Random(f"{self.seed}/{self.start(arm, block)}")
        # Half the variance of the ratio comes from each side.
        factor = 1 + chance.gauss(0, self.block_noise / 2**0.5) + start.gauss(0, self.start_noise / 2**0.5)
        true = self.general.get(plain, self.tpot[plain]) if traffic == "general" else self.tpot[plain]
        samples = tuple(self.sample(i, true * factor, chance) for i in range(PROMPTS))
        spec = next(a for a in self.plan.arms if a.name == plain).spec_config
        total = sum(s.tpot_s or 0.0 for s in samples)
        drafts = int(PROMPTS * TOKENS / self.acceptance)
        return Trial(
            plan_sha256=digest(self.plan),
            trial_id=f"{point.name}/{block}/{arm}/{traffic}",
            block=block,
            order=order,
            arm=arm,
            point=point.name,
            traffic=traffic,
            node=self.node(plain, block),
            engine_start_id=self.start(arm, block),
            started_unix_s=1.0e9 + block,
            wall_s=sum(s.latency_s or 0.0 for s in samples) + 0.1,
            peak_concurrency=1,
            samples=samples,
            kv_tokens=10_000,
            counters=SpecCounters(
                present=spec is not None,
                drafts=drafts if spec else 0,
                draft_tokens=drafts * 3 if spec else 0,
                accepted_tokens=int(drafts * (self.acceptance - 1)) if spec else 0,
                generation_tokens=PROMPTS * TOKENS,
                requests=PROMPTS,
                server_tpot_sum_s=total * 0.99,
                server_tpot_count=PROMPTS,
            ),
        )

    @staticmethod
    def sample(index: int, tpot: float, chance: random.Random) -> RequestSample:
        ttft = 0.2 * (1 + chance.gauss(0, 0.02))
        mine = tpot * (0.8 + 0.4 * index / PROMPTS)
        return RequestSample(
            prompt_id=f"p{index}",
            prompt_tokens=100 + index,
            output_tokens=TOKENS,
            ttft_s=ttft,
            latency_s=ttft + mine * (TOKENS - 1),
            finish_reason="stop",
        )

    def facts(self, trials: Iterable[Trial], **overrides: Mapping[str, Any]) -> list[tuple[str, EngineFacts]]:
        """What every started engine said; `overrides` by arm."""
        starts = {trial.engine_start_id: trial.arm for trial in trials}
        common = {"version": "0.32.0", "device": "cpu", "dtype": "bfloat16", "enforce_eager": False, "runner": "V2"}
        return [
            (arm, EngineFacts(start_id=start, **{**common, **overrides.get(arm.replace("-", "_"), {})}))
            for start, arm in starts.items()
        ]

    def decide(self, blocks: int = 3, **overrides: Mapping[str, Any]) -> Decision:
        trials = self.trials(blocks)
        return decide(self.plan, trials, self.facts(trials, **overrides), samples_sha256=bundle_digest(trials))
