"""A profile for the terminal: what came in, what it is made of, what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from draftsmith.contract.profile import ClassProfile, Distribution, ExpectedAcceptance, WorkloadProfile
from draftsmith.traffic.importers import keeps_record

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

SKIPS_SHOWN = 8
NAMES_SHOWN = 6
ROUTES_SHOWN = 12
BARS = "▁▂▃▄▅▆▇█"
_COUNTED = {
    "exact": "every token counted",
    "estimated": "lengths estimated from a counted sample",
    "usage": "token counts from the log's own usage",
    "shapes": "bench shapes, no traffic",
}


def render(profile: WorkloadProfile) -> Group:
    """The profile as a rich renderable."""
    from rich.console import Group

    parts: list[RenderableType] = [_head(profile), _lengths(profile)]
    if profile.classes:
        parts.append(_table("class", profile.classes))
    if len(profile.routes) > 1:
        parts.append(_table("route", profile.routes[:ROUTES_SHOWN]))
    parts += lines(profile)
    return Group(*parts)


def lines(profile: WorkloadProfile) -> list[str]:
    """What the tables leave out, one plain sentence a line; the recommendation last."""
    sections = [_arrivals(profile), _load(profile), _habits(profile), _refused(profile)]
    if len(profile.adapters) > 1:
        sections.append(
            f"adapters mixed in this log: {_counted(profile.adapters)}; a draft is trained for one of them at a time"
        )
    if len(profile.models) > 1:
        sections.append(f"models: {_counted(profile.models)}")
    if profile.media:
        kinds = ", ".join(f"{kind} in {times}" for kind, times in profile.media.items())
        sections.append(f"requests with media: {kinds}; they count as load, and not as text")
    sections += [
        f"{'noted' if keeps_record(skip.reason) else 'skipped'} {skip.count}: {skip.reason} ({', '.join(skip.lines[:3])})"
        for skip in profile.skipped[:SKIPS_SHOWN]
    ]
    if len(profile.skipped) > SKIPS_SHOWN:
        sections.append(f"skipped for {len(profile.skipped) - SKIPS_SHOWN} more reasons, see the profile")
    if profile.not_available:
        sections.append(f"not in the source: {', '.join(profile.not_available)}")
    advice = profile.recommended_spec_decode
    sections.append(f"recommended: {advice.method} - {advice.rationale}")
    return [line for line in sections if line]


def _counted(names: dict[str, int]) -> str:
    shown = [f"{name} ({times})" for name, times in list(names.items())[:NAMES_SHOWN]]
    return ", ".join(shown) + (" ..." if len(names) > NAMES_SHOWN else "")


def _head(profile: WorkloadProfile) -> str:
    names = ", ".join(source.name for source in profile.provenance[:3]) + (
        " ..." if len(profile.provenance) > 3 else ""
    )
    counted = _COUNTED[profile.token_counts] + (f" by {profile.tokenizer}" if profile.tokenizer else "")
    return f"{profile.n_requests} requests{f' from {names}' if names else ''}; {counted}"


def _lengths(profile: WorkloadProfile) -> Table:
    from rich.table import Table

    table = Table("tokens", "mean", "p50", "p90", "p99", "max", box=None)
    for name, spread in (("input", profile.input_tokens), ("output", profile.output_tokens)):
        table.add_row(name, *_spread(spread))
    return table


def _spread(spread: Distribution) -> list[str]:
    return [_n(value) for value in (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)]


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _table(title: str, groups: Sequence[ClassProfile]) -> Table:
    from rich.table import Table

    table = Table(title, "share", "input p50", "output p50", "ngram", "suffix", box=None)
    for group in groups:
        table.add_row(
            group.name,
            f"{group.share:.1%}",
            _n(group.input_tokens.p50),
            _n(group.output_tokens.p50),
            _best(group.expected_acceptance, "ngram"),
            _best(group.expected_acceptance, "suffix"),
        )
    table.caption = "ngram and suffix: expected tokens a step over all steps, by replay of the log"
    return table


def _best(rows: tuple[ExpectedAcceptance, ...], method: str) -> str:
    rates = [row.tokens_per_step for row in rows if row.method == method and row.tokens_per_step is not None]
    return f"{max(rates):.2f}" if rates else "-"


def _arrivals(profile: WorkloadProfile) -> str:
    if profile.arrival_rate_per_s is None:
        return ""
    text = f"arrivals: {profile.arrival_rate_per_s:.3g}/s, peak {profile.peak_rate_per_s or 0:.3g}/s"
    if profile.concurrency_mean is not None:
        text += f"; at once: {profile.concurrency_mean:.3g} on average, p90 {profile.concurrency_p90 or 0:.3g}"
    return text


def _load(profile: WorkloadProfile) -> str:
    """Arrivals over time as a row of bars, and between what the load moved."""
    slices = profile.load_over_time
    if len(slices) < 2:
        return ""
    rates = [part.requests_per_s for part in slices]
    bars = "".join(BARS[round((len(BARS) - 1) * rate / (max(rates) or 1.0))] for rate in rates)
    text = f"over time: {bars} {min(rates):.3g} to {max(rates):.3g}/s in {len(slices)} x {_span(slices[0].seconds)}"
    known = [part.concurrency for part in slices if part.concurrency is not None]
    return text + (f"; at once {min(known):.3g} to {max(known):.3g}" if known else "")


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _habits(profile: WorkloadProfile) -> str:
    shares = {
        "continue a conversation": profile.multi_turn_share,
        "of prompt tokens reusable": profile.prefix_reuse_share,
        "with tools": profile.tool_share,
        "structured": profile.structured_output_share,
        "answers that loop": profile.repetition_loop_share,
    }
    known = [f"{value:.0%} {name}" for name, value in shares.items() if value]
    languages = ", ".join(f"{name} {share:.0%}" for name, share in list(profile.languages.items())[:4])
    return "; ".join(known + ([f"languages {languages}"] if languages else []))


def _refused(profile: WorkloadProfile) -> str:
    if not profile.rejected_by_speculation:
        return ""
    named = ", ".join(f"{name} in {count}" for name, count in profile.rejected_by_speculation.items())
    return f"warning: the engine refuses these requests while speculation is on: {named}"
