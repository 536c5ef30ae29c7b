"""A bundle as rows of three tables: campaigns, arms, pairs. What does not verify has no rows."""

from __future__ import annotations

import datetime
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftsmith.contract.counters import rigor_level
from draftsmith.contract.errors import EvidenceError, NoVerdictError, RefusedError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import read_json, read_lines
from draftsmith.store.bundle_check import VerifyReport, verify_bundle
from draftsmith.store.counters import read_counters

SCHEMA_VERSION = 1
TITLE = re.compile(r"^# Source of ([^/\s]+)/(\S+)$")
FACT = re.compile(r"^- ([^:]+): (.*)$")


@dataclass(frozen=True)
class BundleRows:
    """Rows by table, and where they belong. `date` (UTC) is the day of the first trial; `manifest_sha256` names the bundle."""

    family: str
    date: str
    campaign: str
    manifest_sha256: str
    tier: str
    tables: dict[str, list[dict[str, Any]]]


def rows_of(bundle: Path, *, strict: bool = False) -> BundleRows:
    """Verify a bundle and read its rows.

    `strict` refuses tier `draft`. Raises EvidenceError if it does not verify, NoVerdictError if nothing was decided in it,
    RefusedError under `strict`.
    """
    report = verify_bundle(bundle)
    if not report.ok:
        raise EvidenceError(
            "the bundle does not verify, so it is not published: " + "; ".join(report.sentences()),
            "fetch the bundle again, or let `draftsmith report` write it anew",
        )
    if report.stored is None or report.tier is None:
        raise NoVerdictError(
            "there is no verdict in this bundle, so there is nothing to publish",
            "name the bundle of a run that got as far as its comparison",
        )
    if strict and report.tier != "verdict":
        why = "; ".join([*report.stored.tier_reasons, *(f"looser threshold: {name}" for name in report.looser)])
        raise RefusedError(
            f"the verdict is of tier draft, and --strict publishes none of those: {why or 'no reason is given'}",
            "remove the reasons and measure again, or publish without --strict: the tier stands in every row",
        )
    return _rows(bundle, report, report.stored, report.tier)


def _rows(bundle: Path, report: VerifyReport, decision: Decision, tier: str) -> BundleRows:
    plan = ComparisonPlan.model_validate(read_json(bundle / "plan.json"))
    trials = [Trial.model_validate_json(line) for line in read_lines(bundle / "samples.jsonl")]
    facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(bundle / "facts.json")]
    family, campaign, source_facts = _source(bundle)
    if not trials:
        raise NoVerdictError("there is no trial in this bundle, so there is nothing to publish", "name another bundle")
    started = min(trial.started_unix_s for trial in trials)
    try:
        date = datetime.datetime.fromtimestamp(started, tz=datetime.UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        raise EvidenceError("its first trial began at no time that a calendar holds", "measure again") from None
    campaign = source_facts.get("campaign", campaign)
    key = {"manifest_sha256": report.manifest_sha256, "campaign": campaign}
    arms = {arm.name: arm for arm in plan.arms}
    subject = decision.winner or next((pair.candidate for pair in decision.pairs), None)
    lead = next((p for p in decision.pairs if p.candidate == subject and p.point == decision.primary_point), None)
    speed = lead.speedup if lead else None
    of_subject = _arm(arms.get(subject or ""), _fact(facts, subject))
    campaigns = [
        key
        | {
            "measured_unix_s": started,
            "model": source_facts.get("model"),
            "hardware": source_facts.get("hardware"),
            "cell": source_facts.get("cell"),
            "rigor": rigor_level(trials, read_counters(bundle, trials)),
            "outcome": decision.outcome,
            "tier": tier,
            "reason": decision.reason,
            "winner": decision.winner,
            "candidate": subject,
            "baseline": plan.baseline,
            "primary_point": decision.primary_point,
            "speedup": speed.value if speed else None,
            "speedup_low": speed.low if speed else None,
            "speedup_high": speed.high if speed else None,
            "confidence": speed.confidence if speed else None,
            "aa_floor": decision.aa_floor,
            "trials": len(trials),
            "nodes": len({trial.node for trial in trials}),
            "plan_sha256": decision.plan_sha256,
            "samples_sha256": decision.samples_sha256,
        }
        | {name: of_subject[name] for name in ("engine", "engine_version", "method", "k", "draft_sha256")}
    ]
    points = {point.name: point for point in plan.points}
    return BundleRows(
        family=family,
        date=date,
        campaign=campaign,
        manifest_sha256=report.manifest_sha256,
        tier=tier,
        tables={
            "pairs": [
                key
                | {
                    "candidate": pair.candidate,
                    "baseline": pair.baseline,
                    "point": pair.point,
                    "concurrency": points[pair.point].concurrency if pair.point in points else None,
                    "blocks": pair.blocks,
                    "speedup": pair.speedup.value if pair.speedup else None,
                    "speedup_low": pair.speedup.low if pair.speedup else None,
                    "speedup_high": pair.speedup.high if pair.speedup else None,
                    "min_speedup": pair.min_speedup,
                    "outcome": pair.outcome,
                    "reason": pair.reason,
                    "guards": [
                        guard.model_dump(include={"name", "passed", "observed", "limit"}) for guard in pair.guards
                    ],
                }
                for pair in decision.pairs
            ],
            "arms": [
                key
                | arm.model_dump(exclude={"acceptance_by_position"})
                | {
                    "acceptance_by_position": list(arm.acceptance_by_position),
                    "concurrency": points[arm.point].concurrency if arm.point in points else None,
                    "baseline": arm.arm == plan.baseline,
                }
                | _lengths([trial for trial in trials if trial.arm == arm.arm and trial.point == arm.point])
                | _arm(arms.get(arm.arm), _fact(facts, arm.arm))
                for arm in decision.arms
            ],
            "campaigns": campaigns,
        },
    )


def _arm(arm: Arm | None, fact: EngineFacts | None) -> dict[str, Any]:
    spec = arm.speculation if arm else None
    return {
        "role": arm.role if arm else None,
        "method": spec.method if spec else None,
        "k": spec.k if spec else None,
        "draft_sha256": arm.draft_sha256 if arm else None,
        "engine": fact.engine if fact else (arm.engine if arm else None),
        "engine_version": fact.version if fact else None,
        "device": fact.device if fact else None,
        "dtype": fact.dtype if fact else None,
        "graph_mode": fact.graph_mode if fact else None,
        "enforce_eager": fact.enforce_eager if fact else None,
        "max_num_seqs": fact.max_num_seqs if fact else None,
        "prefix_caching": fact.prefix_caching if fact else None,
    }


def _lengths(trials: Sequence[Trial]) -> dict[str, int | None]:
    """Lengths as measured: medians in tokens."""
    samples = [sample for trial in trials for sample in trial.samples if not sample.error]
    lengths = [sample.prompt_tokens for sample in samples if sample.prompt_tokens]
    answered = [sample.output_tokens for sample in samples if sample.output_tokens]
    return {
        "isl_p50": round(statistics.median(lengths)) if lengths else None,
        "osl_p50": round(statistics.median(answered)) if answered else None,
    }


def _fact(facts: Sequence[tuple[str, EngineFacts]], arm: str | None) -> EngineFacts | None:
    return next((fact for name, fact in facts if name == arm), None)


def _source(bundle: Path) -> tuple[str, str, dict[str, str]]:
    """Family, run id and what SOURCE.md states; the manifest covers that file, the folder's name it does not."""
    path = bundle / "SOURCE.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    title = TITLE.match(lines[0]) if lines else None
    facts = {match[1]: match[2] for line in lines if (match := FACT.match(line))}
    return (title[1], title[2], facts) if title else (bundle.parent.name, bundle.name, facts)
