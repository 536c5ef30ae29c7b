"""The plans of several engines side by side: which engine, method and K is expected to answer fastest. Pure.

Each plan was measured alone, its engine's plain server beside its drafted ones: what the engines differ by is a difference between
starts, which no pair takes out. So one is chosen only if it is ahead of every other engine by the smallest gain worth claiming,
with the whole of its interval. It is a forecast: one comparison of both decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from draftsmith.contract.errors import InputError
from draftsmith.contract.plan import Across, AcrossPoint, Bar, Option, Plan, PointPlan
from draftsmith.verdict.break_even import per_token_for

PLAIN = "none"


def across(plans: Mapping[str, Plan]) -> Across:
    """What to serve with, by engine. Raises InputError for plans of other targets, traffic or machines, or without a common load."""
    every = list(plans.values())
    first = every[0]
    for name, plan in plans.items():
        differs = _differs(first, plan)
        if differs:
            raise InputError(
                f"the plan of {name} is of another {differs}: it cannot be set beside that of {next(iter(plans))}",
                "make the plans of all engines by one command",
            )
    loads = sorted(set.intersection(*({point.concurrency for point in plan.points} for plan in every)))
    if not loads:
        raise InputError("the plans have no concurrency in common", "make them by one command")
    gain = max(plan.min_gain for plan in every)
    points = tuple(_point(plans, load, gain) for load in loads)
    primary = first.primary if first.primary in loads else loads[0]
    return Across(
        target_sha256=first.target_sha256,
        profile_sha256=first.profile_sha256,
        engines={name: plan.context.engine for name, plan in plans.items()},
        min_gain=gain,
        primary=primary,
        points=points,
        sentence=next(point.sentence for point in points if point.concurrency == primary),
    )


def _differs(a: Plan, b: Plan) -> str | None:
    if a.target_sha256 != b.target_sha256:
        return "target"
    if a.profile_sha256 != b.profile_sha256:
        return "traffic"
    return "machine" if a.context.hardware != b.context.hardware else None


def _point(plans: Mapping[str, Plan], load: int, gain: float) -> AcrossPoint:
    options: list[Option] = []
    unknown: list[tuple[str, PointPlan]] = []
    for name, plan in plans.items():
        point = next(point for point in plan.points if point.concurrency == load)
        options += _options(name, point, plan.fit.noise)
        if point.draft.speedup is None:
            unknown.append((name, point))
    options.sort(key=lambda option: option.tpot_s)
    best = options[0]
    bars = tuple(bar for name, point in unknown if (bar := _bar(name, point, best)) is not None)
    rivals = [option for option in options if option.engine != best.engine]
    clear = all(best.high_s * (1 + gain) <= rival.tpot_s for rival in rivals)
    return AcrossPoint(
        concurrency=load,
        options=tuple(options),
        bars=bars,
        chosen=best if clear else None,
        sentence=_sentence(load, best, rivals, bars, gain, clear=clear),
    )


def _options(engine: str, point: PointPlan, noise: float) -> list[Option]:
    """No speculation, and every method whose speed is known and that could be used."""
    plain = point.plain_tpot_s
    options = [Option(engine=engine, method=PLAIN, tpot_s=plain, low_s=plain * math.exp(-2 * noise),
                    high_s=plain * math.exp(2 * noise), basis="measured")]  # fmt: skip
    for forecast in (point.draft, *point.trainless):
        if forecast.speedup is None or not forecast.usable:
            continue
        value, low, high = forecast.speedup, forecast.low or forecast.speedup, forecast.high or forecast.speedup
        options.append(Option(engine=engine, method=forecast.method, k=forecast.k, tpot_s=plain / value, low_s=plain / high,
                            high_s=plain / low, basis=forecast.basis))  # fmt: skip
    return options


def _bar(engine: str, point: PointPlan, best: Option) -> Bar | None:
    """The K at which a draft has it easiest."""
    bars = []
    for need in point.needs:
        length = need.break_even.value * point.plain_tpot_s / best.tpot_s
        bars.append(Bar(engine=engine, k=need.k, acceptance_length=length, per_token=per_token_for(length, need.k)))
    within = [bar for bar in bars if bar.per_token is not None]
    return min(within, key=lambda bar: bar.per_token or 0.0, default=bars[-1] if bars else None)


def _sentence(
    load: int, best: Option, rivals: Sequence[Option], bars: Sequence[Bar], gain: float, *, clear: bool
) -> str:
    rest = "".join(
        f"; of a draft on {bar.engine} nothing is known: it is ahead from AL {bar.acceptance_length:.2f} with K = {bar.k}"
        for bar in bars
        if bar.per_token is not None
    )
    if clear and rivals:
        text = f"at concurrency {load} {_named(best)} is expected to be fastest, before {_named(rivals[0])}{rest}"
    elif rivals:
        text = (
            f"at concurrency {load} no engine stands out: {_named(best)} is ahead of {_named(rivals[0])} by less than {gain:.0%} "
            f"and what is not known of it{rest}"
        )
    else:
        text = f"at concurrency {load} {_named(best)} is expected to be fastest{rest}"
    return text


def _named(option: Option) -> str:
    how = (
        "without speculation"
        if option.method == PLAIN
        else f"with {option.method}" + (f", K = {option.k}" if option.k else "")
    )
    return f"{option.engine} {how} ({option.tpot_s * 1000:.2f} ms a token)"
