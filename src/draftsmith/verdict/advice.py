"""What to do at each concurrency, in one sentence with its numbers: keep, try something untrained, train, or leave it. Pure.

Speeds are against no speculation. A method is worth trying if it is expected to beat what serves (or no speculation) by the
smallest gain worth claiming. Whether it does is for the comparison to say, never for this page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from draftsmith.contract.plan import Acceptance, Action, Forecast, Need, PointPlan, StepSample
from draftsmith.contract.profile import ExpectedAcceptance, Recommendation
from draftsmith.contract.speculation import read
from draftsmith.contract.verdict import Interval
from draftsmith.verdict.break_even import (
    CostModel,
    acceptance_length,
    drafted_ngram_ratio,
    length_at,
    per_token_for,
    plain_step,
)

CHANCES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_PLAUSIBLE = 0.9
"""Per-token acceptance beyond which no draft is expected to get: the best matched drafts seen so far stay below."""
DRAFTED = frozenset({"eagle", "eagle3"})
BEYOND = 2
"""Positions behind the measured ones for which acceptance is continued: as far as a comparison tries K."""


@dataclass(frozen=True)
class Situation:
    """What is known beside the costs. `standing_positions`: measured acceptance of the draft that serves now."""

    recommended: Recommendation
    expected: tuple[ExpectedAcceptance, ...]
    acceptance: Acceptance
    min_gain: float
    standing: dict[str, Any] | None = None
    standing_positions: tuple[float, ...] = ()
    has_mtp: bool = False
    suffix_installed: bool = False


def point_plan(model: CostModel, samples: Sequence[StepSample], concurrency: int, at: Situation) -> PointPlan:
    """Everything that is said of one concurrency."""
    trainless = tuple(_trainless(model, samples, concurrency, at))
    standing = _standing(model, concurrency, at, trainless)
    tuned = _tuned(model, concurrency, at) if standing and standing.speedup else None
    bar = max(1.0, (standing.speedup or 1.0) if standing else 1.0, (tuned.speedup or 1.0) if tuned else 1.0)
    needs = tuple(_need(model.ratio(concurrency, k), k, bar * (1 + at.min_gain)) for k in model.ks)
    draft = draft_forecast(model, concurrency, at.acceptance)
    action, sentence = _decide(at, concurrency, needs, draft, trainless, standing, tuned, bar)
    return PointPlan(
        concurrency=concurrency,
        plain_tpot_s=plain_step(samples, concurrency),
        needs=needs,
        best_k=draft.k,
        k_by_acceptance={f"{p:g}": _best_k(model, concurrency, p) for p in CHANCES},
        standing=standing,
        draft=draft,
        trainless=trainless,
        advice=action,
        sentence=sentence,
    )


def speed(model: CostModel, concurrency: int, k: int, length: float, relative_error: float | None = None) -> Interval:
    """Speed against no speculation of a draft with this AL. `relative_error`: half of the interval of AL over AL."""
    cost = model.ratio(concurrency, k)
    half = math.hypot(math.log(cost.high / cost.value), relative_error or 0.0)
    value = length / cost.value
    return Interval(value=value, low=value * math.exp(-half), high=value * math.exp(half), confidence=model.confidence)


def draft_forecast(model: CostModel, concurrency: int, acceptance: Acceptance) -> Forecast:
    """A trained draft at its fastest K; without figures where nothing is known of its acceptance."""
    if not acceptance.by_position:
        return Forecast(method="draft", basis=acceptance.sentence)
    best = fastest(model, concurrency, acceptance.by_position)
    length = length_at(acceptance.by_position, best)
    expected = speed(model, concurrency, best, length, acceptance.relative_error)
    return Forecast(
        method="draft",
        k=best,
        tokens_per_step=length,
        speedup=expected.value,
        low=expected.low,
        high=expected.high,
        basis=acceptance.sentence,
    )


def fastest(model: CostModel, concurrency: int, by_position: Sequence[float]) -> int:
    """The K that is fastest at this acceptance, of those that were measured and that the acceptance speaks for."""
    within = [k for k in model.ks if k <= len(by_position) + BEYOND] or [model.ks[0]]
    return max(within, key=lambda k: length_at(by_position, k) / model.ratio(concurrency, k).value)


def _tuned(model: CostModel, concurrency: int, at: Situation) -> Forecast | None:
    """The draft that serves, at its fastest K: what a new draft has to beat, since K needs no training."""
    standing = read(at.standing)
    if standing is None or standing.method not in DRAFTED or not at.standing_positions:
        return None
    k = fastest(model, concurrency, at.standing_positions)
    length = length_at(at.standing_positions, k)
    expected = speed(model, concurrency, k, length)
    return Forecast(method="draft", k=k, tokens_per_step=length, speedup=expected.value, basis="the standing draft")


def _need(cost: Interval, k: int, factor: float) -> Need:
    win = Interval(
        value=cost.value * factor, low=cost.low * factor, high=cost.high * factor, confidence=cost.confidence
    )
    return Need(k=k, break_even=cost, to_win=win, per_token=per_token_for(win.value, k))


def _best_k(model: CostModel, concurrency: int, per_token: float) -> int:
    speedups = {k: acceptance_length(per_token, k) / model.ratio(concurrency, k).value for k in model.ks}
    best = max(speedups, key=lambda k: speedups[k])
    return best if speedups[best] > 1 else 0


def _trainless(model: CostModel, samples: Sequence[StepSample], concurrency: int, at: Situation) -> list[Forecast]:
    """n-gram at the K that was measured; suffix at the cost of an n-gram step, which flatters it: it drafts more."""
    at_load = [s for s in samples if s.method == "ngram" and s.concurrency == concurrency]
    cost = drafted_ngram_ratio(samples, concurrency)
    forecasts = []
    for row in at.expected:
        if row.method == "ngram" and at_load and row.num_speculative_tokens != at_load[0].k:
            continue
        rate = 1.0 if row.draft_rate is None else row.draft_rate
        if cost is None or row.tokens_per_step is None:
            why = "n-gram steps were not measured" if not at_load else "too few n-gram steps had a proposal"
            forecasts.append(Forecast(method=row.method, k=row.num_speculative_tokens,
                                      tokens_per_step=row.tokens_per_step, basis=f"cost not known: {why}"))  # fmt: skip
            continue
        step = 1 + rate * (cost - 1)
        half = 2 * model.noise / math.sqrt(len(at_load))
        value = row.tokens_per_step / step
        basis = f"{row.tokens_per_step:.2f} tokens a step by replay of the log, a step costs {step:.2f} plain ones"
        if row.method == "suffix":
            basis += " (at the cost of an n-gram step, which is optimistic)"
            basis += "" if at.suffix_installed else "; its package is not installed here"
        forecasts.append(
            Forecast(
                method=row.method,
                k=row.num_speculative_tokens,
                tokens_per_step=row.tokens_per_step,
                speedup=value,
                low=value * math.exp(-half),
                high=value * math.exp(half),
                basis=basis,
                usable=row.method != "suffix" or at.suffix_installed,
            )
        )
    return forecasts


def _standing(model: CostModel, concurrency: int, at: Situation, trainless: Sequence[Forecast]) -> Forecast | None:
    standing = read(at.standing)
    if standing is None:
        return None
    method, k = str(standing.method), standing.k
    if method in ("ngram", "suffix"):
        return next((f for f in trainless if f.method == method), Forecast(method=method, basis="not in the profile"))
    if method in DRAFTED and k in model.ks and at.standing_positions:
        length = length_at(at.standing_positions, k)
        expected = speed(model, concurrency, k, length)
        basis = f"AL {length:.2f} as its own run measured it"
        return Forecast(method=method, k=k, tokens_per_step=length, speedup=expected.value, low=expected.low,
                        high=expected.high, basis=basis)  # fmt: skip
    basis = "its acceptance is not known here, so every gain is counted against no speculation"
    return Forecast(method=method, k=k if isinstance(k, int) else None, basis=basis)


def _decide(
    at: Situation,
    concurrency: int,
    needs: Sequence[Need],
    draft: Forecast,
    trainless: Sequence[Forecast],
    standing: Forecast | None,
    tuned: Forecast | None,
    bar: float,
) -> tuple[Action, str]:
    where, wanted = f"at concurrency {concurrency}", bar * (1 + at.min_gain)
    against = f"what serves ({standing.method}, {bar:.2f}x)" if standing and standing.speedup else "no speculation"
    if at.recommended.method == "none":
        return "keep", f"{where} nothing is worth trying: {at.recommended.rationale}"
    easiest = min((n for n in needs if n.per_token is not None), key=lambda n: n.per_token or 0.0, default=None)
    if easiest is None:
        least = needs[-1]
        return "nothing", (
            f"{where} a draft would need AL {least.to_win.value:.2f} with K = {least.k}, and even full acceptance "
            f"gives {least.k + 1}: the batch leaves no room"
        )
    usable = [f for f in trainless if f.speedup is not None and f.usable]
    free = max(usable, key=lambda f: f.speedup or 0.0, default=None)
    free_speed = (free.speedup or 0.0) if free else 0.0
    spread = "" if at.acceptance.relative_error is not None else ", its spread not known"
    if draft.speedup is not None and draft.speedup >= max(wanted, free_speed * (1 + at.min_gain)):
        return "train", (
            f"{where} a matched draft is expected to reach {_times(draft)} of no speculation with K = {draft.k} "
            f"(AL {draft.tokens_per_step:.2f}{spread}, break-even {_cost(needs, draft.k):.2f}); {against} asks for {wanted:.2f}x"
            + (f", and {free.method} is expected at {free_speed:.2f}x" if free else "")
        )
    if free and free_speed >= wanted:
        action: Action = "ngram" if free.method == "ngram" else "suffix"
        known = f"a draft is expected at {draft.speedup:.2f}x" if draft.speedup else "of a draft nothing is known"
        return (
            action,
            f"{where} {free.method} is expected to reach {_times(free)} without training ({free.basis}); {known}",
        )
    if at.has_mtp:
        return "mtp", (
            f"{where} the target has prediction heads of its own: measure them first, they cost no training; a draft "
            f"would need AL {easiest.to_win.value:.2f} with K = {easiest.k}"
        )
    if draft.speedup is not None:
        tried = f"{where} a draft is expected at {_times(draft)} with K = {draft.k}, {against} asks for {wanted:.2f}x"
        if tuned and standing and tuned.k != standing.k:
            tried += (
                f"; the standing draft with K = {tuned.k} instead of {standing.k} is expected at {tuned.speedup:.2f}x"
            )
        return ("keep", tried) if at.standing else ("nothing", tried)
    requested = (
        f"AL {easiest.to_win.value:.2f} [{easiest.to_win.low:.2f}, {easiest.to_win.high:.2f}] with K = {easiest.k}, "
        f"{easiest.per_token:.0%} of the next tokens right"
    )
    if (easiest.per_token or 0.0) > MOST_PLAUSIBLE:
        return "nothing", f"{where} a draft would need {requested}, which no matched draft has reached so far"
    rest = f"; {free.method} is expected at only {free_speed:.2f}x" if free else ""
    return "train", f"{where} a draft wins from {requested}{rest}; what it will reach is not known beforehand"


def _times(forecast: Forecast) -> str:
    span = f" [{forecast.low:.2f}, {forecast.high:.2f}]" if forecast.low is not None else ""
    return f"{forecast.speedup:.2f}x{span}"


def _cost(needs: Sequence[Need], k: int | None) -> float:
    return next(n.break_even.value for n in needs if n.k == k)
