"""A plan made from known costs, without anything measured."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from draftsmith.contract.context import Context
from draftsmith.contract.plan import Acceptance, Budget, DraftRecord, Plan, StepSample
from draftsmith.contract.profile import ExpectedAcceptance, Recommendation
from draftsmith.verdict.advice import Situation, point_plan
from draftsmith.verdict.break_even import CostModel
from draftsmith.verdict.learning_curve import expect

PLAIN = 0.030


def pair(
    concurrency: int, k: int, ratio: float, *, repeat: int = 0, method: str = "draft", rate: float = 1.0
) -> StepSample:
    """One pair whose speculating step costs `ratio` plain ones."""
    return StepSample(
        arm=f"{method}-k{k}", method=method, concurrency=concurrency, k=k, repeat=repeat, plain_step_s=PLAIN,
        step_s=PLAIN * ratio, tokens_per_step=2.0, draft_rate=rate,
    )  # fmt: skip


def line(concurrency: int, a: float, b: float, noise: float = 0.0, seed: int = 0) -> list[StepSample]:
    """Pairs at K = 1, 3, 5, twice, whose costs are a + bK with multiplicative noise."""
    chance = random.Random(f"{seed}/{concurrency}")
    return [
        pair(concurrency, k, (a + b * k) * math.exp(chance.gauss(0, noise)), repeat=repeat)
        for k in (1, 3, 5)
        for repeat in range(2)
    ]


def made(samples: Sequence[StepSample], records: Sequence[DraftRecord] = (), **budget: float) -> Plan:
    """The plan of these samples; `budget` in seconds."""
    model = CostModel(samples)
    acceptance: Acceptance = expect(records, 20_000, 3)
    ngram = ExpectedAcceptance(
        method="ngram", num_speculative_tokens=3, acceptance_length=2.4, tokens_per_step=1.5, draft_rate=0.4
    )
    at = Situation(Recommendation(method="eagle3", rationale="-"), (ngram,), acceptance, 0.03)
    points = tuple(point_plan(model, samples, c, at) for c in model.concurrencies)
    return Plan(
        target="tiny", target_sha256="t", profile_sha256="p", measured_sha256="m",
        context=Context(model="tiny", hardware="a <machine>", engine="vllm 0.32.0", concurrency=1),
        min_gain=0.03, samples=tuple(samples), fit=model.summary(), points=points, primary=points[0].concurrency,
        acceptance=acceptance,
        budget=Budget(training_rows=300, capture_tokens=70_000, capture_bytes=2**30, answer_tokens=20_000,
                      train_tokens=400_000, basis=("as assumed",), **budget),
        advice=points[0].advice, reason=points[0].sentence, notes=("a note",), starts=4, wall_s=300.0,
    )  # fmt: skip
