"""Report and evidence bundle of a comparison that stands alone."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

import draftsmith
from draftsmith.contract.errors import EvidenceError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit import hardware
from draftsmith.kit.files import private_dir, read_json, read_lines, write_atomic
from draftsmith.report.page import render_report
from draftsmith.report.parts import ReportParts
from draftsmith.report.summary import summary_md
from draftsmith.store.campaigns import CAMPAIGNS
from draftsmith.store.counters import read_counters
from draftsmith.store.evidence import BundleParts, verify_bundle, write_bundle
from draftsmith.store.scrub import home
from draftsmith.work.step_commands import job_commands, started_commands

FAMILY = "comparison"


def publish_comparison(folder: Path) -> Path:
    """Write report.html and summary.md into `folder`, and a bundle below `folder`/bundle; returns the bundle.

    Raises EvidenceError if the bundle does not verify.
    """
    request: dict[str, Any] = read_json(folder / "plan.json")
    parts = comparison_parts(folder, request)
    label = cell_label(folder)
    page, summary = render_report(parts), "\n".join([summary_md(parts), *place_lines(label)])
    write_atomic(folder / "report.html", page)
    write_atomic(folder / "summary.md", summary)
    commands = [*job_commands("compare", folder, logs=True, exit_code=0)]
    if request.get("registry"):
        commands += started_commands(Path(request["registry"]))
    bundle = write_bundle(
        private_dir(folder / "bundle"),
        BundleParts(
            family=FAMILY,
            run_id=parts.run_id,
            source={"hardware": hardware.describe(), "draftsmith": draftsmith.__version__} | label,
            summary_md=summary,
            report_html=page,
            commands=commands,
            plan=parts.plan,
            trials=parts.trials,
            facts=parts.facts,
            decision=parts.decision,
            campaigns=folder / CAMPAIGNS,
            counters=parts.counters,
            names=home() | request.get("names", {}),
        ),
        replace_after=_require_verified,
    )
    for other in bundle.parent.iterdir():  # of before the folder was renamed
        if other != bundle:
            shutil.rmtree(other, ignore_errors=True)
    return bundle


def _require_verified(bundle: Path) -> None:
    report = verify_bundle(bundle)
    if not report.ok:
        raise EvidenceError("the bundle does not verify: " + "; ".join(report.sentences()), "compare again")


def comparison_parts(folder: Path, request: dict[str, Any]) -> ReportParts:
    """What the job left, for the report."""
    model = request.get("target") or ""
    trials = [Trial.model_validate(orjson.loads(line)) for line in read_lines(folder / "samples.jsonl")]
    return ReportParts(
        run_id=re.sub(r"[^\w.-]+", "-", folder.name).strip("-.") or FAMILY,
        family=Path(model).name or FAMILY,
        created_unix_s=time.time(),
        plan=ComparisonPlan.model_validate(read_json(folder / "plan-frozen.json")),
        trials=trials,
        facts=[(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(folder / "facts.json")],
        decision=Decision.model_validate(read_json(folder / "verdict.json")),
        hardware={"device": hardware.describe()},
        counters=read_counters(folder, trials),
    )


def cell_label(folder: Path) -> dict[str, str]:
    """What SOURCE.md says of a cell: its campaign, its name, and the lake that it is meant for. Empty for another comparison."""
    path = folder / "label.json"
    kept = read_json(path) if path.is_file() else {}
    return {key: str(value) for key, value in kept.items() if value}


def place_lines(label: Mapping[str, str]) -> list[str]:
    """The line of summary.md that says to which campaign it belongs and where that is published."""
    if "campaign" not in label:
        return []
    return [f"campaign={label['campaign']} · {label.get('lake', 'not meant for a lake: no [lake] url')}", ""]
