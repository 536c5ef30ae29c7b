"""Tables of the traffic, as profiled."""

from __future__ import annotations

from draftsmith.report.cells import Table, table
from draftsmith.report.numbers import DASH, count, percent, significant
from draftsmith.report.parts import ReportParts


def traffic(parts: ReportParts) -> Table | None:
    """Lengths, arrivals and the like, as profiled."""
    profile = parts.profile
    if profile is None:
        return None
    rows: list[tuple[str, ...]] = []
    for label, d in (("input, tokens", profile.input_tokens), ("output, tokens", profile.output_tokens)):
        rows.append((label, *(significant(v) for v in (d.mean, d.p50, d.p90, d.p99, d.max))))
    return table(("length", "mean", "p50", "p90", "p99", "max"), rows, range(1, 6))


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
        ("answers that end in a loop, which flatter acceptance", percent(p.repetition_loop_share)),
        ("languages", ", ".join(f"{name} {percent(share)}" for name, share in list(p.languages.items())[:4]) or DASH),
        *(
            (f"parameter refused under speculation: {k}", f"{count(n)} requests")
            for k, n in p.rejected_by_speculation.items()
        ),
    )
    rows = [(k, v) for k, v in known if v not in (DASH, f"{DASH} / {DASH}")]
    return table(("fact", "value"), rows, (1,))


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
            f"{e.without_loops:.2f}" if e.without_loops else DASH,
            percent(e.draft_rate),
            count(e.output_tokens),
        )
        for name, expected in [("all traffic", profile.expected_acceptance)]
        + [(c.name, c.expected_acceptance) for c in profile.classes]
        for e in expected
    ]
    head = ("traffic", "method", "K", "AL", "tokens / step", "without loops", "with a proposal", "simulated tokens")
    return table(head, rows, range(2, 8))
