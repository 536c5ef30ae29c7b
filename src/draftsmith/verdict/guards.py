"""Non-inferiority checks: what a faster median must not cost.

One rule for all. `margin` is how much worse the candidate may be.

* failed: the estimate is outside the margin, and its interval lies outside entirely, by the rule of the primary estimate:
  starts and all looks are in it.
* held: the estimate is inside the margin (and the sentence says whether the interval is too).
* unsettled: outside, but not yet certain. No WIN; more blocks may settle it.
* unmeasured: too little data, or nothing recorded. The tier drops to `draft`.

The unit is the block, as for the primary estimate, and the baseline is both its passes. Counts (errors, preemptions) are
tested exactly, and one single event is never held against an arm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.measure import SpecCounters, Thresholds, Trial
from draftsmith.contract.verdict import Guard
from draftsmith.verdict.estimate import Cell, block_logs, paired_log, quantile_of, rounded, tpot, ttft, values
from draftsmith.verdict.measures import BlockPair
from draftsmith.verdict.rule import Rule
from draftsmith.verdict.spread import Estimate

State = Literal["failed", "held", "unsettled", "unmeasured"]

ENOUGH_REQUESTS = 20
ENOUGH_BLOCKS = 2
BEYOND_TAIL = 3
COUNTS_TOKENS = 0.1  # an engine that counts about as many as tokens came after the first ones averages over tokens


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
    """Both arms' cells of one kind of traffic, over the blocks that the primary estimate uses. `share`: of the error."""

    base: dict[int, Cell]
    cand: dict[int, Cell]
    rule: Rule
    share: float
    closed_loop: bool = True

    @property
    def alpha(self) -> float:
        """The error that one end of an interval may make at this look."""
        return self.rule.alpha * self.share

    def judge(self, measure: Callable[[Cell, Cell], float | None]) -> Estimate | None:
        """The mean over blocks of a log ratio in which more is worse, with the error of the primary estimate."""
        logs = block_logs(self.base, self.cand, measure)
        pairs = [BlockPair(log.block, log.value, log.starts, {}) for log in logs]
        return self.rule.estimate(pairs, fixed=True) if len(pairs) >= ENOUGH_BLOCKS else None

    def trials(self, side: Literal["base", "cand"]) -> list[Trial]:
        """All trials of one side."""
        return [trial for cell in getattr(self, side).values() for trial in cell]


def check_all(own: Sides, counts: Sides, general: Sides | None, limits: Thresholds, gain: float) -> tuple[Checked, ...]:
    """Every guard, in a fixed order. `gain`: the estimated log gain on own traffic.

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
        checks.append(forgetting(general, limits, gain))
    return tuple(checks)


def tail_quantile(requests: int) -> float | None:
    """The highest quantile up to p99 that leaves three of `requests` beyond it; None under 20 requests."""
    return min(0.99, 1 - BEYOND_TAIL / requests) if requests >= ENOUGH_REQUESTS else None


def tail(sides: Sides, margin: float) -> Checked:
    """p99 TPOT, or the highest quantile that the number of requests supports, and what it would have seen.

    It fails where the share of slow requests (beyond the baseline's quantile and the margin) is larger in block after block.
    """
    slow, fast = (values(sides.trials(side), tpot) for side in ("base", "cand"))
    q = tail_quantile(min(len(slow), len(fast)))
    if q is None:
        return _unmeasured("p99_tpot", margin, "the tail of TPOT needs 20 requests an arm")
    top, bottom = quantile_of(fast, q), quantile_of(slow, q)
    worse, limit = top / bottom - 1 if bottom > 0 else math.inf, bottom * (1 + margin)
    words = f"p{100 * q:.3g} TPOT" + ("" if q == 0.99 else " (the highest quantile this many requests support)")
    words += f" is {_percent(abs(worse))} {'worse' if worse > 0 else 'better'} than the baseline's"
    words += f", {_percent(margin)} worse is allowed; a share of {_percent(seen_share(len(fast), q))} slower requests"
    words += " would be seen in 9 of 10 cases"
    if worse <= margin:
        return Checked("p99_tpot", "held", worse, margin, words)

    def more(base: Cell, cand: Cell) -> float | None:
        sides_ = [values(cell, tpot) for cell in (base, cand)]
        if not all(sides_):
            return None
        shares = [sum(1 for value in side if value > limit) / len(side) for side in sides_]
        return shares[1] - shares[0]

    pairs = [BlockPair(log.block, log.value, log.starts, {}) for log in block_logs(sides.base, sides.cand, more)]
    estimate = sides.rule.alone().estimate(pairs, fixed=True) if len(pairs) >= ENOUGH_BLOCKS else None
    if estimate is not None and estimate.mean > estimate.half_width(sides.alpha):
        return Checked("p99_tpot", "failed", worse, margin, f"{words}; over {data_blocks(pairs)} it is no chance")
    return Checked("p99_tpot", "unsettled", worse, margin, f"{words}; {data_blocks(pairs)} cannot exclude chance")


def seen_share(requests: int, q: float) -> float:
    """The share of slow requests that would put an arm's quantile `q` among them in nine cases of ten (binomial)."""
    from scipy import special

    return float(special.bdtri(math.floor((1 - q) * (requests - 1)), requests, 0.1))


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


def forgetting(general: Sides, limits: Thresholds, gain: float) -> Checked:
    """Median TPOT on general traffic: what the draft unlearned while it was tailored.

    A narrow draft is slower on foreign traffic, always. The rule: general traffic may lose at most the share of its time
    per token that own traffic saves, and 10 % (`forgetting_margin`) in any case. A gain of 1.2x saves 17 %, so general
    traffic may be 17 % slower; a gain of 2x saves 50 %.
    """
    margin = max(limits.forgetting_margin, -math.expm1(-gain))
    slow, fast = (values(general.trials(side), tpot) for side in ("base", "cand"))
    if min(len(slow), len(fast)) < ENOUGH_REQUESTS:
        return _unmeasured(
            "forgetting", margin, "general traffic was not measured, or on fewer than 20 requests an arm"
        )
    observed = _over(quantile_of(fast, 0.5), quantile_of(slow, 0.5))
    return _ratio(
        "forgetting", "median TPOT on general traffic", general, observed, lambda b, c: paired_log(c, b, tpot), margin
    )


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
    judgement = sides.judge(measure)
    if observed is None or judgement is None:
        blocks_measured = len(block_logs(sides.base, sides.cand, measure))
        return _unmeasured(name, margin, f"{label} needs {ENOUGH_BLOCKS} blocks, there are {blocks_measured}")
    width, mean, over = judgement.half_width(sides.alpha), judgement.mean, data_blocks(range(judgement.blocks))
    limit = math.log1p(margin)
    worse = observed - 1
    words = f"{label} is {_percent(abs(worse))} {'worse' if worse > 0 else 'better'} than the baseline's"
    words += f", {_percent(margin)} worse is allowed"
    if worse <= margin:
        shown = "shown by the interval too" if mean + width <= limit else "not contradicted by the interval"
        return Checked(name, "held", worse, margin, f"{words}; {shown}")
    if mean - width > limit:
        return Checked(name, "failed", worse, margin, f"{words}; the interval over {over} excludes chance")
    return Checked(name, "unsettled", worse, margin, f"{words}; {over} cannot exclude chance")


def _count(name: str, label: str, sides: Sides, count: Callable[[list[Trial]], int], margin: float) -> Checked:
    """A count guard: events per request may exceed the baseline's by `margin`; one event alone is never held against."""
    from scipy import special

    base, cand = sides.trials("base"), sides.trials("cand")
    requests = [sum(len(trial.samples) for trial in rows) for rows in (base, cand)]
    events = [count(base), count(cand)]
    excess = events[1] / requests[1] - events[0] / requests[0]
    words = f"{events[1]} {label} in {requests[1]} requests against {events[0]} in {requests[0]}"
    words += f", {_percent(margin)} more is allowed"
    expected = (events[0] / requests[0] + margin) * requests[1]
    if events[1] <= max(1.0 + events[0] * requests[1] / requests[0], expected):
        return Checked(name, "held", excess, margin, words)
    # Chance of at least so many events if the candidate were exactly at the limit (Poisson).
    chance = 1.0 - float(special.pdtr(events[1] - 1, expected))
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
    all_counters: list[SpecCounters] = [trial.counters for trial in trials]
    total = sum(counters.server_tpot_sum_s or 0.0 for counters in all_counters)
    number = sum(counters.server_tpot_count or 0 for counters in all_counters)
    return total / number if number and total > 0 else None


def _client_mean(trials: Sequence[Trial]) -> float | None:
    """The client's mean over what the engine averages: vLLM's answers, where one token counts as zero time per token, or
    SGLang's tokens."""
    good = [sample for trial in trials for sample in trial.samples if sample.error is None]
    counted = sum(trial.counters.server_tpot_count or 0 for trial in trials)
    later = sum((sample.output_tokens or 1) - 1 for sample in good)
    if counted > len(good) and abs(counted - later) <= COUNTS_TOKENS * later:
        times = [(s.latency_s - s.ttft_s) for s in good if s.latency_s is not None and s.ttft_s is not None]
        return sum(times) / later
    defined = [value for sample in good if (value := sample.tpot_s) is not None]
    number = len(good) if counted == len(good) else len(defined)
    return sum(defined) / number if defined else None


def data_blocks(logs: Sequence[object]) -> str:
    """`3 blocks`, `1 block`."""
    return f"{len(logs)} block{'s' if len(logs) != 1 else ''}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
