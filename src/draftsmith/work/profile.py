"""Job: traffic -> workload-profile.json."""

from __future__ import annotations

from pathlib import Path

from draftsmith.contract.jobs import ProfilePlan, ProfileResult
from draftsmith.corpus.redaction import shown_names
from draftsmith.kit.files import read_json, write_json
from draftsmith.profiling.profile import build_profile
from draftsmith.work.job import Job, run_job


def body(job: Job[ProfilePlan]) -> ProfileResult:
    """Profile the sources named in the plan."""
    plan = job.plan
    target = Path(plan.target.path)
    profile = build_profile(
        list(plan.sources),
        tokenizer=target / "tokenizer.json",
        format=plan.format,
        rejects=Path(plan.rejects) if plan.rejects else None,
        aa_shapes=plan.aa_shapes,
        target_config=read_json(target / "config.json"),
        rename=shown_names(plan.config.corpus),
        on_progress=lambda done, total: job.progress("reading the traffic", done, total or None, "bytes"),
    )
    write_json(Path(plan.out), profile)
    recommended = profile.recommended_spec_decode
    return ProfileResult(
        profile=plan.out,
        profile_sha256=profile.sha256,
        n_requests=profile.n_requests,
        skipped={item.reason: item.count for item in profile.skipped},
        input_p50=round(profile.input_tokens.p50) if profile.input_tokens.p50 is not None else None,
        output_p50=round(profile.output_tokens.p50) if profile.output_tokens.p50 is not None else None,
        classes=profile.content_class_mix,
        method=recommended.method,
        rationale=recommended.rationale,
        rejected_by_speculation=profile.rejected_by_speculation,
        arrival_rate_per_s=profile.arrival_rate_per_s,
        concurrency_mean=profile.concurrency_mean,
        ngram_tokens_per_step=max(
            (e.tokens_per_step for e in profile.expected_acceptance if e.method == "ngram" and e.tokens_per_step),
            default=None,
        ),
    )


if __name__ == "__main__":
    raise SystemExit(run_job(body, ProfilePlan))
