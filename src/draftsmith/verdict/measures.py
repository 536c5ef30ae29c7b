"""What a block says of a candidate: one log ratio, and how much each prompt has to do with it.

The baseline is measured twice in a block, the second time as its own twin. Both passes together are the baseline: their
geometric mean, so that one pass beside a busy neighbour counts for half.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from draftsmith.contract.measure import ComparisonPlan, RequestSample
from draftsmith.verdict.estimate import Cell, starts_of

MEASURE_WORDS = {
    "cost": "server seconds per output token",
    "goodput": "requests within the latency limits",
    "tpot": "median time per output token",
}


@dataclass(frozen=True)
class Side:
    """One arm in one block: the log of its measure (more is worse), and each prompt's part in it (parts add up to 0)."""

    log: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class BlockPair:
    """One block of a pair. `value`: log(baseline / candidate), above 0 is faster. `apart`: log(baseline / its twin)."""

    block: int
    value: float
    starts: tuple[str, ...]
    parts: Mapping[str, float]
    apart: float | None = None


Measure = Callable[[Mapping[str, RequestSample], frozenset[str]], Side | None]


def measure_of(plan: ComparisonPlan) -> Measure:
    """The primary measure of a plan, as a function of one arm's answers to the prompts of a block."""
    if plan.primary == "cost":
        return cost
    if plan.primary == "tpot":
        return median_tpot
    first, token = plan.slo_ttft_s or math.inf, plan.slo_tpot_s or math.inf
    return lambda answers, prompts: goodput(answers, prompts, first, token)


def answers_of(cell: Cell) -> dict[str, RequestSample]:
    """An arm's answers in one block, over all its visits."""
    return {sample.prompt_id: sample for trial in cell for sample in trial.samples}


def pair_block(block: int, base: Cell, twin: Cell | None, cand: Cell, measure: Measure) -> BlockPair | None:
    """One block of a pair; None unless every arm answered the same prompts and can be compared."""
    answers = [answers_of(cell) for cell in (base, cand, *((twin,) if twin else ()))]
    prompts = frozenset(answers[0])
    if any(arm_answers.keys() != prompts for arm_answers in answers[1:]):
        return None
    sides = [measure(arm_answers, prompts) for arm_answers in answers]
    if sides[0] is None or sides[1] is None:
        return None
    bases = [sides[0], *(side for side in sides[2:] if side is not None)]
    level = sum(side.log for side in bases) / len(bases)
    parts = {
        prompt: sum(side.parts.get(prompt, 0.0) for side in bases) / len(bases) - sides[1].parts.get(prompt, 0.0)
        for prompt in prompts
    }
    value = level - sides[1].log
    if not math.isfinite(value):
        return None
    starts = starts_of(base, cand, *((twin,) if twin else ()))
    return BlockPair(block, value, starts, parts, bases[0].log - bases[1].log if len(bases) > 1 else None)


def cost(answers: Mapping[str, RequestSample], prompts: frozenset[str]) -> Side | None:
    """Server seconds per output token: the latencies of all requests over the tokens of all answers.

    A short answer cannot fool it: its tokens have to carry its whole prefill. A request that failed has taken its time
    and given nothing.
    """
    seconds = {p: _latency(answers[p]) for p in prompts}
    tokens = {p: 0 if answers[p].error else answers[p].output_tokens or 0 for p in prompts}
    spent, given = sum(seconds.values()), sum(tokens.values())
    if spent <= 0 or given <= 0:
        return None
    return Side(math.log(spent / given), {p: seconds[p] / spent - tokens[p] / given for p in prompts})


def median_tpot(answers: Mapping[str, RequestSample], prompts: frozenset[str]) -> Side | None:
    """Median time per output token, over the prompts with one. A prompt's part is its own log against their mean."""
    times = {p: value for p in prompts if (value := answers[p].tpot_s) is not None and value > 0}
    if not times or len(times) < len(prompts) / 2:
        return None
    logs = {p: math.log(value) for p, value in times.items()}
    mean = sum(logs.values()) / len(logs)
    return Side(
        math.log(statistics.median(times.values())), {p: (value - mean) / len(logs) for p, value in logs.items()}
    )


def goodput(
    answers: Mapping[str, RequestSample], prompts: frozenset[str], first_s: float, token_s: float
) -> Side | None:
    """Requests outside the latency limits are lost: the log is that of (requests / requests within the limits).

    Half a request is added to both, so that a block without a single good one still has a ratio.
    """
    if not prompts:
        return None
    good = {p: 1.0 if within(answers[p], first_s, token_s) else 0.0 for p in prompts}
    number, total = len(prompts), sum(good.values())
    log = math.log((number + 0.5) / (total + 0.5))
    share = total / number
    return Side(log, {p: (share - value) / (total + 0.5) for p, value in good.items()})


def within(sample: RequestSample, first_s: float, token_s: float) -> bool:
    """Whether a request was answered within both limits (seconds). An answer of one token has no time per token."""
    if sample.error or sample.ttft_s is None or sample.ttft_s > first_s:
        return False
    return sample.tpot_s is None or sample.tpot_s <= token_s


def _latency(sample: RequestSample) -> float:
    value = sample.latency_s
    return value if value is not None and math.isfinite(value) else 0.0
