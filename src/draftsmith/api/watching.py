"""Reading workspaces again and again, cheaply: what a page, a scrape and a terminal that is left open ask for.

A run is read anew only when its journal or its bundle changed; of the controller's journal only new events are read.
Nothing is written. One object may be asked from several threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from draftsmith.contract.config import Config
from draftsmith.contract.control import STATE_SENTENCE, ControlEvent, ControlView
from draftsmith.contract.errors import InputError
from draftsmith.contract.verdict import Decision
from draftsmith.contract.view import ModelView, RunHead, RunProgress, RunView
from draftsmith.controller.journal import Journal
from draftsmith.kit.files import read_json
from draftsmith.loop.advance import completed
from draftsmith.loop.jobs import read_progress
from draftsmith.loop.view import run_view
from draftsmith.store.runs import Run
from draftsmith.store.state import read_state

VIEWS_KEPT = 500


class Watch:
    """One workspace. `slug` is its name in addresses, unique among those that are watched together."""

    def __init__(self, config: Config, slug: str) -> None:
        self.config, self.slug = config, slug
        self.workspace = Path(config.workspace).resolve()
        self._lock = threading.RLock()
        self._heads: dict[str, tuple[int, RunHead | None]] = {}
        self._sorted: list[RunHead] = []
        self._views: OrderedDict[str, tuple[tuple[int, ...], RunView]] = OrderedDict()
        self._journal = Journal(self.workspace)

    def heads(self) -> tuple[list[RunHead], list[str]]:
        """Runs, newest first, and the names of folders whose run.json cannot be read."""
        with self._lock:
            heads_read: dict[str, tuple[int, RunHead | None]] = {}
            for name in _names(self.workspace / "runs"):
                kept = self._heads.get(name)
                if kept is None or kept[1] is None:  # run.json is written once: what was read is not looked at again
                    stamp = _stamp(self.workspace / "runs" / name / "run.json")
                    if not stamp:
                        continue
                    kept = kept if kept and kept[0] == stamp else (stamp, head_of(self.workspace / "runs" / name))
                heads_read[name] = kept
            if heads_read != self._heads:
                heads = [head for _, head in heads_read.values() if head is not None]
                heads.sort(key=lambda head: (head.created_unix_s, head.run_id), reverse=True)
                self._heads, self._sorted = heads_read, heads
            return self._sorted, sorted(name for name, (_, head) in heads_read.items() if head is None)

    def run(self, run_id: str) -> RunView:
        """A run by id. Raises InputError if there is none, or its journal cannot be read."""
        with self._lock:
            head = next((head for head in self.heads()[0] if head.run_id == run_id), None)
            if head is None:
                raise InputError("there is no such run in this workspace", "see the list of runs")
            return self._view(head)

    def _view(self, head: RunHead) -> RunView:
        folder = Path(head.folder)
        stamps = (_stamp(folder / "journal"), _stamp(folder / "bundle"))
        kept = self._views.get(head.run_id)
        view = kept[1] if kept and kept[0] == stamps else run_view(Run(folder))
        self._views[head.run_id] = (stamps, view)
        self._views.move_to_end(head.run_id)
        while len(self._views) > VIEWS_KEPT:
            self._views.popitem(last=False)
        return view

    def progress(self, run: RunView) -> RunProgress | None:
        """What the job of a run that is under way says; None where none is."""
        for phase in run.phases:
            if phase.state == "done":
                continue
            progress = read_progress(Path(run.folder) / "phases" / phase.phase) if phase.state == "open" else None
            if progress is None:
                return None
            return RunProgress(
                phase=phase.phase,
                stage=progress.stage,
                done=progress.done,
                total=progress.total,
                unit=progress.unit,
                note=progress.note,
                eta_s=progress.eta_s,
                updated_unix_s=progress.updated_unix_s,
            )
        return None

    def decision(self, run: RunView) -> Decision | None:
        """The decision of a run with every arm and guard; None if there is none, or it cannot be read any more."""
        with contextlib.suppress(OSError, ValueError, KeyError, InputError):
            done = completed(Run(Path(run.folder)).events())
            path = done["compare"].data["result"]["outputs"]["verdict"]
            return Decision.model_validate(read_json(Path(path)))
        return None

    def events(self) -> list[ControlEvent]:
        """The controller's journal, oldest first. Raises InputError if it is damaged."""
        with self._lock:
            return self._journal.events()

    def model(self, shown: int = 10, offset: int = 0, events: int = 50) -> ModelView:
        """The workspace now, with `shown` runs from the newest but `offset` on."""
        with self._lock:
            trouble: list[str] = []
            heads, unreadable = self.heads()
            page = heads[offset : offset + shown]
            runs = []
            for head in page:
                try:
                    runs.append(self._view(head))
                except (InputError, ValueError, KeyError) as error:
                    trouble.append(f"{head.run_id}: {getattr(error, 'message', type(error).__name__)}")
            state = controller = None
            try:
                state = read_state(self.workspace)
            except InputError as error:
                trouble.append(error.message)
            try:
                controller = self._controller(events)
            except InputError as error:
                trouble.append(error.message)
            target = state.target if state else self.config.target or (heads[0].target if heads else "")
            newest = runs[0] if runs and offset == 0 and page[0].run_id == runs[0].run_id else None
            return ModelView(
                slug=self.slug,
                name=Path(target).name or self.workspace.name,
                workspace=str(self.workspace),
                state=state,
                runs=tuple(runs),
                heads=tuple(head for head in page),
                runs_total=len(heads),
                unreadable=tuple(unreadable),
                progress=self.progress(newest) if newest else None,
                controller=controller,
                trouble="; ".join(trouble) or None,
            )

    def _controller(self, events: int) -> ControlView | None:
        result = self._journal.events()
        if not result:
            return None
        memory, alive, seen = self._journal.memory(), self._journal.alive(), self._journal.last_look()
        state = memory.state if alive else "stopped"
        return ControlView(
            workspace=str(self.workspace),
            alive=alive,
            state=state,
            sentence=STATE_SENTENCE[state],
            why=memory.why,
            mode=memory.mode,
            since_unix_s=result[-1].at_unix_s,
            looked_unix_s=seen.now_unix_s if seen else None,
            memory=memory,
            seen=seen,
            events=tuple(result[-events:]) if events else (),
        )


def watch(config: Config, workspaces: Sequence[str] = ()) -> tuple[Watch, ...]:
    """One Watch a workspace; without any, that of the configuration. Raises InputError for a folder that is not there."""
    configs = [config.model_copy(update={"workspace": workspace}) for workspace in workspaces] or [config]
    taken: set[str] = set()
    watches = []
    for item in configs:
        folder = Path(item.workspace).resolve()
        if workspaces and not folder.is_dir():
            raise InputError(f"{item.workspace} is no folder", "give the --workspace of a run or a controller")
        base = _slug(folder.name if len(configs) > 1 or not item.target else Path(item.target).name)
        slug = next(
            name for n in range(1, len(configs) + 2) if (name := base if n == 1 else f"{base}-{n}") not in taken
        )
        taken.add(slug)
        watches.append(Watch(item, slug))
    return tuple(watches)


def age_s(unix_s: float, now: float | None = None) -> float:
    """Seconds since then; never below 0, for clocks differ."""
    return max(0.0, (time.time() if now is None else now) - unix_s)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "model"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def head_of(folder: Path) -> RunHead | None:
    """What a list of runs says of a run; None where the folder holds none that can be read."""
    try:
        record = Run(folder).record
    except InputError:
        return None
    if record.run_id != folder.name:
        return None
    return RunHead(run_id=record.run_id, folder=str(folder), target=record.target, created_unix_s=record.created_unix_s)
