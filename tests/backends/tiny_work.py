"""Work of a tiny job: three units, each done once however often the job is started. The second waits to be let go."""

from __future__ import annotations

import time
from pathlib import Path

from tiny_types import TinyPlan, TinyResult

from draftsmith.work.job import Job, run_job


def body(job: Job[TinyPlan]) -> TinyResult:
    with (job.workdir / "starts").open("a") as starts:
        starts.write("x")
    units = job.workdir / "units"
    done = units.read_text() if units.exists() else ""
    for unit in "123"[len(done) :]:
        while unit == "2" and not Path(job.plan.go).exists():
            time.sleep(0.02)
        with units.open("a") as made:
            made.write(unit)
        job.progress("working", int(unit), 3)
    return TinyResult(made=job.plan.made, rows=job.plan.value, units=units.read_text())


if __name__ == "__main__":
    raise SystemExit(run_job(body, TinyPlan))
