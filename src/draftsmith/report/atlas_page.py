"""The page of a campaign: every cell, and what it says. One file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from draftsmith.contract.campaign import Atlas, CampaignRecord, CellView
from draftsmith.report.cells import TONE
from draftsmith.report.numbers import DASH, milliseconds, percent, ratio
from draftsmith.report.templates import template

HEAD = ("arm", "point", "TPOT median, ms", "p99, ms", "AL", "speed-up", "interval", "outcome")


@dataclass(frozen=True)
class Shown:
    """A cell with its rows in text."""

    view: CellView
    tone: str
    rows: tuple[tuple[str, ...], ...]


def render_atlas(record: CampaignRecord, atlas: Atlas) -> str:
    """The page as text."""
    page = template("atlas.html.j2").render(
        record=record,
        atlas=atlas,
        head=HEAD,
        cells=[Shown(cell, TONE[cell.outcome] if cell.outcome else "open", tuple(_rows(cell))) for cell in atlas.cells],
        sentence=atlas_sentence(atlas),
    )
    return str(page).strip() + "\n"


def atlas_text(atlas: Atlas) -> str:
    """The same for a terminal and for summary.md: each figure with its cell's own lengths, context below."""
    lines = [f"campaign {atlas.campaign} ({atlas.focus}): {atlas_sentence(atlas)}"]
    for cell in atlas.cells:
        lines.append(f"  {cell.cell.name} ({percent(cell.cell.weight)} of the traffic): {_said(cell)}")
        lines += [f"    {' · '.join(word for word in row if word != DASH)}" for row in _rows(cell)]
        lines += [f"    {cell.context}"] if cell.context else []
        lines += [f"    published: {address}" for address in cell.addresses]
    return "\n".join(lines)


def atlas_sentence(atlas: Atlas) -> str:
    """What all cells say together."""
    measured = sum(cell.state == "measured" for cell in atlas.cells)
    words = [f"{measured} of {len(atlas.cells)} cells measured"]
    words += [f"{name} {ratio(value)} by weight" for name, value in atlas.weighted_speedup.items() if value is not None]
    words += [f"tier {atlas.tier}"] if atlas.tier else []
    return ", ".join(words)


def _said(cell: CellView) -> str:
    if cell.state != "measured":
        return {"open": "not measured yet", "begun": "begun, not finished"}[cell.state]
    return f"{cell.outcome} (tier {cell.tier}): {cell.reason}"


def _rows(cell: CellView) -> Iterator[tuple[str, ...]]:
    pairs = {(pair.candidate, pair.point): pair for pair in cell.pairs}
    for arm in cell.arms:
        pair = pairs.get((arm.arm, arm.point))
        speed = pair.speedup if pair else None
        yield (
            arm.arm,
            arm.point,
            milliseconds(arm.median_tpot_s),
            milliseconds(arm.p99_tpot_s),
            f"{arm.acceptance_length:.2f}" if arm.acceptance_length else DASH,
            ratio(speed.value) if speed else DASH,
            f"{speed.low:.3f} to {speed.high:.3f}" if speed else DASH,
            pair.outcome if pair else "baseline",
        )
