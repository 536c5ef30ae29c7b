"""Tables and a figure of what gpu_campaign.py measured.

    python benchmarks/gpu_report.py DIR... [--figure FILE.svg]

Each DIR is an --out of gpu_campaign.py. Printed for every tenant: acceptance by the engine's counters over all
concurrencies; then for every arm and concurrency the median TPOT, the ratio to no speculation (geometric mean over blocks)
with the t interval of the blocks, and what the gate said. The gate's own interval is wider than the t interval: it pays
for looking after every block and for five arms. The figure shows the ratios against concurrency.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_campaign import PLAIN, TWIN

from draftsmith.kit.files import read_json, read_lines
from draftsmith.verdict.first.sequential import critical

ORDER = (PLAIN, TWIN, "matched-eagle3", "generic-eagle3", "matched-dflash", "generic-dflash")
LABELS = {
    TWIN: "equal server",
    "matched-eagle3": "matched EAGLE3",
    "generic-eagle3": "generic EAGLE3",
    "matched-dflash": "matched DFlash",
    "generic-dflash": "generic DFlash",
}
ALPHA = 0.05


@dataclass(frozen=True)
class Ratio:
    """Speed of an arm over the plain one: geometric mean over blocks and the ends of its t interval."""

    value: float
    low: float
    high: float


def ratio(blocks: list[float]) -> Ratio:
    """Of one arm's block ratios; three or more."""
    logs = [math.log(value) for value in blocks]
    mean = statistics.fmean(logs)
    half = critical(ALPHA / 2, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def comparisons(folders: list[Path]) -> dict[str, dict[int, Path]]:
    """tenant -> concurrency -> folder with verdict.json."""
    result: dict[str, dict[int, Path]] = {}
    for out in folders:
        for verdict in sorted(out.glob("compared/*/verdict.json")):
            tenant, _, load = verdict.parent.name.rpartition("-c")
            result.setdefault(tenant, {})[int(load)] = verdict.parent
    return {tenant: dict(sorted(loads.items())) for tenant, loads in result.items()}


def acceptance(folders: list[Path]) -> Iterator[tuple[str, float, list[float]]]:
    """(arm, AL, acceptance by position) from the engine's counters of every trial."""
    drafts: dict[str, int] = {}
    accepted: dict[str, list[int]] = {}
    for folder in folders:
        for line in read_lines(folder / "samples.jsonl"):
            trial = json.loads(line)
            counters = trial["counters"]
            if trial["invalid"] or not counters["drafts"]:
                continue
            arm, places = trial["arm"], counters["accepted_per_position"]
            drafts[arm] = drafts.get(arm, 0) + counters["drafts"]
            sums = accepted.setdefault(arm, [0] * len(places))
            accepted[arm] = [had + more for had, more in zip(sums, places, strict=True)]
    for arm in (name for name in ORDER if name in drafts):
        rates = [count / drafts[arm] for count in accepted[arm]]
        yield arm, 1 + sum(rates), rates


def cell(arm: str, verdict: dict[str, Any]) -> str:
    """Median TPOT, ratio and the gate's word for one arm at one concurrency."""
    medians = {values["arm"]: values["median_tpot_s"] for values in verdict["arms"]}
    if arm not in medians:
        return ""
    shown = f"{1000 * medians[arm]:.2f}"
    pair = next((pair for pair in verdict["pairs"] if pair["candidate"] == arm), None)
    if pair is None:
        return shown
    result = ratio(pair["block_ratios"])
    word = {"WIN": " **WIN**", "LOSS": " LOSS"}.get(pair["outcome"], "") if arm != TWIN else ""
    return f"{shown}; {result.value:.2f}x [{result.low:.2f}, {result.high:.2f}]{word}"


def tables(result: dict[str, dict[int, Path]]) -> None:
    """All tenants as Markdown."""
    print("| tenant | draft | AL | acceptance per position |\n|---|---|---|---|")
    for tenant, loads in result.items():
        for arm, length, rates in acceptance(list(loads.values())):
            print(f"| {tenant} | {LABELS[arm]} | {length:.2f} | {' / '.join(f'{rate:.3f}' for rate in rates)} |")
    for tenant, loads in result.items():
        verdicts = {load: read_json(folder / "verdict.json") for load, folder in loads.items()}
        print(f"\n`{tenant}`\n\n| arm | {' | '.join(f'c = {load}' for load in loads)} |\n|---{'|---' * len(loads)}|")
        for arm in ORDER:
            print(f"| {arm} | {' | '.join(cell(arm, verdict) for verdict in verdicts.values())} |")
        floors = [f"{verdict['aa_floor']:.0%}" for verdict in verdicts.values()]
        blocks = [str(max(len(pair["block_ratios"]) for pair in verdict["pairs"])) for verdict in verdicts.values()]
        print(f"| A/A floor | {' | '.join(floors)} |\n| blocks | {' | '.join(blocks)} |")


def figure(result: dict[str, dict[int, Path]], file: Path) -> None:
    """Ratios against concurrency, a panel a tenant."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "draftsmith", "svg.fonttype": "none"})
    drawn, panels = pyplot.subplots(1, len(result), figsize=(4.2 * len(result), 3.6), sharey=True, squeeze=False)
    for panel, (tenant, loads) in zip(panels[0], result.items(), strict=True):
        places = list(range(len(loads)))
        for number, arm in enumerate(name for name in ORDER if name != PLAIN):
            ratios = []
            for folder in loads.values():
                pairs = {pair["candidate"]: pair for pair in read_json(folder / "verdict.json")["pairs"]}
                ratios.append(ratio(pairs[arm]["block_ratios"]))
            grey = arm == TWIN
            panel.errorbar(
                [place + 0.08 * (number - 2) for place in places],
                [ratio.value for ratio in ratios],
                yerr=[[r.value - r.low for r in ratios], [r.high - r.value for r in ratios]],
                label=LABELS[arm],
                color="0.6" if grey else f"C{number - 1}",
                marker="s" if "dflash" in arm else "o",
                linestyle=":" if grey or "generic" in arm else "-",
                markersize=4,
                linewidth=1.2,
                elinewidth=0.8,
                capsize=2,
            )
        panel.axhline(1.0, color="black", linewidth=0.8)
        panel.set(title=tenant, xticks=places, xticklabels=list(loads), xlabel="requests in flight", yscale="log")
        panel.set_yticks([0.5, 0.75, 1, 1.5, 2, 3, 4], ["0.5x", "0.75x", "1x", "1.5x", "2x", "3x", "4x"])
        panel.minorticks_off()
        panel.grid(axis="y", linewidth=0.3)
    panels[0][0].set_ylabel("speed over no speculation (TPOT)")
    panels[0][-1].legend(fontsize=7)
    drawn.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(file, metadata={"Date": None})


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    result = comparisons(options.folders)
    tables(result)
    if options.figure:
        figure(result, options.figure)


if __name__ == "__main__":
    main()
