"""Removing canaries, and remembering on disk that they have to be. See canaries.py for the laws."""

from __future__ import annotations

import os
import platform
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from pydantic import ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.cluster import EXPERIMENT, EXPIRES, WORKSPACE, selector, slug
from draftsmith.contract.errors import BackendError, RunInterruptedError
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.kit.kube import CLAIMS, JOBS, PODS, SERVICES, ApiError, KubeApi, Object, Selection
from draftsmith.kit.kube_watch import TimeIsUpError, follow
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.refusals import translated

SAME_PROCESS_S = 1.0
PATIENCE_S = 30.0  # with an API server that refuses what it allowed when the canaries were started
PAUSE_S = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ROUNDS = 3
REMOVED = (SERVICES, JOBS, PODS)  # in this order: no traffic to what is about to go


class Intent(Frozen):
    """What somebody is about to create, and who. Times in seconds since the epoch."""

    experiment: str
    namespace: str
    objects: tuple[str, ...]
    host: str
    pid: int
    create_time: float
    intended_unix_s: float
    keep: bool = False

    @classmethod
    def of(cls, experiment: str, options: ServingOptions, objects: list[str], now: float) -> Intent:
        """The intent of this process."""
        me = psutil.Process()
        return cls(
            experiment=experiment,
            namespace=options.namespace,
            objects=tuple(objects),
            host=platform.node(),
            pid=os.getpid(),
            create_time=me.create_time(),
            intended_unix_s=now,
        )

    def is_dead(self) -> bool:
        """Whether its process is known to be gone. One of another machine cannot be seen: the lifetime ends it."""
        if self.keep or self.host != platform.node():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.create_time) > SAME_PROCESS_S
        except psutil.Error:
            return True


class Ledger:
    """Intents on disk, one file an experiment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "canaries"

    def intend(self, intent: Intent) -> None:
        """Write it down. Raises OSError."""
        write_json(private_dir(self._folder) / f"{slug(intent.experiment)}.json", intent)

    def keep(self, experiment: str) -> None:
        """Let it outlive its process: only `down`, or the end of its lifetime, removes it then."""
        for intent in self.intents():
            if intent.experiment == experiment:
                self.intend(intent.model_copy(update={"keep": True}))

    def forget(self, experiment: str) -> None:
        """It is gone from the cluster."""
        (self._folder / f"{slug(experiment)}.json").unlink(missing_ok=True)

    def workspace(self) -> str:
        """The mark of this workspace on its canaries: the same in every process, of no other workspace."""
        path = self._folder.parent / "canary-workspace"
        with suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        with suppress(FileExistsError):
            handle = os.open(private_dir(path.parent) / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as out:
                out.write(secrets.token_hex(8))
        return path.read_text(encoding="ascii").strip()

    def intents(self) -> list[Intent]:
        """All that are on record. A damaged file is left alone: the lifetime ends what it meant."""
        intents = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, ValidationError):
                intents.append(Intent.model_validate(read_json(path)))
        return intents


class Removal:
    """Removes objects by label and waits until the cluster confirms."""

    def __init__(self, api: KubeApi, options: ServingOptions, ledger: Ledger) -> None:
        self._api, self._options, self._ledger = api, options, ledger

    def remove(self, experiment: str, *, volumes: bool = False) -> list[str]:
        """Everything of an experiment; returns `Kind/name` of what was there. Raises BackendError if some remains."""
        select = named(experiment=experiment, component="canary")
        end = self._api.clock.monotonic() + PATIENCE_S
        with translated(f"remove the canaries of {experiment}"):
            while True:
                try:
                    return self._remove(select, self._is_mine, experiment if volumes else "")
                except ApiError as error:  # what holds a GPU is not left behind for a refusal that passes
                    if error.status not in (401, 403) or self._api.clock.monotonic() >= end:
                        raise
                self._api.clock.sleep(PAUSE_S)

    def others(self, experiment: str) -> list[str]:
        """Names of canaries of an experiment of this name that another workspace has started."""
        select = named(experiment=experiment, component="canary")
        with translated(f"look for canaries of {experiment}"):
            others = [
                item for kind in (JOBS, PODS) for item in self._api.list(kind, self._options.namespace, select).items
            ]
        return sorted({str(item["metadata"]["name"]) for item in others if not self._is_mine(item)})

    def _is_mine(self, item: Object) -> bool:
        """One without a mark was made before there were any."""
        return item["metadata"]["labels"].get(WORKSPACE, "") in ("", self._ledger.workspace())

    def remove_expired(self, now_unix_s: float) -> list[str]:
        """Canaries past their lifetime, of any run in this namespace, that the cluster has not ended itself."""
        with translated("look for canaries past their lifetime"):
            late = {
                _start_of(item)
                for resource in (JOBS, PODS)
                for item in self._api.list(resource, self._options.namespace, named(component="canary")).items
                if _expired(item, now_unix_s)
            }
            return self._remove(named(component="canary"), lambda item: _start_of(item) in late) if late else []

    def _remove(self, select: Selection, wanted: Callable[[Object], bool], volumes_of: str = "") -> list[str]:
        removed: list[str] = []
        for resource in REMOVED:
            for _ in range(ROUNDS):  # a removal that met a conflict is requested again
                present = [
                    item for item in self._api.list(resource, self._options.namespace, select).items if wanted(item)
                ]
                names = [f"{resource.kind}/{item['metadata']['name']}" for item in present]
                removed += [name for name in names if name not in removed]
                still_present = [item for item in present if not item["metadata"].get("deletionTimestamp")]
                for item in still_present:
                    self._delete(resource, item)
                if not still_present:
                    break
        if removed:
            self._confirm(select, wanted)
        if volumes_of:
            for item in self._api.list(CLAIMS, self._options.namespace, named(experiment=volumes_of)).items:
                removed.append(f"{CLAIMS.kind}/{item['metadata']['name']}")
                self._delete(CLAIMS, item)
        return removed

    def _delete(self, resource: Any, item: Object) -> None:
        meta = item["metadata"]
        self._api.delete(resource, self._options.namespace, meta["name"], uid=meta["uid"])

    def _confirm(self, select: Selection, wanted: Callable[[Object], bool]) -> None:
        """Wait until nothing is left: a canary that still ends still holds its GPU."""
        limit_s, namespace = self._options.removal_timeout_s, self._options.namespace
        try:
            follow(self._api, PODS, namespace, select, limit_s, lambda pods: None if any(map(wanted, pods)) else True)
        except TimeIsUpError as late:
            names = ", ".join(str(item["metadata"]["name"]) for item in late.objects if wanted(item))
            raise BackendError(
                f"{names or 'canaries'} could not be removed within {limit_s:g} s",
                "run `draftsmith canary sweep` later; the cluster ends them at the end of their lifetime",
            ) from late.error
        for resource in REMOVED:
            left = filter(wanted, self._api.list(resource, namespace, select).items)
            if any(not item["metadata"].get("deletionTimestamp") for item in left):
                raise BackendError(f"a {resource.kind} of the canaries came back", "run `draftsmith canary sweep`")


def named(experiment: str | None = None, component: str | None = None) -> Selection:
    """Draftsmith's objects of an experiment, a component, or both."""
    wanted = {"experiment": experiment, "component": component}
    return Selection(labels=selector(**{key: value for key, value in wanted.items() if value}))


def _start_of(item: Object) -> tuple[str, str]:
    """Experiment and workspace: what was started together."""
    labels = item["metadata"]["labels"]
    return labels.get(EXPERIMENT, ""), labels.get(WORKSPACE, "")


def _expired(item: Object, now_unix_s: float) -> bool:
    text = str((item["metadata"].get("annotations") or {}).get(EXPIRES, ""))
    return text.isdigit() and float(text) < now_unix_s


@contextmanager
def unwinding(undo: Callable[[], object], *, only_on_error: bool = False) -> Iterator[None]:
    """Run `undo` on the way out, signals included: they unwind the body, and wait while `undo` works.

    An error of `undo` does not hide the one that led to it: it becomes a note of it.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    for number in before:
        signal.signal(number, _interrupt)
    try:
        try:
            yield
        except BaseException as error:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
            try:
                undo()
            except Exception as second:
                error.add_note(f"and what was started could not be removed: {second}")
            raise
        if not only_on_error:
            for number in before:
                signal.signal(number, signal.SIG_IGN)
            undo()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    raise RunInterruptedError(f"stopped by {signal.Signals(number).name}", "the same command begins again")
