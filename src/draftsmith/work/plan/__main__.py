"""Runs the job: `python -m draftsmith.work.plan job.json`."""

from draftsmith.contract.jobs import ForecastPlan
from draftsmith.work.job import run_job
from draftsmith.work.plan.forecast import body

raise SystemExit(run_job(body, ForecastPlan))
