"""The tables of a report. Each takes the parts and returns a Table, or None if there is nothing to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.report.numbers import (
    DASH,
    count,
    duration,
    milliseconds,
    percent,
    ratio,
    significant,
    sol_shares,
)
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import request_lengths
from draftsmith.report.svg import arm_slots
from draftsmith.verdict.divergence import divergences


@dataclass(frozen=True)
class Cell:
    """One cell. `arm`: colour slot of a marker before the text; `tone`: win, loss, open or soft; `share`: a bar, 0 to 1."""

    text: str
    arm: int | None = None
    tone: str | None = None
    share: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """`numeric`: which columns are set to the right. Units stand in the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell | str]], numeric: Sequence[int] = ()) -> Table | None:
    if not rows:
        return None
    cells = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
    return Table(tuple(head), cells, frozenset(numeric))


TONE = {"WIN": "win", "LOSS": "loss", "INCONCLUSIVE": "open"}


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
    return _table(head, rows, range(2, 12))


def answers(parts: ReportParts) -> Table | None:
    """How often an arm answers other than the baseline, beside the baseline against itself."""
    slots = arm_slots(parts.arms)
    rows = [
        (
            Cell(one.arm, arm=slots.get(one.arm.removesuffix(" (A/A)"))),
            one.point,
            count(one.compared),
            Cell(count(one.differing), tone="open" if one.beyond_noise else None),
            percent(one.share),
            DASH if one.first is None else f"{one.first:.0f}",
            "more than equal servers differ" if one.beyond_noise else ("equal servers" if "(A/A)" in one.arm else ""),
        )
        for one in (divergences(parts.plan, parts.good_trials) if parts.plan else ())
    ]
    head = ("arm", "point", "pairs of answers", "differ", "share", "first token that differs, median", "remark")
    return _table(head, rows, range(2, 6))


def resources(parts: ReportParts) -> Table | None:
    """What every arm held at every point: requests in flight, KV cache, preemptions, errors by kind, cached tokens."""
    slots = arm_slots(parts.arms)
    rows = []
    for point in parts.points:
        for arm in parts.arms:
            trials = [trial for trial in parts.at(point.name) if trial.arm == arm.name]
            told = parts.summary(arm.name, point.name)
            if not trials or told is None:
                continue
            samples = [sample for trial in trials for sample in trial.samples]
            kinds = Counter(sample.error for sample in samples if sample.error)
            cached = [sample.cached_tokens for sample in samples if sample.cached_tokens is not None]
            asked = sum(sample.prompt_tokens or 0 for sample in samples if sample.cached_tokens is not None)
            lengths = sorted(request_lengths(trials))
            spread = [f"{lengths[int(q * (len(lengths) - 1))]:.2f}" for q in (0.1, 0.5, 0.9)] if lengths else []
            rows.append(
                (
                    Cell(arm.name, arm=slots.get(arm.name)),
                    point.name,
                    " / ".join(sorted({str(trial.peak_concurrency) for trial in trials}, key=int)),
                    count(told.kv_tokens),
                    Cell(count(told.preemptions), tone="loss" if told.preemptions else None),
                    ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(3)) or "none",
                    percent(sum(cached) / asked) if asked else DASH,
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
    return _table(head, rows, (2, 3, 4, 6, 7))


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
    return _table(("point", "requests", "answers", "sampling", "servers"), rows)


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
    return _table(("arm", "guard", "state", "observed", "limit", "in words"), rows, (3, 4))


def engine_facts(parts: ReportParts) -> Table | None:
    """What the engine's log said, per arm; a field in which starts of one arm differ shows all values."""
    if not parts.facts:
        return None
    by_arm: dict[str, list[object]] = {}
    for arm, fact in parts.facts:
        by_arm.setdefault(arm, []).append(fact)

    def told(name: str, field: str) -> Cell:
        found = [getattr(fact, field) for fact in by_arm[name]]
        words = sorted({_word(value) for value in found})
        return Cell(" / ".join(words), tone="open" if len(words) > 1 and field != "kv_tokens" else None)

    names = list(by_arm)
    fields = (
        ("version", "version"),
        ("device", "device"),
        ("dtype", "dtype"),
        ("eager mode", "enforce_eager"),
        ("compile mode", "compile_mode"),
        ("graph mode", "graph_mode"),
        ("model runner", "runner"),
        ("max model length, tokens", "max_model_len"),
        ("max sequences", "max_num_seqs"),
        ("prefix caching", "prefix_caching"),
        ("KV cache, tokens", "kv_tokens"),
        ("speculation method", "spec_method"),
        ("draft tokens (K)", "num_speculative_tokens"),
        ("shared weights", "sharing"),
        ("warnings", "warnings"),
    )
    rows: list[list[Cell | str]] = [["server starts", *(str(len(by_arm[name])) for name in names)]]
    rows += [[label, *(told(name, field) for name in names)] for label, field in fields]
    rows = [row for row in rows if any((c.text if isinstance(c, Cell) else c) != "not said" for c in row[1:])]
    return _table(("", *names), rows)


def corpus(parts: ReportParts) -> Table | None:
    """The splits of the corpus."""
    if parts.corpus is None:
        return None
    coverage = parts.corpus.vocabulary.coverage if parts.corpus.vocabulary else {}
    rows = [
        (name, count(s.rows), count(s.prompt_tokens), count(s.answer_tokens), percent(coverage.get(name), 4))
        for name, s in parts.corpus.splits.items()
    ]
    return _table(("split", "rows", "prompt tokens", "answer tokens", "draft vocabulary holds"), rows, (1, 2, 3, 4))


def corpus_facts(parts: ReportParts) -> Table | None:
    """What was refused, cut, made anew, and how the split was drawn."""
    told = parts.corpus
    if told is None:
        return None
    rows: list[tuple[str, str]] = [(f"refused: {reason}", f"{count(n)} rows") for reason, n in told.dropped.items()]
    rows += [(f"cut: {reason}", f"{count(n)} rows") for reason, n in told.cut.items()]
    if told.regenerated:
        rows.append(("answers made anew by the target", f"{count(told.regenerated)} rows"))
    if told.vocabulary:
        v = told.vocabulary
        rows.append(("draft vocabulary", f"{count(v.size)} tokens"))
        rows.append(("distinct answer tokens", f"{count(v.distinct_answer_tokens)} tokens"))
    rows.append(("longest row", f"{count(told.max_length)} tokens"))
    rows.append(("split by", " and ".join(told.split_by)))
    if told.capture_bytes_estimate:
        rows.append(("hidden states to capture", f"{significant(told.capture_bytes_estimate / 1e9)} GB"))
    return _table(("fact", "value"), rows, (1,))


def draft(parts: ReportParts) -> Table | None:
    """The draft's own facts."""
    told = parts.draft
    if told is None:
        return None
    rows = [
        ("method", told.method),
        ("target layers read", f"{', '.join(map(str, told.layer_ids))} ({told.layer_convention.replace('_', ' ')})"),
        ("hidden size", count(told.hidden_size)),
        ("vocabulary, draft of target", f"{count(told.draft_vocab_size)} of {count(told.target_vocab_size)} tokens"),
        ("own embeddings / own output head", f"{_word(told.has_own_embeddings)} / {_word(told.has_own_lm_head)}"),
        ("trainer", told.trainer),
        ("chosen epoch", DASH if told.epoch is None else str(told.epoch + 1)),
        ("validation acceptance by position", ", ".join(percent(a) for a in told.validation_acceptance) or DASH),
        ("tokens trained on", count(told.trained_tokens)),
        ("started from", told.warm_start_from or "nothing"),
        ("weights, sha256", f"{told.weights_sha256[:16]}…" if told.weights_sha256 else DASH),
    ]
    return _table(("fact", "value"), rows)


def speed_of_light(parts: ReportParts) -> Table | None:
    """How near each arm comes to the memory-traffic floor of TPOT."""
    slots = arm_slots(parts.arms)
    rows = [
        (
            Cell(s.arm, arm=slots.get(s.arm)),
            s.point,
            significant(s.bytes_per_step / 1e6),
            f"{s.tokens_per_step:.2f}",
            milliseconds(s.floor_s),
            milliseconds(s.measured_s),
            Cell(f"{100 * s.share:.1f} %", share=min(1.0, s.share), tone="loss" if s.share > 1 else None),
        )
        for s in sol_shares(parts)
    ]
    head = (
        "arm",
        "point",
        "read per step, MB",
        "tokens / step",
        "floor of TPOT, ms",
        "measured, ms",
        "share of ceiling",
    )
    return _table(head, rows, (2, 3, 4, 5))


def timings(parts: ReportParts) -> Table | None:
    """Where the wall time went."""
    total = sum(t.wall_s for t in parts.timings)
    if not total:
        return None
    rows: list[tuple[Cell | str, ...]] = [
        (t.phase, duration(t.wall_s), Cell(percent(t.wall_s / total, 2), share=t.wall_s / total), t.note)
        for t in parts.timings
    ]
    rows.append(("all phases", duration(total), Cell("100 %", share=None), ""))
    return _table(("phase", "wall time", "share of the run", "note"), rows, (1,))


def trainless(parts: ReportParts) -> Table | None:
    """What replaying the log says of methods that need no training."""
    profile = parts.profile
    if profile is None:
        return None
    rows = [
        (
            name,
            e.method,
            str(e.num_speculative_tokens),
            f"{e.acceptance_length:.2f}" if e.acceptance_length else DASH,
            f"{e.tokens_per_step:.2f}" if e.tokens_per_step else DASH,
            percent(e.draft_rate),
            count(e.output_tokens),
        )
        for name, found in [("all traffic", profile.expected_acceptance)]
        + [(c.name, c.expected_acceptance) for c in profile.classes]
        for e in found
    ]
    head = ("traffic", "method", "K", "AL", "tokens / step", "steps with a proposal", "simulated tokens")
    return _table(head, rows, range(2, 7))


def traffic(parts: ReportParts) -> Table | None:
    """Lengths, arrivals and the like, as profiled."""
    profile = parts.profile
    if profile is None:
        return None
    rows: list[tuple[str, ...]] = []
    for label, d in (("input, tokens", profile.input_tokens), ("output, tokens", profile.output_tokens)):
        rows.append((label, *(significant(v) for v in (d.mean, d.p50, d.p90, d.p99, d.max))))
    return _table(("length", "mean", "p50", "p90", "p99", "max"), rows, range(1, 6))


def traffic_facts(parts: ReportParts) -> Table | None:
    """Other facts of the log that decide what speculation can bring."""
    p = parts.profile
    if p is None:
        return None
    known = (
        ("requests used", count(p.n_requests)),
        *((f"skipped: {s.reason}", count(s.count)) for s in p.skipped),
        (
            "arrivals, mean / peak, requests per s",
            f"{significant(p.arrival_rate_per_s)} / {significant(p.peak_rate_per_s)}",
        ),
        ("concurrency, mean / p90", f"{significant(p.concurrency_mean)} / {significant(p.concurrency_p90)}"),
        ("requests in dialogues of several turns", percent(p.multi_turn_share)),
        ("prompt tokens that repeat a prefix", percent(p.prefix_reuse_share)),
        ("requests with tools", percent(p.tool_share)),
        ("requests with structured output", percent(p.structured_output_share)),
        *(
            (f"parameter refused under speculation: {k}", f"{count(n)} requests")
            for k, n in p.rejected_by_speculation.items()
        ),
    )
    rows = [(k, v) for k, v in known if v not in (DASH, f"{DASH} / {DASH}")]
    return _table(("fact", "value"), rows, (1,))


def _config_words(parts: ReportParts, name: str) -> str:
    arm = next((a for a in parts.arms if a.name == name), None)
    if arm is None:
        return ""
    if not arm.spec_config:
        return "no speculation"
    k = arm.spec_config.get("num_speculative_tokens")
    return f"{arm.spec_config.get('method', 'speculation')}{f', K={k}' if k else ''}"


def _word(value: object) -> str:
    if value is None:
        return "not said"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "; ".join(str(item) for item in value) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
