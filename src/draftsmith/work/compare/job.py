"""The comparison as a job: a typed plan in, a typed result out."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.jobs import ComparePlan, CompareResult
from draftsmith.work.compare import campaign
from draftsmith.work.job import Job


def body(job: Job[ComparePlan]) -> CompareResult:
    """Run the campaign of the plan."""
    outputs, figures = campaign.body(Job(job.workdir, plain(job.plan), job.shard, job.shards, job.rank))
    return CompareResult.model_validate(outputs | figures)


def plain(plan: ComparePlan) -> dict[str, Any]:
    """The plan as the campaign reads it: JSON, without what is not asked for."""
    return {name: value for name, value in plan.model_dump(mode="json").items() if value is not None}
