"""Removing canaries, and remembering on disk that they have to be. See canary.py for the laws."""

from __future__ import annotations

import os
import platform
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
from draftsmith.contract.cluster import COMPONENT, EXPERIMENT, EXPIRES, explain, selector, slug
from draftsmith.contract.errors import BackendError, RunInterruptedError
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.kit.kube import CLAIMS, JOBS, PODS, SERVICES, ApiError, KubeApi, Object, Selection
from draftsmith.kit.kube_watch import TimeIsUpError, follow
from draftsmith.serving.kubernetes.options import ServingOptions

SAME_PROCESS_S = 1.0
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

    def intents(self) -> list[Intent]:
        """All that are on record. A damaged file is left alone: the lifetime ends what it meant."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, ValidationError):
                found.append(Intent.model_validate(read_json(path)))
        return found


class Removal:
    """Removes objects by label and waits until the cluster confirms."""

    def __init__(self, api: KubeApi, options: ServingOptions, ledger: Ledger) -> None:
        self._api, self._options, self._ledger = api, options, ledger

    def remove(self, experiment: str, *, volumes: bool = False) -> list[str]:
        """Everything of an experiment; returns `Kind/name` of what was there. Raises BackendError if some remains."""
        with translated(f"remove the canaries of {experiment}"):
            return self._remove(named(experiment=experiment, component="canary"), volumes and experiment)

    def remove_expired(self, now_unix_s: float) -> list[str]:
        """Canaries past their lifetime, of any run in this namespace, that the cluster has not ended itself."""
        with translated("look for canaries past their lifetime"):
            late = {
                item["metadata"]["labels"].get(EXPERIMENT, "")
                for resource in (JOBS, PODS)
                for item in self._api.list(resource, self._options.namespace, named(component="canary")).items
                if _expired(item, now_unix_s)
            }
            return [name for each in sorted(late - {""}) for name in self._remove(_by_label(each), False)]

    def _remove(self, select: Selection, volumes_of: str | bool) -> list[str]:
        removed: list[str] = []
        for resource in REMOVED:
            for _ in range(ROUNDS):  # a removal that met a conflict is asked for again
                found = self._api.list(resource, self._options.namespace, select).items
                names = [f"{resource.kind}/{item['metadata']['name']}" for item in found]
                removed += [name for name in names if name not in removed]
                here = [item for item in found if not item["metadata"].get("deletionTimestamp")]
                for item in here:
                    self._delete(resource, item)
                if not here:
                    break
        if removed:
            self._confirm(select)
        if volumes_of:
            for item in self._api.list(CLAIMS, self._options.namespace, named(experiment=str(volumes_of))).items:
                removed.append(f"{CLAIMS.kind}/{item['metadata']['name']}")
                self._delete(CLAIMS, item)
        return removed

    def _delete(self, resource: Any, item: Object) -> None:
        meta = item["metadata"]
        self._api.delete(resource, self._options.namespace, meta["name"], uid=meta["uid"])

    def _confirm(self, select: Selection) -> None:
        """Wait until nothing is left: a canary that still ends still holds its GPU."""
        limit_s, namespace = self._options.removal_timeout_s, self._options.namespace
        try:
            follow(self._api, PODS, namespace, select, limit_s, lambda pods: True if not pods else None)
        except TimeIsUpError as late:
            names = ", ".join(str(item["metadata"]["name"]) for item in late.objects)
            raise BackendError(
                f"{names or 'canaries'} could not be removed within {limit_s:g} s",
                "run `draftsmith canary sweep` later; the cluster ends them at the end of their lifetime",
            ) from late.error
        for resource in REMOVED:
            left = self._api.list(resource, namespace, select).items
            if any(not item["metadata"].get("deletionTimestamp") for item in left):
                raise BackendError(f"a {resource.kind} of the canaries came back", "run `draftsmith canary sweep`")


def named(experiment: str | None = None, component: str | None = None) -> Selection:
    """Draftsmith's objects of an experiment, a component, or both."""
    wanted = {"experiment": experiment, "component": component}
    return Selection(labels=selector(**{key: value for key, value in wanted.items() if value}))


def _by_label(experiment_label: str) -> Selection:
    return Selection(labels=f"{selector()},{COMPONENT}=canary,{EXPERIMENT}={experiment_label}")


def _expired(item: Object, now_unix_s: float) -> bool:
    text = str((item["metadata"].get("annotations") or {}).get(EXPIRES, ""))
    return text.isdigit() and float(text) < now_unix_s


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Refusals of the API server become errors with a next step."""
    try:
        yield
    except ApiError as error:
        raise explain(error, doing) from error


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
