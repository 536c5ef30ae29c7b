"""Runs on disk. A run is a folder; its journal is the only truth about how far it came.

<workspace>/runs/<run-id>/
  run.json               what was asked for (RunRecord), written once
  journal/000001.json    one event a file: committed by linking the next free number, so two writers cannot both win
  phases/<phase>/        plan.json, job.json, logs, progress.json, result.json and what the phase made
  processes/             registry of started processes (see kit.processes)
  bundle/                the evidence
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, read_json, write_json

EventKind = Literal[
    "started",
    "cleared",
    "submitted",
    "adopted",
    "phase_done",
    "phase_failed",
    "declined",
    "intent",
    "effect",
    "finished",
]


class RunRecord(Frozen):
    """What a run was asked to do. `key` identifies the request: the same request again resumes the same run."""

    run_id: str
    key: str
    target: str
    profile: tuple[str, ...]
    config: dict[str, Any]
    mode: str = "oneshot"
    created_unix_s: float = 0.0
    draftsmith_version: str = ""


class Event(Frozen):
    """One line of the journal. `data` depends on the kind; see loop.advance."""

    number: int
    at_unix_s: float
    kind: EventKind
    phase: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class Run:
    """A run's folder. Values are read fresh from disk; only `append` changes the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def record(self) -> RunRecord:
        """run.json."""
        return RunRecord.model_validate(read_json(self.folder / "run.json"))

    def phase_dir(self, phase: str) -> Path:
        """The private folder of a phase."""
        return private_dir(self.folder / "phases" / phase)

    @property
    def processes(self) -> Path:
        """Registry folder of the processes that this run started."""
        return private_dir(self.folder / "processes")

    @property
    def bundle(self) -> Path:
        """Where the evidence goes."""
        return self.folder / "bundle"

    def events(self) -> list[Event]:
        """The journal, in order."""
        paths = sorted((self.folder / "journal").glob("[0-9]*.json"))
        return [Event.model_validate(read_json(path)) for path in paths]

    def append(self, kind: EventKind, phase: str | None = None, **data: Any) -> Event:
        """Commit one event. Raises FileExistsError if another writer took the number: reread and decide again."""
        journal = private_dir(self.folder / "journal")
        number = len(list(journal.glob("[0-9]*.json"))) + 1
        event = Event(number=number, at_unix_s=time.time(), kind=kind, phase=phase, data=data)
        draft = journal / f".{os.getpid()}.{secrets.token_hex(4)}"
        write_json(draft, event)
        try:
            os.link(draft, journal / f"{number:06d}.json")
        finally:
            draft.unlink()
        return event


class Store:
    """All runs of a workspace."""

    def __init__(self, workspace: Path) -> None:
        self.root = workspace / "runs"

    def create(self, record: RunRecord) -> Run:
        """Make a run's folder; run.json is written last and makes it real."""
        folder = private_dir(self.root / record.run_id)
        private_dir(folder / "journal")
        write_json(folder / "run.json", record)
        return Run(folder)

    def runs(self) -> list[Run]:
        """Complete runs, oldest first."""
        found = [Run(path.parent) for path in self.root.glob("*/run.json")]
        return sorted(found, key=lambda run: (run.record.created_unix_s, run.record.run_id))

    def get(self, run_id: str | None) -> Run:
        """A run by id, or the newest. Raises InputError that lists the ids."""
        runs = self.runs()
        if not runs:
            raise InputError(f"no runs in {self.root.parent}", "start one with `draftsmith run`")
        if run_id is None:
            return runs[-1]
        for run in runs:
            if run.record.run_id == run_id:
                return run
        known = ", ".join(run.record.run_id for run in runs[-5:])
        raise InputError(f"no run {run_id!r}", f"known runs: {known}")

    def find(self, key: str) -> Run | None:
        """The newest run of the same request, finished or not."""
        return next((run for run in reversed(self.runs()) if run.record.key == key), None)


def new_run_id(target: Path, now_unix_s: float) -> str:
    """A label that is also a valid Kubernetes name: `<target>-<utc time>-<4 hex>`."""
    slug = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:24] or "model"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_unix_s))
    return f"{slug}-{stamp}-{secrets.token_hex(2)}"
