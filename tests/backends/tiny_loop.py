"""Draftsmith with its own driver, journal and back ends, and phases whose work is tiny: tiny_loop.py FOLDER KIND NAME."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from tiny_types import TinyPlan, TinyResult

from draftsmith.backends.base import Backend
from draftsmith.backends.local import LocalBackend
from draftsmith.backends.slurm import SlurmBackend
from draftsmith.backends.slurm_options import parse_options
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.job import JobProgress
from draftsmith.loop import driver
from draftsmith.loop.base import Loop
from draftsmith.phases.base import Gate, JobPlan, PhaseContext
from draftsmith.store.runs import Run, RunRecord, Store

PHASES = ("profile", "corpus", "capture", "train", "compare", "publish")
OPTIONS = {
    "require_idle": False, "poll_s": 0.2, "poll_max_s": 0.5, "settle_s": 5, "command_timeout_s": 5, "export": "PATH,PYTHONPATH",
    "phases": {"capture": {"shards": 2}},
}  # fmt: skip


class Tiny:
    module = "tiny_work"
    gpus = 0
    result = TinyResult

    def __init__(self, name: str) -> None:
        self.name, self.title = name, f"tiny {name}"

    def plan(self, context: PhaseContext) -> JobPlan[TinyPlan]:
        before = list(context.results.values())
        value = 3 * int(before[-1].figures.get("rows", 0)) + 1 if before else 1  # a phase left out has no rows
        plan = TinyPlan(go=str(context.folder / f"go-{self.name}"), value=value, made=f"made by {self.name}")
        return JobPlan(self.module, plan, {"value": value})

    def collect(self, context: PhaseContext, result: TinyResult) -> Gate:
        return Gate(True, f"{result.rows}")


class Said:
    def phase_started(self, phase: str, title: str, reused_from: str | None) -> None:
        print("started", phase, flush=True)

    def progress(self, phase: str, progress: JobProgress) -> None:
        print("progress", phase, progress.stage, progress.note, flush=True)

    def phase_ended(self, phase: str, gate: Gate, wall_s: float) -> None:
        print("ended", phase, gate.headline, flush=True)

    def confirm(self, headline: str, phase: str) -> bool:
        return True


def opened(folder: Path, name: str) -> Run:
    store = Store(folder)
    return store.find("k") or store.create(RunRecord(run_id=name, key="k", target="", profile=(), config={}))


def main(folder: Path, kind: str, name: str) -> int:
    run = opened(folder, name)
    state = run.folder / "backend"
    backend: Backend = LocalBackend(state)
    if kind == "slurm":
        backend = SlurmBackend(state, parse_options(OPTIONS), allow_cluster=True)
    context = PhaseContext(
        run_id=run.record.run_id, folder=run.folder, workspace=folder, config=Config(method="eagle3"), target=TargetFacts.model_construct(path="tiny"),
        sources=(), standing=None, layer_ids=(), versions={},
    )  # fmt: skip
    loop = Loop(
        run, context, backend, cast(Any, None), Said(), ask=False,
        pipeline=PHASES, jobs={name: Tiny(name) for name in PHASES}, poll_s=0.05,
    )  # fmt: skip
    if not run.events():
        run.append("started")
    try:
        driver.drive(loop)
    except DraftsmithError as error:
        print(error, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
