"""What the results of a phase amount to that ran as several shards at the same time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import BackendError
from draftsmith.contract.job import JobResult

# Figures of a shard are of its own rows. They add up, the speed of shards that run side by side included.
ADDED = ("rows", "captured_rows", "captured_tokens", "capture_tokens_per_s", "bytes", "estimate_bytes")


def merge_shards(shards: Sequence[tuple[Path, JobResult | None]]) -> JobResult:
    """One result for all shards (folder, result). Raises BackendError unless all succeeded and agree on their outputs."""
    results = []
    for folder, result in shards:
        if result is None or not result.ok:
            raise BackendError(f"{folder.name} has no result", "run again: what is finished is kept")
        results.append(result)
    if any(result.outputs != results[0].outputs for result in results):
        raise BackendError("the shards do not agree on where their output lies", "run the phase again from its start")
    figures: dict[str, Any] = {
        name: sum(values) if (values := [r.figures[name] for r in results if r.figures.get(name) is not None]) else None
        for name in ADDED
    }
    figures["probe"] = _probe([result.figures.get("probe") or {} for result in results])
    figures["wall_s"] = wall_s = max(result.wall_s for result in results)
    return JobResult(ok=True, outputs=results[0].outputs, figures=figures | {"shards": len(results)}, wall_s=wall_s)


def _probe(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Passed if it passed everywhere; the checks of all."""
    checks = [check for report in reports for check in report.get("checks", ())]
    worst = next((report for report in reports if not report.get("passed")), reports[0])
    return {**worst, "passed": all(report.get("passed") for report in reports), "checks": checks}
