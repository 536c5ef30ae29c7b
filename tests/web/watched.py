"""Workspaces to look at, written through the store: runs that ended, one under way, and a controller with a story."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from draftsmith.contract import control as c
from draftsmith.contract.config import Config
from draftsmith.contract.job import JobProgress
from draftsmith.contract.state import ServiceState
from draftsmith.controller.journal import Journal
from draftsmith.kit.files import write_json
from draftsmith.store.runs import Run, RunRecord, Store
from draftsmith.store.state import remember

EAGLE = {"method": "eagle3", "model": "/drafts/secret-place/one", "num_speculative_tokens": 3}
FIGURES: dict[str, Any] = {
    "outcome": "WIN", "tier": "verdict", "reason": "faster by 21 %", "winner": "candidate",
    "speedup": {"value": 1.21, "low": 1.15, "high": 1.27, "confidence": 0.95},
    "acceptance_length": {"standing": 1.9, "candidate": 2.8}, "median_tpot_ms": {"standing@c4": 20.0, "candidate@c4": 16.5},
}  # fmt: skip
PHASES = ("profile", "corpus", "capture", "train", "compare", "promote", "publish")


def config(workspace: Path, **changed: Any) -> Config:
    return Config(**{"workspace": str(workspace), **changed})


def add_run(
    workspace: Path, run_id: str, *, done: int = 7, created: float | None = None, target: str = "/models/tiny",
    headline: str = "fine", figures: dict[str, Any] | None = None,
) -> Run:  # fmt: skip
    """A run with the first `done` phases done."""
    record = RunRecord(
        run_id=run_id, key=run_id, target=target, profile=("log.jsonl",), config={},
        created_unix_s=time.time() if created is None else created,
    )  # fmt: skip
    run = Store(workspace).create(record)
    run.append("started", standing=None)
    for phase in PHASES[:done]:
        result = {"ok": True, "wall_s": 12.0, "figures": (figures or FIGURES) if phase == "compare" else {}}
        run.append("phase_done", phase, headline=f"{phase}: {headline}", passed=True, result=result)
    return run


def under_way(workspace: Path, run_id: str = "tiny-now", **changed: Any) -> Run:
    """A run that trains: 40 of 100 steps in 80 seconds."""
    run = add_run(workspace, run_id, done=3, **changed)
    now = time.time()
    progress = JobProgress(
        stage="training",
        done=40,
        total=100,
        unit="steps",
        note="epoch 2 of 6",
        started_unix_s=now - 80,
        updated_unix_s=now,
    )
    write_json(run.phase_dir("train") / "progress.json", progress)
    return run


def moment(**live: Any) -> c.Moment:
    seen = {
        "requests": 400,
        "failed": 2,
        "acceptance_length": 2.6,
        "tpot_s": 0.02,
        "ttft_s": 0.2,
        "busy_share": 0.8,
        "acceptance_by_position": (0.81, 0.52, 0.27),
    }
    return c.Moment(
        now_unix_s=time.time(), free_gib=50.0, standing=EAGLE, live=c.LiveSeen(**{**seen, **live}),
        traffic=c.TrafficSeen(identity="x", new=120, windows=5, moved=1, drift="no drift", history=(
            c.WindowSeen(at_unix_s=1_772_355_600.0, requests=410, drifted=False, sentence="lengths as before"),
            c.WindowSeen(at_unix_s=1_772_359_200.0, requests=388, drifted=True, sentence="outputs are longer"),
        )),
    )  # fmt: skip


def controlled(workspace: Path, *, proposal: str = "promote", why: str = "the candidate is faster") -> Journal:
    """A controller that began, adopted what stands, and proposes something."""
    journal = Journal(workspace)
    journal.append("started", "a controller began, in mode propose", mode="propose")
    adopt = c.Adopt(config=EAGLE, why="found standing")
    journal.append("effect", adopt.why, act=adopt.model_dump(mode="json"))
    if proposal:
        act = c.Propose(act=proposal, key="k1", why=why)
        journal.append("effect", f"proposes: {why}", act=act.model_dump(mode="json"))
    journal.looked(moment())
    return journal


def served(workspace: Path, target: str = "/models/tiny") -> None:
    state = ServiceState(experiment_id="tiny", target=target, standing_config=EAGLE, champion_draft=EAGLE["model"])
    state = remember(state, "promoted", run_id="tiny-1", outcome="WIN", config=EAGLE)
    write_json(workspace / "service-state.json", state)
