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
        cells=[Shown(one, TONE[one.outcome] if one.outcome else "open", tuple(_rows(one))) for one in atlas.cells],
        sentence=atlas_sentence(atlas),
    )
    return str(page).strip() + "\n"


def atlas_text(atlas: Atlas) -> str:
    """The same for a terminal and for summary.md: each figure with its cell's own lengths, context below."""
    lines = [f"campaign {atlas.campaign} ({atlas.focus}): {atlas_sentence(atlas)}"]
    for one in atlas.cells:
        lines.append(f"  {one.cell.name} ({percent(one.cell.weight)} of the traffic): {_said(one)}")
        lines += [f"    {' · '.join(word for word in row if word != DASH)}" for row in _rows(one)]
        lines += [f"    {one.context}"] if one.context else []
        lines += [f"    published: {address}" for address in one.addresses]
    return "\n".join(lines)


def atlas_sentence(atlas: Atlas) -> str:
    """What all cells say together."""
    measured = sum(one.state == "measured" for one in atlas.cells)
    words = [f"{measured} of {len(atlas.cells)} cells measured"]
    words += [f"{name} {ratio(value)} by weight" for name, value in atlas.weighted_speedup.items() if value is not None]
    words += [f"tier {atlas.tier}"] if atlas.tier else []
    return ", ".join(words)


def _said(one: CellView) -> str:
    if one.state != "measured":
        return {"open": "not measured yet", "begun": "begun, not finished"}[one.state]
    return f"{one.outcome} (tier {one.tier}): {one.reason}"


def _rows(one: CellView) -> Iterator[tuple[str, ...]]:
    pairs = {(pair.candidate, pair.point): pair for pair in one.pairs}
    for arm in one.arms:
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
