"""Runs the job: `python -m draftsmith.work.compare job.json`."""

from draftsmith.work.compare.campaign import body
from draftsmith.work.job import run_job

raise SystemExit(run_job(body))
