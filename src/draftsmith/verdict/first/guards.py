"""Non-inferiority checks: what a faster median must not cost.

One rule for all. `margin` is how much worse the candidate may be.

* failed: the estimate is outside the margin, and the interval over the blocks lies outside it entirely.
* held: the estimate is inside the margin (and the sentence says whether the interval is too).
* unsettled: outside, but not yet certain. No WIN; more blocks may settle it.
* unmeasured: too little data, or nothing recorded. The tier drops to `draft`.

The unit is the block, as for the primary estimate. Counts (errors, preemptions) are tested exactly, and one single
event is never held against an arm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.measure import SpecCounters, Thresholds, Trial
from draftsmith.contract.verdict import Guard
from draftsmith.verdict.estimate import Cell, block_logs, paired_log, quantile_of, rounded, tpot, ttft, values
from draftsmith.verdict.first.sequential import StartNoise, spread

State = Literal["failed", "held", "unsettled", "unmeasured"]

ENOUGH_REQUESTS = 20
ENOUGH_BLOCKS = 2
BEYOND_TAIL = 3


@dataclass(frozen=True)
class Checked:
    """A guard's result. `suspect` marks a fault of the measurement rather than of the candidate."""

    name: str
    state: State
    observed: float | None
    limit: float | None
    sentence: str
    suspect: bool = False

    def guard(self) -> Guard:
        """As the contract has it: passed True, False, or None for both kinds of not knowing."""
        passed = {"held": True, "failed": False}.get(self.state)
        return Guard(
            name=self.name,
            passed=passed,
            observed=rounded(self.observed),
            limit=rounded(self.limit),
            sentence=self.sentence,
        )


@dataclass(frozen=True)
class Sides:
    """Both arms' cells of one kind of traffic, over the blocks that the primary estimate uses."""

    base: dict[int, Cell]
    cand: dict[int, Cell]
    alpha: float
    start_noise: StartNoise | None
    closed_loop: bool = True

    def trials(self, side: Literal["base", "cand"]) -> list[Trial]:
        """All trials of one side."""
        return [trial for cell in getattr(self, side).values() for trial in cell]


def check_all(own: Sides, counts: Sides, general: Sides | None, limits: Thresholds) -> tuple[Checked, ...]:
    """Every guard, in a fixed order.

    `own`: the blocks of the primary estimate. `counts`: all blocks with valid trials, so that requests which failed so
    often that no ratio was left still count. `general` None: the arm has no draft, so nothing can be forgotten.
    """
    checks = [
        tail(own, limits.p99_tpot_margin),
        first_token(own, limits),
        throughput(own, limits.throughput_margin),
        errors(counts, limits.error_rate_margin),
        preemptions(counts, limits.preemption_margin),
        capacity(own, limits.capacity_margin),
        client_server(own, limits.client_server_tolerance),
    ]
    if general is not None:
        checks.append(forgetting(own, general, limits))
    return tuple(checks)


def tail_quantile(requests: int) -> float | None:
    """The highest quantile up to p99 that leaves three of `requests` beyond it; None under 20 requests."""
    return min(0.99, 1 - BEYOND_TAIL / requests) if requests >= ENOUGH_REQUESTS else None


def tail(sides: Sides, margin: float) -> Checked:
    """p99 TPOT, or the highest quantile that the number of requests supports."""
    slow, fast = (values(sides.trials(side), tpot) for side in ("base", "cand"))
    q = tail_quantile(min(len(slow), len(fast)))
    if q is None:
        return _unmeasured("p99_tpot", margin, "the tail of TPOT needs 20 requests an arm")
    top, bottom = quantile_of(fast, q), quantile_of(slow, q)
    label = f"p{100 * q:.3g} TPOT" + ("" if q == 0.99 else " (the highest quantile this many requests support)")
    return _ratio("p99_tpot", label, sides, _over(top, bottom), lambda b, c: paired_log(c, b, tpot, q), margin)


def first_token(sides: Sides, limits: Thresholds) -> Checked:
    """Median time to first token.

    A draft always costs some: it proposes before the first token is sent. What counts is when the answer has caught up:
    the loss that is allowed is what the faster tokens win back by token `ttft_repaid_tokens`, and never less than
    `ttft_margin`.
    """
    slow, fast = (values(sides.trials(side), ttft) for side in ("base", "cand"))
    margin = limits.ttft_margin
    if min(len(slow), len(fast)) < ENOUGH_REQUESTS:
        return _unmeasured("ttft", margin, "the median time to first token needs 20 requests an arm")
    per_token = [values(sides.trials(side), tpot) for side in ("base", "cand")]
    if all(per_token):
        gain_s = quantile_of(per_token[0], 0.5) - quantile_of(per_token[1], 0.5)
        margin = max(margin, limits.ttft_repaid_tokens * gain_s / quantile_of(slow, 0.5))
    observed = _over(quantile_of(fast, 0.5), quantile_of(slow, 0.5))
    return _ratio("ttft", "median TTFT", sides, observed, lambda b, c: paired_log(c, b, ttft), margin)


def throughput(sides: Sides, margin: float) -> Checked:
    """Output tokens per second over the whole trial, successful requests only. The margin is a loss."""
    slow, fast = (_rate(sides.trials(side)) for side in ("base", "cand"))
    if not slow or not fast:
        return _unmeasured("throughput", margin, "no output tokens were counted")
    allowed = 1 / (1 - margin) - 1

    def loss(base: Cell, cand: Cell) -> float | None:
        top, bottom = _rate(base), _rate(cand)
        return math.log(top / bottom) if top and bottom else None

    return _ratio("throughput", "time per output token of the whole arm", sides, slow / fast, loss, allowed)


def forgetting(own: Sides, general: Sides, limits: Thresholds) -> Checked:
    """Median TPOT on general traffic: what the draft unlearned while it was tailored.

    A narrow draft is slower on foreign traffic, always. What matters is whether the whole still gains: with a share s of
    general traffic the time per token is (1 - s) x own ratio + s x general ratio of the baseline's. So the slow-down that
    is allowed there is what the gain on own traffic pays for at s = `general_share`, and never less than
    `forgetting_margin`.
    """
    margin = allowed_slowdown(own, limits)
    slow, fast = (values(general.trials(side), tpot) for side in ("base", "cand"))
    if min(len(slow), len(fast)) < ENOUGH_REQUESTS:
        return _unmeasured(
            "forgetting", margin, "general traffic was not measured, or on fewer than 20 requests an arm"
        )
    observed = _over(quantile_of(fast, 0.5), quantile_of(slow, 0.5))
    return _ratio(
        "forgetting", "median TPOT on general traffic", general, observed, lambda b, c: paired_log(c, b, tpot), margin
    )


def allowed_slowdown(own: Sides, limits: Thresholds) -> float:
    """How much slower general traffic may be (0.1 = 10 %), given the gain on own traffic."""
    slow, fast = (values(own.trials(side), tpot) for side in ("base", "cand"))
    if not slow or not fast or not 0 < limits.general_share < 1:
        return limits.forgetting_margin
    ratio = quantile_of(fast, 0.5) / quantile_of(slow, 0.5)
    paid_for = (1 - (1 - limits.general_share) * ratio) / limits.general_share - 1
    return max(limits.forgetting_margin, paid_for)


def errors(sides: Sides, margin: float) -> Checked:
    """Share of failed requests, as an absolute difference."""

    def failed(trials: list[Trial]) -> int:
        return sum(1 for trial in trials for sample in trial.samples if sample.error is not None)

    return _count("errors", "failed requests", sides, failed, margin)


def preemptions(sides: Sides, margin: float) -> Checked:
    """Preemptions per request, as an absolute difference."""
    return _count("preemptions", "preemptions", sides, lambda rows: sum(t.counters.preemptions for t in rows), margin)


def capacity(sides: Sides, margin: float) -> Checked:
    """Peak concurrency reached, and the KV cache that the draft leaves. Facts rather than samples: no interval."""
    peaks = [quantile_of([t.peak_concurrency for t in sides.trials(side)], 0.5) for side in ("base", "cand")]
    caches = [[t.kv_tokens for t in sides.trials(side) if t.kv_tokens] for side in ("base", "cand")]
    words = f"peak concurrency {peaks[1]:.0f} against {peaks[0]:.0f}"
    # In an open loop a faster arm has fewer requests in flight: that is its merit.
    share = peaks[1] / peaks[0] if sides.closed_loop else 1.0
    words += "" if sides.closed_loop else " (open loop: not judged)"
    if all(caches):
        slow, fast = min(caches[0]), min(caches[1])
        share = min(share, fast / slow)
        words += f", KV cache {fast} tokens against {slow}"
    else:
        words += ", the size of the KV cache was not recorded"
    state: State = "held" if share >= 1 - margin else "failed"
    return Checked("capacity", state, share, 1 - margin, f"{words}; at least {_percent(1 - margin)} are asked for")


def client_server(sides: Sides, tolerance: float) -> Checked:
    """Mean TPOT by the client's clock against the engine's own, on the worse arm."""
    gaps = []
    for trials in (sides.trials("base"), sides.trials("cand")):
        server, client = _server_mean(trials), _client_mean(trials)
        if server is None or client is None:
            return _unmeasured("client_server", tolerance, "the engine gave no time per output token of its own")
        gaps.append(abs(client / server - 1))
    gap = max(gaps)
    state: State = "held" if gap <= tolerance else "failed"
    sentence = f"client and server differ by {_percent(gap)} in mean TPOT, at most {_percent(tolerance)} is allowed"
    return Checked("client_server", state, gap, tolerance, sentence, suspect=state == "failed")


def _ratio(
    name: str,
    label: str,
    sides: Sides,
    observed: float | None,
    measure: Callable[[Cell, Cell], float | None],
    margin: float,
) -> Checked:
    """A ratio guard: `observed` and exp(`measure`) above 1 are worse; `margin` is the fraction allowed."""
    logs = block_logs(sides.base, sides.cand, measure)
    if observed is None or len(logs) < ENOUGH_BLOCKS:
        return _unmeasured(name, margin, f"{label} needs {ENOUGH_BLOCKS} blocks, there are {len(logs)}")
    data = spread(logs, sides.start_noise)
    width = data.half_width(sides.alpha) if data else math.inf
    mean = data.mean if data else 0.0
    limit = math.log1p(margin)
    worse = observed - 1
    words = f"{label} is {_percent(abs(worse))} {'worse' if worse > 0 else 'better'} than the baseline's"
    words += f", {_percent(margin)} worse is allowed"
    if worse <= margin:
        shown = "shown by the interval too" if mean + width <= limit else "not contradicted by the interval"
        return Checked(name, "held", worse, margin, f"{words}; {shown}")
    if mean - width > limit:
        return Checked(name, "failed", worse, margin, f"{words}; the interval over {data_blocks(logs)} excludes chance")
    return Checked(name, "unsettled", worse, margin, f"{words}; {data_blocks(logs)} cannot exclude chance")


def _count(name: str, label: str, sides: Sides, count: Callable[[list[Trial]], int], margin: float) -> Checked:
    """A count guard: events per request may exceed the baseline's by `margin`; one event alone is never held against."""
    from scipy import special

    base, cand = sides.trials("base"), sides.trials("cand")
    requests = [sum(len(trial.samples) for trial in rows) for rows in (base, cand)]
    seen = [count(base), count(cand)]
    excess = seen[1] / requests[1] - seen[0] / requests[0]
    words = f"{seen[1]} {label} in {requests[1]} requests against {seen[0]} in {requests[0]}"
    words += f", {_percent(margin)} more is allowed"
    expected = (seen[0] / requests[0] + margin) * requests[1]
    if seen[1] <= max(1.0 + seen[0] * requests[1] / requests[0], expected):
        return Checked(name, "held", excess, margin, words)
    # Chance of at least so many events if the candidate were exactly at the limit (Poisson).
    chance = 1.0 - float(special.pdtr(seen[1] - 1, expected))
    state: State = "failed" if sides.alpha > 0 and chance < sides.alpha else "unsettled"
    tail_words = "too many for chance" if state == "failed" else "chance is not excluded"
    return Checked(name, state, excess, margin, f"{words}; {tail_words}")


def _unmeasured(name: str, limit: float, sentence: str) -> Checked:
    return Checked(name, "unmeasured", None, limit, f"not evaluated: {sentence}")


def _rate(trials: Sequence[Trial]) -> float | None:
    tokens = sum(s.output_tokens or 0 for trial in trials for s in trial.samples if s.error is None)
    wall = sum(trial.wall_s for trial in trials)
    return tokens / wall if tokens and wall > 0 else None


def _over(top: float, bottom: float) -> float | None:
    return top / bottom if bottom > 0 else None


def _server_mean(trials: Sequence[Trial]) -> float | None:
    message: list[SpecCounters] = [trial.counters for trial in trials]
    total = sum(counters.server_tpot_sum_s or 0.0 for counters in message)
    number = sum(counters.server_tpot_count or 0 for counters in message)
    return total / number if number and total > 0 else None


def _client_mean(trials: Sequence[Trial]) -> float | None:
    """The client's mean over what the engine averages: vLLM counts a one-token answer as zero time per token."""
    good = [sample for trial in trials for sample in trial.samples if sample.error is None]
    counted = sum(trial.counters.server_tpot_count or 0 for trial in trials)
    defined = [value for sample in good if (value := sample.tpot_s) is not None]
    number = len(good) if counted == len(good) else len(defined)
    return sum(defined) / number if defined else None


def data_blocks(logs: Sequence[object]) -> str:
    """`3 blocks`, `1 block`."""
    return f"{len(logs)} block{'s' if len(logs) != 1 else ''}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
