"""report.html: one file, no scripts, nothing loaded from elsewhere, readable in light, dark and print.

An exhibit (a plot or a table) cannot be made without the context of its numbers: the type asks for it, and the page prints
it below.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from draftsmith.contract.context import Context, Measured
from draftsmith.report import plots, plots_draft, plots_traffic, tables, tables_draft, tables_machine, tables_traffic
from draftsmith.report.cells import TONE, Table
from draftsmith.report.next_lever import next_levers
from draftsmith.report.numbers import (
    base_context,
    hardware_name,
    measured_speedup,
    model_name,
    point_context,
    traffic_context,
    training_context,
)
from draftsmith.report.parts import ReportParts
from draftsmith.report.story import decision_path
from draftsmith.report.templates import template

__all__ = ["render_report"]


@dataclass(frozen=True)
class Exhibit:
    """A plot or a table with the context of its numbers. `wide` spans the page; `how` says how to read it."""

    title: str
    how: str
    context: Context
    svg: str | None = None
    table: Table | None = None
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A heading with its exhibits."""

    key: str
    title: str
    exhibits: tuple[Exhibit, ...]


def render_report(parts: ReportParts) -> str:
    """The page as text. Parts that are missing leave their sections out."""
    decision = parts.decision
    sections = [section for section in _sections(parts) if section.exhibits]
    page = str(
        template("report.html.j2").render(
            title=" / ".join(word for word in (parts.family, parts.run_id) if word) or "Draftsmith",
            model=model_name(parts),
            hardware=hardware_name(parts),
            created=_date(parts.created_unix_s),
            decision=decision,
            tone=TONE[decision.outcome] if decision else "soft",
            headline=_headline(parts),
            sections=sections,
            path=decision_path(parts),
            levers=next_levers(parts),
            context=_reading_context(parts),
            notes=decision.notes if decision else (),
        )
    )
    return page.strip() + "\n"


def _sections(parts: ReportParts) -> list[Section]:
    return [
        Section("comparison", "Comparison", _comparison(parts)),
        Section("acceptance", "Acceptance", _acceptance(parts)),
        Section("ceiling", "Distance to the ceiling", _ceiling(parts)),
        Section("traffic", "Traffic", _traffic(parts)),
        Section("draft", "Corpus and draft", _draft(parts)),
        Section("machine", "Engine and run", _machine(parts)),
    ]


def _comparison(parts: ReportParts) -> tuple[Exhibit, ...]:
    at_primary, everywhere = point_context(parts, parts.primary), point_context(parts, None)
    alone = len(parts.points) == 1
    return _kept(
        _plot(
            "Time per output token" if alone else "Time per output token against concurrency",
            "Lower is better. Dots: median over all requests; whiskers: t interval over the block medians.",
            plots.tpot_by_concurrency(parts),
            everywhere,
        ),
        _plot(
            "Every request",
            "Share of requests at or below a TPOT; further left is faster. Dots: medians.",
            plots.tpot_distribution(parts),
            at_primary,
        ),
        _plot(
            "Block by block",
            "Above the dashed bar is a gain worth claiming; inside the grey band equal servers differ as much. "
            "Right: the estimate with its interval over all looks.",
            plots.block_ratios(parts),
            at_primary,
            wide=True,
        ),
        _plot_table(
            "All arms",
            "TPOT: (latency - TTFT) / (output tokens - 1), by the client's clock; server mean: the engine's own. "
            "AL: tokens per verified step, bonus token included. Speed-up: baseline TPOT / arm TPOT, with its interval.",
            tables.arms(parts),
            everywhere,
        ),
        _plot_table(
            "How it was asked",
            "The same requests at the same times for every arm.",
            tables.load(parts),
            everywhere,
        ),
        _plot_table(
            "What every arm held",
            "Peak requests in flight as reached, and what the engine counted meanwhile.",
            tables.resources(parts),
            everywhere,
        ),
        _plot_table(
            "Same answers",
            "Token ids of answers to one prompt in one block. Equal servers differ where two tokens are nearly tied; a correct "
            "draft under greedy decoding should not differ more often.",
            tables.answers(parts),
            everywhere,
        ),
        _plot_table(
            "Guards",
            "What a faster median must not cost. Unknown lowers the tier, failed is a loss.",
            tables.guards(parts),
            at_primary,
        ),
    )


def _acceptance(parts: ReportParts) -> tuple[Exhibit, ...]:
    at_primary = point_context(parts, parts.primary)
    return _kept(
        _plot(
            "By position",
            "Serving: share of drafts accepted up to this position. Validation: teacher-forced, usually a little higher.",
            plots_draft.acceptance_by_position(parts),
            at_primary if parts.decision else training_context(parts),
        ),
        _plot(
            "By content class",
            "Where the draft helps, and where it does not.",
            plots_draft.acceptance_by_class(parts),
            at_primary,
        ),
        _plot(
            "By length",
            "Acceptance length in buckets of at least three requests.",
            plots_draft.acceptance_by_length(parts),
            at_primary,
            wide=True,
        ),
    )


def _ceiling(parts: ReportParts) -> tuple[Exhibit, ...]:
    how = (
        "Floor of TPOT = (target weights + drafting passes x draft weights + KV cache) / memory bandwidth / tokens per step. "
        "The floor is that of the arm's own acceptance: a faster arm can have a lower share, which is the room that is left. "
        "Above 100 %, weights are read from a cache or the bandwidth is understated."
    )
    return _kept(
        _plot_table(
            "Share of the memory-traffic ceiling", how, tables_machine.speed_of_light(parts), _everywhere(parts)
        ),
        _plot_table(
            "Counters of the GPU",
            "Means by DCGM over readings that lie in an arm's own trials alone: share of time in which memory and tensor cores "
            "were at work.",
            tables_machine.gpu_counters(parts),
            _everywhere(parts),
        ),
    )


def _traffic(parts: ReportParts) -> tuple[Exhibit, ...]:
    context = traffic_context(parts)
    profile = parts.profile
    rationale = (
        f"Recommended: {profile.recommended_spec_decode.method}. {profile.recommended_spec_decode.rationale}"
        if profile
        else ""
    )
    return _kept(
        _plot("Lengths", "Shares of requests by length.", plots_traffic.traffic_lengths(parts), context, wide=True),
        _plot(
            "Load over time",
            "Mean of each slice of the log; the operating point should lie where most requests are.",
            plots_traffic.traffic_load(parts),
            context,
            wide=True,
        ),
        _plot("Content classes", "Share of requests by class.", plots_traffic.traffic_classes(parts), context),
        _plot(
            "Trainless methods, simulated",
            f"Tokens per step on the log's own token ids, over all steps. {rationale}".strip(),
            plots_traffic.expected_acceptance(parts),
            context,
        ),
        _plot_table("Length figures", "As counted in the log.", tables_traffic.traffic(parts), context, wide=False),
        _plot_table("Other facts of the log", "", tables_traffic.traffic_facts(parts), context, wide=False),
        _plot_table(
            "Trainless methods, all figures",
            "AL counts steps that drafted; tokens per step counts all steps. Without loops: leaving out answers that end in one.",
            tables_traffic.trainless(parts),
            context,
        ),
    )


def _draft(parts: ReportParts) -> tuple[Exhibit, ...]:
    context, corpus_context = training_context(parts), _corpus_context(parts)
    return _kept(
        _plot(
            "Training",
            "The chosen epoch is the one with the best validation acceptance, not the lowest loss.",
            plots_draft.training_curves(parts),
            context,
            wide=True,
        ),
        _plot_table(
            "Corpus", "Held-out rows are never trained on.", tables_draft.corpus(parts), corpus_context, wide=False
        ),
        _plot_table("Corpus, what was left out", "", tables_draft.corpus_facts(parts), corpus_context, wide=False),
        _plot_table("Draft", "", tables_draft.draft(parts), context),
    )


def _machine(parts: ReportParts) -> tuple[Exhibit, ...]:
    return _kept(
        _plot_table(
            "What the engine said",
            "From its own log, per arm. Arms are comparable only if the modes agree.",
            tables_machine.engine_facts(parts),
            _everywhere(parts),
        ),
        _plot_table("Wall time by phase", "", tables_machine.timings(parts), base_context(parts)),
    )


def _plot(title: str, how: str, svg: str | None, context: Context, *, wide: bool = False) -> Exhibit | None:
    return Exhibit(title, how, context, svg=svg, wide=wide) if svg else None


def _plot_table(title: str, how: str, table: Table | None, context: Context, *, wide: bool = True) -> Exhibit | None:
    return Exhibit(title, how, context, table=table, wide=wide) if table else None


def _kept(*exhibits: Exhibit | None) -> tuple[Exhibit, ...]:
    return tuple(exhibit for exhibit in exhibits if exhibit is not None)


def _headline(parts: ReportParts) -> Measured | None:
    return measured_speedup(parts, parts.leading.name, parts.primary) if parts.leading else None


def _reading_context(parts: ReportParts) -> Context:
    """Of the numbers in the words of banner, path and lever."""
    return point_context(parts, parts.primary) if parts.decision else base_context(parts)


def _everywhere(parts: ReportParts) -> Context:
    return point_context(parts, None)


def _corpus_context(parts: ReportParts) -> Context:
    context = traffic_context(parts)
    rows = sum(split.rows for split in parts.corpus.splits.values()) if parts.corpus else 0
    return context.model_copy(update={"workload": f"{context.workload}; corpus of {rows:,} rows"})


def _date(unix_s: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s)) if unix_s is not None else ""
