"""Phase 7: write the evidence bundle and the report. Its gate: the verdict follows from the samples in the bundle."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import PublishPlan, PublishResult
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.phases.identity import common


class Publish:
    """Write the evidence bundle and the report."""

    name = "publish"
    title = "publish the evidence"
    module = "draftsmith.work.publish"
    gpus = 0
    result = PublishResult

    def plan(self, context: PhaseContext) -> JobPlan[PublishPlan]:
        """See Phase."""
        plan = PublishPlan(
            **common(context),
            results=context.results,
            run_id=context.run_id,
            folder=str(context.folder),
            out=str(context.folder / "bundle"),
            standing=context.standing,
        )
        compare, promote = context.results.get("compare"), context.results.get("promote")
        inputs = {
            "verdict": result_digest(compare) if compare else None,
            "promote": promote.outputs if promote else None,
        }
        return JobPlan(self.module, plan, inputs)

    def collect(self, context: PhaseContext, result: PublishResult) -> Gate:
        """See Phase."""
        return Gate(result.verified, f"report: {result.report}")


def result_digest(result: JobResult) -> dict[str, Any]:
    """The part of a result that identifies it."""
    return {"outputs": result.outputs, "outcome": result.figures.get("outcome")}
