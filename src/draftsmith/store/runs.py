"""Runs on disk. A run is a folder; its journal is the only truth about how far it came.

<workspace>/runs/<run-id>/
  run.json               the request (RunRecord), written once
  journal/000001.json    one event a file: committed by linking the next free number, so two writers cannot both win
  phases/<phase>/        plan.json, job.json, logs, progress.json, result.json and what the phase made
  processes/             registry of started processes (see kit.processes)
  bundle/                the evidence
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field

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
    """The request of a run. `key` identifies it: the same request again resumes the same run."""

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
        """run.json. Raises InputError if it is torn or of another version."""
        return _read(self.folder / "run.json", RunRecord)

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
        """The journal, in order. Raises InputError if an event is torn or of another version."""
        return [_read(path, Event) for path in sorted((self.folder / "journal").glob("[0-9]*.json"))]

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
        """Complete runs, oldest first. One that cannot be read does not stand in the way of the others: see `unreadable`."""
        return [run for _, run in self._readable()]

    def unreadable(self) -> list[str]:
        """Names of the folders whose run.json is torn, or of a newer version. They are left as they are."""
        good = {run.folder.name for _, run in self._readable()}
        return sorted(path.parent.name for path in self.root.glob("*/run.json") if path.parent.name not in good)

    def _readable(self) -> list[tuple[RunRecord, Run]]:
        """Oldest first, each record read once: there may be thousands."""
        readable = []
        for path in self.root.glob("*/run.json"):
            with contextlib.suppress(InputError):
                run = Run(path.parent)
                record = run.record
                if record.run_id:
                    readable.append((record, run))
        return sorted(readable, key=lambda item: (item[0].created_unix_s, item[0].run_id))

    def get(self, run_id: str | None) -> Run:
        """A run by id, or the newest. Raises InputError that lists the ids."""
        runs = self._readable()
        if run_id is not None and run_id in self.unreadable():
            return Run(self.root / run_id)  # whose record says why it cannot be read
        if not runs:
            skipped = f" that can be read (skipped: {', '.join(self.unreadable())})" if self.unreadable() else ""
            raise InputError(f"no runs in {self.root.parent}{skipped}", "start one with `draftsmith run`")
        if run_id is None:
            return runs[-1][1]
        for record, run in runs:
            if record.run_id == run_id:
                return run
        known = ", ".join(record.run_id for record, _ in runs[-5:])
        raise InputError(f"no run {run_id!r}", f"known runs: {known}")

    def find(self, key: str) -> Run | None:
        """The newest run of the same request, finished or not."""
        return next((run for record, run in reversed(self._readable()) if record.key == key), None)


_M = TypeVar("_M", bound=BaseModel)


def _read(path: Path, kind: type[_M]) -> _M:
    try:
        return kind.model_validate(read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.parent.name}/{path.name} cannot be read ({type(error).__name__}): torn, or of another version",
            "use the version of draftsmith that wrote it, restore it from a backup, or move its run away",
        ) from None


def new_run_id(target: Path, now_unix_s: float) -> str:
    """A label that is also a valid Kubernetes name: `<target>-<utc time>-<4 hex>`."""
    slug = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:24] or "model"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_unix_s))
    return f"{slug}-{stamp}-{secrets.token_hex(2)}"
