"""summary.md: the verdict in a few lines."""

from __future__ import annotations

from draftsmith.contract.verdict import Decision
from draftsmith.report.next_lever import next_levers
from draftsmith.report.numbers import (
    base_context,
    duration,
    measured_speedup,
    milliseconds,
    point_context,
    ratio,
    training_context,
)
from draftsmith.report.parts import ReportParts
from draftsmith.verdict.divergence import Divergence, divergences, sentence
from draftsmith.verdict.schedule import schedule_sentence

MOST_NOTES = 12


def summary_md(parts: ReportParts) -> str:
    """summary.md: verdict, arms, draft, wall time and the next lever. Every figure stands above its context."""
    name = " / ".join(word for word in (parts.family, parts.run_id) if word) or "Draftsmith run"
    lines = [f"# {name}", ""]
    lines += _verdict(parts) if parts.decision else ["No verdict: nothing was compared, or not yet.", ""]
    if parts.draft is not None and parts.draft.validation_acceptance:
        shares = ", ".join(f"{share:.3f}" for share in parts.draft.validation_acceptance)
        lines += [
            "## Draft",
            "",
            f"Validation acceptance by position: {shares}",
            "",
            f"_{training_context(parts)}_",
            "",
        ]
    if parts.timings:
        lines += ["## Wall time", ""]
        lines += [f"- {t.phase}: {duration(t.wall_s)}{f' ({t.note})' if t.note else ''}" for t in parts.timings]
        lines += ["", f"_{base_context(parts)}_", ""]
    lever = next_levers(parts)[0]
    lines += ["## Next lever", "", f"**{lever.title}**", "", f"- Why: {lever.why}"]
    lines += [f"- Expected gain: {lever.expected}", f"- Gate: {lever.gate}", ""]
    lines += [f"_{point_context(parts, parts.primary) if parts.decision else base_context(parts)}_", ""]
    return "\n".join(lines)


def _verdict(parts: ReportParts) -> list[str]:
    verdict = parts.decision
    if verdict is None:
        return []
    lines = [f"**{verdict.outcome}** at tier `{verdict.tier}`: {verdict.reason}", ""]
    lines += [f"- tier draft because {reason}" for reason in verdict.tier_reasons]
    lines += [""] if verdict.tier_reasons else []
    measured = measured_speedup(parts, parts.leading.name, parts.primary) if parts.leading else None
    if measured is not None and parts.leading is not None:
        lines += [f"{parts.leading.name}: {measured}", ""]
    for point in dict.fromkeys(row.point for row in verdict.arms):
        lines += _table(parts, verdict, point)
    schedule = schedule_sentence(parts.plan, verdict) if parts.plan else None
    lines += [f"- {schedule}"] if schedule else []
    lines += [
        f"- answers of {divergence.arm} at {divergence.point}: {sentence(divergence)}"
        for divergence in _divergences(parts)
    ]
    lines += [f"- {note}" for note in verdict.notes[:MOST_NOTES]]
    more = len(verdict.notes) - MOST_NOTES
    return lines + ([f"- and {more} more in verdict.json"] if more > 0 else []) + ([""] if verdict.notes else [])


def _table(parts: ReportParts, verdict: Decision, point: str) -> list[str]:
    """The arms at one point, and its own context: no context is shared by two points."""
    lines = [
        "| arm | point | median TPOT, ms | p99 TPOT, ms | AL | speed-up | outcome |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (row for row in verdict.arms if row.point == point):
        pair = parts.pair(row.arm, row.point)
        speed = (
            f"{ratio(pair.speedup.value)} ({pair.speedup.low:.3f} to {pair.speedup.high:.3f})"
            if pair and pair.speedup
            else "–"
        )
        length = f"{row.acceptance_length:.2f}" if row.acceptance_length else "–"
        lines.append(
            f"| {row.arm} | {row.point} | {milliseconds(row.median_tpot_s)} | {milliseconds(row.p99_tpot_s)} | {length} "
            f"| {speed} | {pair.outcome if pair else 'baseline'} |"
        )
    return [*lines, "", f"_{point_context(parts, point)}_", ""]


def _divergences(parts: ReportParts) -> tuple[Divergence, ...]:
    return divergences(parts.plan, parts.good_trials) if parts.plan else ()
