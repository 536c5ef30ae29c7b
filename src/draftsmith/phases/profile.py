"""Phase 1: measure the traffic. Its gate: some requests, with start times where the comparison is to replay them."""

from __future__ import annotations

from draftsmith.contract.jobs import ProfilePlan, ProfileResult
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import common, identity


class Profile:
    """Measure the traffic."""

    name = "profile"
    title = "profile the traffic"
    module = "draftsmith.work.profile"
    gpus = 0
    result = ProfileResult

    def plan(self, context: PhaseContext) -> JobPlan[ProfilePlan]:
        """See Phase."""
        out = context.phase_dir(self.name)
        plan = ProfilePlan(
            **common(context),
            sources=context.sources,
            out=str(out / "workload-profile.json"),
        )
        names = {"redact": context.config.corpus.redact}  # routes are renamed then
        return JobPlan(self.module, plan, identity(context) | {"sources": context.options.sources_sha256} | names)

    def collect(self, context: PhaseContext, result: ProfileResult) -> Gate:
        """See Phase."""
        skipped = sum(result.skipped.values())
        note = f", {skipped} lines skipped" if skipped else ""
        headline = (
            f"{result.n_requests} requests{note}; input p50 {result.input_p50}, output p50 {result.output_p50} tokens; "
            f"recommended: {result.method}"
        )
        details: tuple[str, ...] = (result.rationale,)
        timed = context.config.compare.arrivals == "closed" or result.arrival_rate_per_s is not None
        if not timed:
            details = (
                f"compare.arrivals = {context.config.compare.arrivals} needs start times, the log has none",
                *details,
            )
        return Gate(result.n_requests > 0 and timed, headline, details)
