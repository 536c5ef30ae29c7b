"""Job: the evidence bundle and the report of a run, checked by recomputing the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.contract.errors import EvidenceError, InputError
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import PublishPlan, PublishResult
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.contract.verdict import Decision
from draftsmith.kit import hardware
from draftsmith.kit.files import read_json, read_lines
from draftsmith.report.page import render_report
from draftsmith.report.parts import PhaseTiming, ReportParts
from draftsmith.report.sol import SolInputs
from draftsmith.report.summary import summary_md
from draftsmith.store.campaigns import CAMPAIGNS
from draftsmith.store.counters import read_counters
from draftsmith.store.evidence import BundleParts, CommandRecord, verify_bundle, write_bundle
from draftsmith.store.scrub import home
from draftsmith.work.compare.evidence import place_lines
from draftsmith.work.job import Job, run_job
from draftsmith.work.sizes import draft_bytes, sol_inputs
from draftsmith.work.step_commands import job_commands, started_commands


def body(job: Job[PublishPlan]) -> PublishResult:
    """Write and verify."""
    job.progress("writing the evidence", 0, None)
    return publish(job.plan)


def publish(plan: PublishPlan) -> PublishResult:
    """Write `<out>/<family>/<run-id>` and verify it; an earlier one of the same run stays until the new one has verified."""
    target, results = plan.target, plan.results
    parts = report_parts(plan, target, results)
    family = target.architecture.removesuffix("ForCausalLM").lower() or "model"
    out, source = Path(plan.out), _source(plan, target)
    bundle = write_bundle(
        out,
        BundleParts(
            family=family,
            run_id=plan.run_id,
            source=source | _taken_over(results) | _not_measured(results),
            summary_md="\n".join([summary_md(parts), *_not_measured(results).values(), *place_lines(source)]),
            report_html=render_report(parts),
            commands=list(_commands(plan, results)),
            plan=parts.plan,
            trials=parts.trials,
            facts=parts.facts,
            decision=parts.decision,
            campaigns=_campaigns(results),
            counters=parts.counters,
            profile=parts.profile,
            corpus=parts.corpus,
            draft=parts.draft,
            training=parts.training,
            names=home() | {name: str(path) for name, path in plan.names.items()},
        ),
        replace_after=require_verified,
    )
    report = verify_bundle(bundle)
    return PublishResult(
        bundle=str(bundle),
        report=str(bundle / "report.html"),
        verified=True,
        files=report.files,
        manifest_sha256=report.manifest_sha256,
    )


def _campaigns(results: dict[str, JobResult]) -> Path | None:
    """The journal as it was when the comparison had its answer."""
    plan = results["compare"].outputs.get("plan") if "compare" in results else None
    return Path(plan).with_name(CAMPAIGNS) if plan else None


def require_verified(bundle: Path) -> None:
    """Raise EvidenceError if a bundle does not verify."""
    report = verify_bundle(bundle)
    if not report.ok:
        raise EvidenceError(
            "the bundle does not verify: " + "; ".join(report.sentences()),
            "an earlier bundle is still there; run `draftsmith report` again",
        )


def report_parts(plan: PublishPlan, target: TargetFacts, results: dict[str, JobResult]) -> ReportParts:
    """Everything the finished phases left, read from their files."""

    def output(phase: str, name: str) -> Path | None:
        value = results[phase].outputs.get(name) if phase in results else None
        return Path(value) if value and Path(value).exists() else None

    profile, corpus, draft = output("profile", "profile"), output("corpus", "corpus"), output("train", "draft")
    frozen, verdict, facts = output("compare", "plan"), output("compare", "verdict"), output("compare", "facts")
    trials = [Trial.model_validate(line) for line in _lines(output("compare", "samples"))]
    return ReportParts(
        run_id=plan.run_id,
        family=target.architecture,
        target=target,
        profile=WorkloadProfile.model_validate(read_json(profile)) if profile else None,
        corpus=CorpusManifest.model_validate(read_json(corpus / "manifest.json")) if corpus else None,
        draft=DraftManifest.model_validate(read_json(draft / "draft-manifest.json")) if draft else None,
        training=_lines(output("train", "metrics")),
        plan=ComparisonPlan.model_validate(read_json(frozen)) if frozen else None,
        trials=trials,
        decision=Decision.model_validate(read_json(verdict)) if verdict else None,
        facts=[(arm, EngineFacts.model_validate(f)) for arm, f in read_json(facts)] if facts else (),
        timings=[
            PhaseTiming(name, result.wall_s, f"taken over from {result.reused_from}" if result.reused_from else "")
            for name, result in results.items()
            if result.wall_s
        ],
        hardware={"device": hardware.describe()},
        sol=_sol(plan, target, facts, frozen, draft),
        counters=read_counters(Path(plan.folder), trials),
    )


def _sol(
    plan: PublishPlan, target: TargetFacts, facts: Path | None, frozen: Path | None, draft: Path | None
) -> SolInputs | None:
    """The speed of light; None where the target's files are gone since."""
    baseline = ComparisonPlan.model_validate(read_json(frozen)).baseline if frozen else None
    of_baseline = [EngineFacts.model_validate(f) for arm, f in read_json(facts) if arm == baseline] if facts else []
    try:
        return sol_inputs(target, of_baseline[0] if of_baseline else None, draft_bytes(plan, Path(target.path), draft))
    except InputError:
        return None


def _lines(path: Path | None) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in read_lines(path)] if path else []


def _source(plan: PublishPlan, target: TargetFacts) -> dict[str, str]:
    return {
        "model": f"{Path(target.path).name} ({target.architecture}), sha256 {target.sha256}",
        "hardware": hardware.describe(),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(plan.versions.items())),
        "standing configuration": orjson.dumps(plan.standing).decode(),
        "method": _method(plan),
        "campaign": plan.run_id,
    } | ({"lake": plan.config.lake.url} if plan.config.lake.url else {})


def _method(plan: PublishPlan) -> str:
    """The method that was compared, and of a trained one the layers that its draft reads."""
    left_out = plan.results["train"].outputs.get("sentence") if "train" in plan.results else None
    return str(left_out or f"{plan.config.trainer.method}, layers {list(plan.layer_ids)} (after k layers)")


def _taken_over(results: dict[str, JobResult]) -> dict[str, str]:
    """Phases whose jobs ran in an earlier run: their commands and logs are that run's evidence."""
    origins = {name: result.reused_from for name, result in results.items() if result.reused_from}
    return {"taken over": ", ".join(f"{name} from {run}" for name, run in origins.items())} if origins else {}


def _not_measured(results: dict[str, JobResult]) -> dict[str, str]:
    """Why there is no verdict, where the comparison ended without a measurement."""
    sentence = results["compare"].outputs.get("sentence") if "compare" in results else None
    return {"comparison": str(sentence)} if sentence else {}


def _commands(plan: PublishPlan, results: dict[str, JobResult]) -> Iterator[CommandRecord]:
    """The jobs and the programs they started. No engine is configured to log traffic, but under zero retention no log is trusted."""
    logs, folder = plan.config.corpus.retention != "zero", Path(plan.folder)
    for name, result in results.items():
        yield from job_commands(name, folder / "phases" / name, logs=logs, exit_code=0 if result.ok else 1)
    yield from started_commands(Path(plan.registry), folder / "phases")


if __name__ == "__main__":
    raise SystemExit(run_job(body, PublishPlan))
