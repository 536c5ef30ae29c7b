"""Checking a bundle: every file against the manifest, and the verdict against the raw samples. Reads, never writes."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from draftsmith.contract.base import canonical, digest
from draftsmith.contract.errors import EvidenceError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import sha256_file
from draftsmith.store import campaigns, chain
from draftsmith.verdict.conditions import out_of_order
from draftsmith.verdict.decide import decide
from draftsmith.verdict.record import copies, gaps
from draftsmith.verdict.samples import bundle_digest
from draftsmith.verdict.stricter import looser
from draftsmith.verdict.visits import is_second

MANIFEST = "MANIFEST.json"
BUNDLE_SCHEMA = "draftsmith_bundle_v1"
READ_WITH = "read the bundle with the version of Draftsmith that SOURCE.md names, or fetch it again"
FETCH = "fetch the bundle again from where it was published"

Recompute = Callable[[ComparisonPlan, list[Trial], list[tuple[str, EngineFacts]]], Decision]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class VerifyReport:
    """What a check found. `verdict_matches` None: the bundle has no verdict, or not all that it needs.

    `record`: what is wrong with the samples as a record: a broken chain, copies, gaps. `looser`: thresholds that let through
    more than the defaults. `signed_by`: id of the key whose signature was asked for and holds.
    `campaigns`: how campaigns with the same arms and points ended, by outcome, this one among them.

    `manifest_sha256` names the bundle as a whole: compare it with the one that was published beside it, since
    whoever alters a file can rewrite the manifest as well.
    """

    path: Path
    files: int
    bytes: int
    manifest_sha256: str
    altered: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    verdict_matches: bool | None = None
    differences: tuple[str, ...] = ()
    stored: Decision | None = None
    recomputed: Decision | None = None
    record: tuple[str, ...] = ()
    looser: tuple[str, ...] = ()
    signed_by: str | None = None
    campaigns: dict[str, int] = field(default_factory=dict)

    @property
    def intact(self) -> bool:
        """Whether every file is the one that was written."""
        return not (self.altered or self.missing or self.added)

    @property
    def ok(self) -> bool:
        """Intact, and the verdict follows from the samples (or there is none to follow)."""
        return self.intact and self.verdict_matches is not False and not self.record

    @property
    def tier(self) -> str | None:
        """The tier that the verdict may claim: never `verdict` under looser thresholds. None without a verdict."""
        if self.stored is None:
            return None
        return "draft" if self.looser else self.stored.tier

    def sentences(self) -> list[str]:
        """What is wrong, one sentence each; empty if nothing is."""
        sentences = [f"{name} was altered" for name in self.altered]
        sentences += [f"{name} is missing" for name in self.missing]
        sentences += [f"{name} was added" for name in self.added]
        sentences += [f"verdict.json does not follow from the samples: {text}" for text in self.differences]
        sentences += self.record
        return sentences


def recompute(plan: ComparisonPlan, trials: list[Trial], facts: list[tuple[str, EngineFacts]]) -> Decision:
    """The verdict from the raw evidence, as the gate of this version decides."""
    return decide(plan, trials, facts, samples_sha256=bundle_digest(trials))


def verify_bundle(path: Path, recompute: Recompute = recompute) -> VerifyReport:
    """Compare every file with the manifest and the verdict with the samples.

    Raises EvidenceError, naming the file, if the bundle is unfinished or a file of the verdict cannot be read:
    a torn line, another schema, a plan that is not the one measured under.
    """
    listed = read_manifest(path)
    present = {p.relative_to(path).as_posix(): p for p in _entries(path)}
    altered = tuple(
        name
        for name, entry in sorted(listed.items())
        if name in present and (not _regular(present[name]) or _identity(present[name]) != entry)
    )
    missing = tuple(sorted(listed.keys() - present.keys()))
    added = tuple(sorted(present.keys() - listed.keys() - {MANIFEST}))
    report = VerifyReport(
        path=path,
        files=len(listed),
        bytes=sum(entry["bytes"] for entry in listed.values()),
        manifest_sha256=sha256_file(path / MANIFEST),
        altered=altered,
        missing=missing,
        added=added,
    )
    return _with_verdict(report, recompute)


def bundle_of(folder: Path) -> Path | None:
    """The finished bundle in the folder of a run, a cell or a comparison; None if there is none."""
    return max((path.parent for path in folder.glob(f"bundle/*/*/{MANIFEST}")), default=None)


def manifest_sha256_of(folder: Path) -> str | None:
    """The identity of that bundle."""
    bundle = bundle_of(folder)
    return sha256_file(bundle / MANIFEST) if bundle else None


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """File name -> {"sha256", "bytes"}. Raises EvidenceError if there is none, or if it is not of this schema."""
    file = path / MANIFEST
    if not file.is_file():
        if inside := bundle_of(path):
            raise EvidenceError(f"{path} is no bundle, but holds one", f"draftsmith verify {inside}")
        fault = "is no folder" if not path.is_dir() else f"has no {MANIFEST}: the bundle was never finished"
        raise EvidenceError(f"{path} {fault}", "name the folder <family>/<run-id> of a finished run")
    data = _json(file)
    if not isinstance(data, dict) or data.get("schema") != BUNDLE_SCHEMA or not isinstance(data.get("files"), dict):
        raise EvidenceError(f"{MANIFEST} is not of schema {BUNDLE_SCHEMA}", READ_WITH)
    for name, entry in data["files"].items():
        parts = PurePosixPath(name).parts
        fine = isinstance(entry, dict) and entry.keys() == {"sha256", "bytes"} and isinstance(entry["bytes"], int)
        if not fine or not parts or ".." in parts or name.startswith("/"):
            raise EvidenceError(f"{MANIFEST} has an entry that no bundle has: {name!r}", FETCH)
    return dict(data["files"])


def _with_verdict(report: VerifyReport, recompute: Recompute) -> VerifyReport:
    path = report.path
    if not (path / "verdict.json").is_file():
        return report
    absent = [name for name in ("plan.json", "samples.jsonl", "facts.json") if not (path / name).is_file()]
    if absent:
        return _replaced(report, matches=False, differences=(f"{' and '.join(absent)} is needed to recompute it",))
    try:
        plan = _model(path / "plan.json", ComparisonPlan)
        trials = list(_trials(path / "samples.jsonl", digest(plan)))
        facts = _facts(path / "facts.json")
        stored = _model(path / "verdict.json", Decision)
        begun = campaigns.read(path / campaigns.CAMPAIGNS)
        if stored.plan_sha256 != digest(plan):
            raise EvidenceError("verdict.json was decided under another plan than plan.json", FETCH)
    except EvidenceError as error:
        if not report.altered:
            raise
        raise EvidenceError(f"{error.message} (altered: {', '.join(report.altered)})", error.next_step) from error
    again = recompute(plan, trials, facts)
    # A verdict of an earlier version lacks fields that came later: they have their defaults.
    before, now = (decision.model_dump(mode="json", by_alias=True) for decision in (stored, again))
    differences = tuple(verdict_differences(before, now))
    same = canonical(before) == canonical(now)
    replaced = _replaced(report, matches=same, differences=differences, stored=stored, recomputed=again)
    unchained = is_second(plan) and any(trial.previous_sha256 is None for trial in trials)
    record = (
        *(("samples.jsonl: trials of the second edition name the one before them, these do not",) if unchained else ()),
        *chain.broken(digest(plan), trials),
        *campaigns.faults(plan, trials, stored, begun),
        *copies(trials),
        *gaps(plan, trials),
        *(out_of_order(trials) if is_second(plan) else ()),
    )
    outcomes = campaigns.outcomes(plan, begun)
    return replace(replaced, record=record, looser=tuple(looser(plan.thresholds)), campaigns=outcomes)


def _replaced(
    report: VerifyReport,
    *,
    matches: bool,
    differences: Sequence[str],
    stored: Decision | None = None,
    recomputed: Decision | None = None,
) -> VerifyReport:
    return replace(
        report, verdict_matches=matches, differences=tuple(differences), stored=stored, recomputed=recomputed
    )


def verdict_differences(stored: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    """In what two verdicts (as JSON objects) differ, one sentence a field; nothing if they are the same bit for bit."""
    for key in sorted(stored.keys() | again.keys()):
        left, right = stored.get(key), again.get(key)
        if canonical(left) == canonical(right):
            continue
        short = all(not isinstance(value, dict | list) and len(str(value)) < 60 for value in (left, right))
        yield f"{key} is {left!r}, recomputed {right!r}" if short else f"{key} differs"


def _trials(path: Path, plan_sha256: str) -> Iterator[Trial]:
    """Trials of samples.jsonl, split on newline bytes only."""
    with path.open("rb") as source:
        for number, raw in enumerate(source, start=1):
            where = f"samples.jsonl line {number}"
            if not raw.endswith(b"\n"):
                raise EvidenceError(f"{where} is torn: it has no end", FETCH)
            try:
                data = json.loads(raw)
            except (ValueError, RecursionError):
                raise EvidenceError(f"{where} is torn or not JSON", FETCH) from None
            trial = _validated(where, data, Trial)
            if trial.plan_sha256 != plan_sha256:
                raise EvidenceError(f"{where} was measured under another plan than plan.json", FETCH)
            yield trial


def _facts(path: Path) -> list[tuple[str, EngineFacts]]:
    data = _json(path)
    if not isinstance(data, list):
        raise EvidenceError("facts.json is no list of [arm, facts]", READ_WITH)
    facts = []
    for index, item in enumerate(data):
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)):
            raise EvidenceError(f"facts.json entry {index} is not [arm, facts]", READ_WITH)
        facts.append((item[0], _validated(f"facts.json entry {index}", item[1], EngineFacts)))
    return facts


def _model(path: Path, model: type[Model]) -> Model:
    return _validated(path.name, _json(path), model)


def _validated(where: str, data: Any, model: type[Model]) -> Model:
    try:
        # Tuples are lists in JSON, and nothing else may be coerced: text that looks like a number is an alteration.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the value"
        raise EvidenceError(f"{where}: {place} does not fit the schema: {first['msg']}", READ_WITH) from None


def _regular(path: Path) -> bool:
    """Neither a link nor a pipe, which would never end, nor a device."""
    return stat.S_ISREG(path.lstat().st_mode)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise EvidenceError(f"{path.name} is torn or not JSON", FETCH) from None


def _entries(path: Path) -> Iterator[Path]:
    """Every file and link below `path`; links are not followed."""
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _entries(entry)
        else:
            yield entry


def _identity(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}
