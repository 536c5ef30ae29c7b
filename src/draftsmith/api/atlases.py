"""What the cells of a campaign say together, its report, and the GPU's counters set beside what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from draftsmith.api.campaigns import Campaign, find_campaign, known_campaign
from draftsmith.api.comparisons import read_comparison
from draftsmith.api.shipping import addresses_of
from draftsmith.contract.base import Frozen
from draftsmith.contract.campaign import Atlas, CampaignCell, CellView
from draftsmith.contract.config import Config
from draftsmith.contract.counters import GpuCounters
from draftsmith.contract.errors import EvidenceError, InputError
from draftsmith.kit.files import read_json, write_atomic, write_json
from draftsmith.store.bundle_check import bundle_of, verify_bundle
from draftsmith.store.counters import write_counters
from draftsmith.store.runs import Store


class Correlated(Frozen):
    """The counters, and the rigor that they give: L3 where every arm has enough readings of its own."""

    counters: GpuCounters
    rigor: str
    manifest_sha256: str | None = None

    def text(self) -> str:
        """For the terminal."""
        lines = [f"rigor    {self.rigor}"]
        for row in self.counters.rows:
            shares = {"DRAM": row.dram_active, "tensor": row.tensor_active, "SM": row.sm_active}
            shares_text = ", ".join(f"{name} active {share:.1%}" for name, share in shares.items() if share is not None)
            lines.append(f"  {row.arm} at {row.point}: {shares_text or 'no readings'} ({row.samples} readings)")
        lines += [f"  not raised: {reason}" for reason in self.counters.lacking]
        return "\n".join(lines)


def atlas_aggregate(config: Config, campaign: str | Path | None = None) -> Atlas:
    """Gather the cells of a campaign into its atlas.json. Every bundle is verified first; raises EvidenceError if one fails."""
    return _gather(find_campaign(config, campaign))


def report_render(config: Config, campaign: str | Path | None = None) -> Path:
    """Write report.html, summary.md and SOURCE.md of a campaign from its cells; returns the page."""
    from draftsmith.report.atlas_page import atlas_text, render_atlas

    result = find_campaign(config, campaign)
    atlas = _gather(result)
    addresses = [address for view in atlas.cells for address in view.addresses]
    named = f"campaign={atlas.campaign} · {', '.join(addresses) or 'not published yet'}"
    write_atomic(result.folder / "summary.md", f"# {atlas.campaign}\n\n{named}\n\n```text\n{atlas_text(atlas)}\n```\n")
    bundles = [
        f"- {v.cell.name}: bundle, manifest sha256 `{v.manifest_sha256}`" for v in atlas.cells if v.manifest_sha256
    ]
    source = [
        f"# Source of campaign {atlas.campaign}",
        "",
        f"- {named}",
        f"- draftsmith: {result.record.draftsmith_version}",
    ]
    source += [f"- profile, sha256: `{result.record.profile_sha256}`", *bundles, ""]
    write_atomic(result.folder / "SOURCE.md", "\n".join(source))
    return write_atomic(result.folder / "report.html", render_atlas(result.record, atlas))


def dcgm_correlate(
    config: Config,
    place: str | Path | None = None,
    *,
    cell: str | None = None,
    text: Path | None = None,
    prometheus: str | None = None,
    host: str | None = None,
) -> Correlated:
    """Set DCGM's counters beside the trials of a cell, a comparison's folder or a run, and write its evidence anew.

    `place`: a run or campaign by id, or a folder; None = the newest campaign, else the newest run. `text`: what an exporter
    printed while it was measured; `prometheus`: the address of a server that scraped it. Raises InputError for readings of
    another machine or time.
    """
    from draftsmith.client.dcgm import ask_prometheus, parse
    from draftsmith.report.counters import correlate
    from draftsmith.report.numbers import rigor

    if (text is None) == (prometheus is None):
        raise InputError("one source of counters is needed", "give --text FILE or --prometheus URL")
    folder, samples = _measured(config, place, cell)
    comparison = read_comparison(samples)
    own = [trial for trial in comparison.trials if trial.traffic == "own"]
    if text is not None:
        try:
            readings = parse(text.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{text.name} cannot be read ({type(error).__name__})", "give the text of an exporter"
            ) from None
        counters = correlate(comparison.trials, readings, "DCGM text", host)
    else:
        start = min((trial.started_unix_s for trial in own), default=0.0)
        end = max((trial.started_unix_s + trial.wall_s for trial in own), default=0.0)
        counters = correlate(comparison.trials, ask_prometheus(str(prometheus), start, end, host), "Prometheus", host)
    write_counters(folder, counters)
    return Correlated(
        counters=counters, rigor=rigor(comparison.trials, counters), manifest_sha256=_rewrite(config, folder)
    )


def _gather(campaign: Campaign) -> Atlas:
    views = tuple(_view(campaign, cell) for cell in campaign.record.cells)
    tiers = {view.tier for view in views if view.state == "measured"}
    atlas = Atlas(
        campaign=campaign.record.campaign,
        focus=campaign.record.focus,
        cells=views,
        tier=None if not tiers else "verdict" if tiers == {"verdict"} else "draft",
        weighted_speedup=_weighted(views),
    )
    write_json(campaign.folder / "atlas.json", atlas)
    return atlas


def _view(campaign: Campaign, cell: CampaignCell) -> CellView:
    from draftsmith.report.numbers import point_context, rigor
    from draftsmith.work.compare.evidence import comparison_parts

    place = campaign.place(cell)
    bundle = bundle_of(place)
    if bundle is None:
        return CellView(cell=cell, state="begun" if (place / "plan.json").exists() else "open")
    report = verify_bundle(bundle)
    if not report.ok or report.stored is None:
        raise EvidenceError(
            f"the bundle of {cell.name} does not verify: {'; '.join(report.sentences()) or 'no verdict in it'}",
            f"measure it again: draftsmith cell run --cell {cell.name}",
        )
    parts = comparison_parts(place, read_json(place / "plan.json"))
    return CellView(
        cell=cell,
        state="measured",
        outcome=report.stored.outcome,
        tier=report.tier,
        reason=report.stored.reason,
        arms=report.stored.arms,
        pairs=report.stored.pairs,
        context=str(point_context(parts, report.stored.primary_point)),
        rigor=rigor(parts.trials, parts.counters),
        manifest_sha256=report.manifest_sha256,
        addresses=addresses_of(place),
    )


def _weighted(views: tuple[CellView, ...]) -> dict[str, float | None]:
    """Geometric means by weight. A candidate that a cell does not know has none."""
    speeds: dict[str, dict[str, float]] = {}
    for view in views:
        first = f"c{view.cell.concurrency[0]}"
        for pair in view.pairs:
            if pair.point == first:
                known = speeds.setdefault(pair.candidate, {})  # a candidate without a figure yet is named all the same
                if pair.speedup is not None:
                    known[view.cell.name] = pair.speedup.value
    total = sum(view.cell.weight for view in views)
    result: dict[str, float | None] = {}
    for name, by_cell in speeds.items():
        whole = len(by_cell) == len(views) and total > 0
        logs = sum(view.cell.weight * math.log(by_cell[view.cell.name]) for view in views) if whole else 0.0
        result[name] = math.exp(logs / total) if whole else None
    return result


def _measured(config: Config, place: str | Path | None, cell: str | None) -> tuple[Path, Path]:
    """(folder that keeps the counters, folder with the samples)."""
    if place is not None and (Path(place) / "samples.jsonl").is_file():
        return Path(place).resolve(), Path(place).resolve()
    campaign = known_campaign(config, place)
    if campaign is not None:
        measured = [item for item in campaign.record.cells if (campaign.place(item) / "samples.jsonl").is_file()]
        chosen = next((item for item in measured if cell in (None, item.name)), None)
        if chosen is None:
            raise InputError(
                f"campaign {campaign.record.campaign} has no measured cell {cell or ''}".rstrip(), "run it first"
            )
        if cell is None and len(measured) > 1:
            raise InputError(
                "several cells are measured", f"name one with --cell: {', '.join(c.name for c in measured)}"
            )
        return campaign.place(chosen), campaign.place(chosen)
    run = Store(Path(config.workspace).resolve()).get(str(place) if place is not None else None)
    if not (run.folder / "phases" / "compare" / "samples.jsonl").is_file():
        raise InputError(f"{run.record.run_id} has no comparison", "let it go on: `draftsmith run`")
    return run.folder, run.folder / "phases" / "compare"


def _rewrite(config: Config, folder: Path) -> str | None:
    """The evidence with the counters in it. What was published before stays as it was published."""
    from draftsmith.api.explanations import republish
    from draftsmith.store.runs import Run
    from draftsmith.work.compare.evidence import publish_comparison

    if (folder / "run.json").is_file():
        bundle = Path(republish(Run(folder)).report).parent
    else:
        request: dict[str, Any] = read_json(folder / "plan.json") if (folder / "plan.json").is_file() else {}
        if "arms" not in request or not (folder / "plan-frozen.json").is_file():
            return None  # samples alone: there is no evidence to write anew
        bundle = publish_comparison(folder)
    return verify_bundle(bundle).manifest_sha256
