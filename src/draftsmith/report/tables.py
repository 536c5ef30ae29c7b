"""Tables of a comparison: arms, load, answers, guards. Each takes the parts; None if there is nothing to show."""

from __future__ import annotations

from collections import Counter

from draftsmith.report.cells import TONE, Cell, Table, table
from draftsmith.report.numbers import DASH, count, milliseconds, percent, ratio, significant
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import request_lengths
from draftsmith.report.svg import arm_slots
from draftsmith.verdict.divergence import divergences


def arms(parts: ReportParts) -> Table | None:
    """Every arm at every point, with its outcome."""
    if parts.decision is None:
        return None
    slots = arm_slots(parts.arms)
    rows = []
    for row in parts.decision.arms:
        pair = parts.pair(row.arm, row.point)
        base = parts.plan is not None and row.arm == parts.plan.baseline
        speed = pair.speedup if pair else None
        verdict = Cell("baseline", tone="soft") if base else Cell(DASH)
        if pair:
            verdict = Cell(pair.outcome, tone=TONE[pair.outcome])
        rows.append(
            (
                Cell(row.arm, arm=slots.get(row.arm), detail=_config_words(parts, row.arm)),
                row.point,
                f"{row.trials} / {count(row.requests)}",
                Cell(count(row.errors), tone="loss" if row.errors else None),
                milliseconds(row.median_tpot_s),
                milliseconds(row.p99_tpot_s),
                milliseconds(row.server_mean_tpot_s),
                milliseconds(row.median_ttft_s),
                significant(row.throughput_tok_s),
                f"{row.acceptance_length:.2f}" if row.acceptance_length else DASH,
                f"{row.tokens_per_step:.2f}" if row.tokens_per_step else DASH,
                Cell(
                    ratio(speed.value) if speed else DASH,
                    detail=f"{speed.low:.3f} to {speed.high:.3f}" if speed else "",
                ),
                verdict,
            )
        )
    head = (
        "arm",
        "point",
        "trials / requests",
        "errors",
        "TPOT median, ms",
        "TPOT p99, ms",
        "server mean, ms",
        "TTFT median, ms",
        "output, tok/s",
        "AL",
        "tokens / step",
        "speed-up",
        "outcome",
    )
    return table(head, rows, range(2, 12))


def answers(parts: ReportParts) -> Table | None:
    """How often an arm answers other than the baseline, beside the baseline against itself."""
    slots = arm_slots(parts.arms)
    rows = [
        (
            Cell(divergence.arm, arm=slots.get(divergence.arm.removesuffix(" (A/A)"))),
            divergence.point,
            count(divergence.compared),
            Cell(count(divergence.differing), tone="open" if divergence.beyond_noise else None),
            percent(divergence.share),
            DASH if divergence.first is None else f"{divergence.first:.0f}",
            "more than equal servers differ"
            if divergence.beyond_noise
            else ("equal servers" if "(A/A)" in divergence.arm else ""),
        )
        for divergence in (divergences(parts.plan, parts.good_trials) if parts.plan else ())
    ]
    head = ("arm", "point", "pairs of answers", "differ", "share", "first token that differs, median", "remark")
    return table(head, rows, range(2, 6))


def resources(parts: ReportParts) -> Table | None:
    """What every arm held at every point: requests in flight, KV cache, preemptions, errors by kind, cached tokens."""
    slots = arm_slots(parts.arms)
    rows = []
    for point in parts.points:
        for arm in parts.arms:
            trials = [trial for trial in parts.at(point.name) if trial.arm == arm.name]
            summary = parts.summary(arm.name, point.name)
            if not trials or summary is None:
                continue
            samples = [sample for trial in trials for sample in trial.samples]
            kinds = Counter(sample.error for sample in samples if sample.error)
            cached = [sample.cached_tokens for sample in samples if sample.cached_tokens is not None]
            prompt_tokens = sum(sample.prompt_tokens or 0 for sample in samples if sample.cached_tokens is not None)
            lengths = sorted(request_lengths(trials))
            spread = [f"{lengths[int(q * (len(lengths) - 1))]:.2f}" for q in (0.1, 0.5, 0.9)] if lengths else []
            rows.append(
                (
                    Cell(arm.name, arm=slots.get(arm.name)),
                    point.name,
                    " / ".join(sorted({str(trial.peak_concurrency) for trial in trials}, key=int)),
                    count(summary.kv_tokens),
                    Cell(count(summary.preemptions), tone="loss" if summary.preemptions else None),
                    ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(3)) or "none",
                    percent(sum(cached) / prompt_tokens) if prompt_tokens else DASH,
                    " / ".join(spread) or DASH,
                )
            )
    head = (
        "arm",
        "point",
        "peak in flight",
        "KV cache, tokens",
        "preemptions",
        "errors",
        "prompt tokens from the prefix cache",
        "AL of a request, p10 / p50 / p90",
    )
    return table(head, rows, (2, 3, 4, 6, 7))


def load(parts: ReportParts) -> Table | None:
    """How requests were sent at each point, and with which parameters."""
    plan = parts.plan
    if plan is None:
        return None
    seen = ", ".join(
        f"{name} {' or '.join(list(values)[:4])}{' ...' if len(values) > 4 else ''}"
        for name, values in plan.sampling_seen.items()
    )
    rows = []
    for point in parts.points:
        how = f"closed loop, {point.concurrency} in flight"
        if point.arrivals_s:
            how = f"open loop, recorded arrivals over {significant(point.arrivals_s[-1])} s"
        elif point.rate_per_s:
            how = f"open loop, {significant(point.rate_per_s)} requests per s"
        forced = ", ".join(f"{name} {value}" for name, value in point.sampling.items() if not isinstance(value, str))
        rows.append(
            (
                Cell(point.name, detail="primary" if point.name == parts.primary else ""),
                how,
                f"at most {point.max_tokens} tokens" if point.max_tokens else "as in the traffic",
                f"set to {forced}" if forced else (seen or "greedy, unless the traffic says otherwise"),
                f"{plan.cache_regime} prefix cache; servers {'together' if plan.resident else 'one at a time'}, "
                + ("started anew for each block or few" if plan.restarts else "started once"),
            )
        )
    return table(("point", "requests", "answers", "sampling", "servers"), rows)


def guards(parts: ReportParts) -> Table | None:
    """What a faster median must not have cost, per candidate at the primary point."""
    slots = arm_slots(parts.arms)
    pairs = parts.decision.pairs if parts.decision else ()
    marks = {True: Cell("held", tone="win"), False: Cell("failed", tone="loss"), None: Cell("unknown", tone="open")}
    rows = [
        (
            Cell(pair.candidate, arm=slots.get(pair.candidate)),
            guard.name.replace("_", " "),
            marks[guard.passed],
            percent(guard.observed) if guard.observed is not None else DASH,
            percent(guard.limit) if guard.limit is not None else DASH,
            guard.sentence,
        )
        for pair in pairs
        if pair.point == parts.primary and (parts.leading is None or pair.candidate == parts.leading.name)
        for guard in pair.guards
    ]
    return table(("arm", "guard", "state", "observed", "limit", "in words"), rows, (3, 4))


def _config_words(parts: ReportParts, name: str) -> str:
    arm = next((a for a in parts.arms if a.name == name), None)
    if arm is None:
        return ""
    speculation = arm.speculation
    if not speculation or not speculation.config:
        return "no speculation"
    return f"{speculation.method or 'speculation'}{f', K={speculation.k}' if speculation.k else ''}"
