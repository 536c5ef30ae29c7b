"""What earlier runs in a workspace measured on the same target: acceptance, speeds of capture and training, the draft's shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.measure import ComparisonPlan
from draftsmith.contract.plan import DraftRecord
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import read_json
from draftsmith.profiling.drift import compare as compare_profiles
from draftsmith.store.runs import Run, Store

COMPARED = ("eagle3", "eagle")


@dataclass
class Earlier:
    """Of the newest run that measured it, or None. Speeds in tokens/s of wall time."""

    records: list[DraftRecord] = field(default_factory=list)
    draft_vocab: int | None = None
    capture_tokens_per_s: float | None = None
    train_tokens_per_s: float | None = None
    speeds_from: str = ""


def earlier(workspace: Path, target_sha256: str, profile: WorkloadProfile) -> Earlier:
    """Read every run of the workspace. A run that cannot be read, or is of another target, is passed over."""
    earlier = Earlier()
    if not (workspace / "runs").is_dir():
        return earlier
    for run in Store(workspace).runs():
        try:
            _add(earlier, run, target_sha256, profile)
        except (DraftsmithError, OSError, ValueError, LookupError):
            continue  # half a run says nothing; it must not keep a plan from being made
    return earlier


def _add(earlier: Earlier, run: Run, target_sha256: str, profile: WorkloadProfile) -> None:
    phases = run.folder / "phases"
    manifest = CorpusManifest.model_validate(read_json(phases / "corpus" / "corpus" / "manifest.json"))
    if manifest.target_sha256 != target_sha256:
        return
    if manifest.vocabulary:
        earlier.draft_vocab = manifest.vocabulary.size
    figures = {name: _figures(phases / name / "result.json") for name in ("capture", "train")}
    earlier.capture_tokens_per_s = figures["capture"].get("capture_tokens_per_s") or earlier.capture_tokens_per_s
    if figures["train"].get("tokens_per_s"):
        earlier.train_tokens_per_s, earlier.speeds_from = figures["train"]["tokens_per_s"], run.record.run_id
    earlier.records += _records(run, manifest, profile)


def _figures(path: Path) -> dict[str, Any]:
    return dict(read_json(path)["figures"]) if path.is_file() else {}


def _records(run: Run, manifest: CorpusManifest, profile: WorkloadProfile) -> Iterator[DraftRecord]:
    phases = run.folder / "phases"
    if not (phases / "compare" / "verdict.json").is_file():
        return
    compared, decision = comparison_of(run)
    arms = {arm.name: arm for arm in compared.arms}
    same = _same_traffic(phases / "profile" / "workload-profile.json", profile)
    for summary in decision.arms:
        arm = arms[summary.arm]
        speculation = arm.speculation
        if (
            arm.role != "candidate"
            or not speculation
            or speculation.method not in COMPARED
            or not speculation.k
            or not summary.acceptance_length
        ):
            continue
        yield DraftRecord(
            run_id=run.record.run_id,
            answer_tokens=manifest.splits["train"].answer_tokens,
            k=speculation.k,
            acceptance_length=summary.acceptance_length,
            by_position=summary.acceptance_by_position,
            same_traffic=same,
        )


def comparison_of(run: Run) -> tuple[ComparisonPlan, Decision]:
    """The frozen plan and the verdict of a run's comparison. Raises OSError or ValueError if it has none."""
    folder = run.folder / "phases" / "compare"
    return (
        ComparisonPlan.model_validate(read_json(folder / "plan-frozen.json")),
        Decision.model_validate(read_json(folder / "verdict.json")),
    )


def _same_traffic(path: Path, profile: WorkloadProfile) -> bool | None:
    if not path.is_file():
        return None
    before = WorkloadProfile.model_validate(read_json(path))
    if before.sha256 == profile.sha256:
        return True
    try:
        drifted = compare_profiles(before, profile).drifted
    except DraftsmithError:
        return None
    return None if drifted is None else not drifted
