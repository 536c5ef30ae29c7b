"""The controller's journal on disk, one event a file, and the lock that makes it the only one.

<workspace>/controller/
  lock                   held by the one controller while it lives
  journal/000001.json    one event a file, committed by linking the next free number under the lock of service-state.json
  look.json              what the last look saw: figures only
  runs/, profiles/, windows of traffic: see jobs.py and traffic.py
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from draftsmith.contract.control import ControlEvent, EventKind, Memory, Moment
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.controller.memory import fold
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.kit.lock import LockHeldError, held
from draftsmith.store.state import LOCK, WAIT_S

FOLDER = "controller"
STARTING_S = 2.0


class ChangedMeanwhileError(Exception):
    """Another writer added an event since the decision was made: look and decide again."""


class Journal:
    """The journal of one workspace. Events are read once and kept; only `append` adds one."""

    def __init__(self, workspace: Path, clock: Clock | None = None) -> None:
        self.workspace, self.folder = workspace, workspace / FOLDER
        self.clock = clock or SystemClock()
        self._events: list[ControlEvent] = []
        self._memory = Memory()
        self._first: tuple[int, int] | None = None

    def events(self) -> list[ControlEvent]:
        """All events, in order. Raises InputError if one is torn or of another version."""
        first = _identity(self._path(1))
        if first != self._first:  # the journal was moved away, as an error advises, and another one began
            self._events, self._memory, self._first = [], Memory(), first
        while (path := self._path(len(self._events) + 1)).exists():
            self._events.append(_read(path))
        return list(self._events)

    def memory(self) -> Memory:
        """The journal folded up to now. Raises InputError for an event that this version does not understand."""
        events = self.events()
        try:
            if events[self._memory.last :]:
                self._memory = Memory.model_validate(fold(events[self._memory.last :], self._memory).model_dump())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"the controller's journal holds an event that this version does not understand ({type(error).__name__})",
                "use the version of draftsmith that wrote it, or a later one",
            ) from None
        return self._memory

    def append(self, kind: EventKind, sentence: str, *, after: int | None = None, **data: Any) -> ControlEvent:
        """Commit one event. `after`: only if the journal still ends with this number.

        Raises ChangedMeanwhileError if it does not, RefusedError if the lock cannot be had, OSError (disk full).
        """
        try:
            with held(self.workspace / LOCK, WAIT_S):
                number = len(self.events()) + 1
                if after is not None and number != after + 1:
                    raise ChangedMeanwhileError
                event = ControlEvent(
                    number=number, at_unix_s=self.clock.unix(), kind=kind, sentence=sentence, data=data
                )
                self._commit(event)
        except LockHeldError:
            raise RefusedError(
                "another process holds the lock of service-state.json", "run the same command again"
            ) from None
        return event

    def _commit(self, event: ControlEvent) -> None:
        path = self._path(event.number)
        draft = private_dir(path.parent) / f".{os.getpid()}.{secrets.token_hex(4)}"
        write_json(draft, event)
        try:
            os.link(draft, path)
        finally:
            draft.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / "journal" / f"{number:06d}.json"

    # -- the one controller, and what it saw last --------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one controller of the workspace while the block runs. Raises RefusedError for a second one."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(private_dir(self.folder) / "lock", STARTING_S))
            except LockHeldError:
                raise RefusedError(
                    f"another controller is at work in {self.workspace.name}",
                    "see `draftsmith controller status`; stop it first, or give another --workspace",
                ) from None
            yield

    def alive(self) -> bool:
        """Whether a controller holds the workspace now."""
        if not (self.folder / "lock").exists():
            return False
        try:
            with held(self.folder / "lock"):
                return False
        except LockHeldError:
            return True

    def looked(self, at: Moment) -> None:
        """Keep what was seen, for those who ask. A disk that is full does not stop the controller here."""
        with contextlib.suppress(OSError):
            write_json(private_dir(self.folder) / "look.json", at)

    def last_look(self) -> Moment | None:
        """What the last look saw; None if there is none, or it is of another version."""
        try:
            return Moment.model_validate(read_json(self.folder / "look.json"))
        except (OSError, ValueError):
            return None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read(path: Path) -> ControlEvent:
    try:
        return ControlEvent.model_validate(read_json(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"the controller's journal cannot be read at {path.name} ({type(error).__name__}): torn, or of another version",
            "use the version of draftsmith that wrote it, restore it from a backup, or move the folder controller away",
        ) from None
