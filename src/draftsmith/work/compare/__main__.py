"""Job: the comparison. `python -m draftsmith.work.compare plan.json`."""

from draftsmith.contract.jobs import ComparePlan
from draftsmith.work.compare.job import body
from draftsmith.work.job import run_job

raise SystemExit(run_job(body, ComparePlan))
