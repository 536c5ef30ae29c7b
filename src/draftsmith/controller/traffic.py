"""New traffic, window by window: counted, sampled, profiled, and set beside the traffic that the champion knows.

What is kept on disk is counts, places in files and profiles, which are aggregates: no prompt and no answer. The text of a
sampled request is copied for the moment in which its window is profiled, and the traffic of a run while the run lasts.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.control import TrafficSeen, WindowSeen
from draftsmith.contract.errors import InputError
from draftsmith.contract.policy import Policy
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.controller.cursor import Line, Place, added, files, key, moved_to, read_line, settle
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.profiling.drift import MIN_RECORDS, compare

STATE = "traffic.json"
MIB = 1 << 20
KEPT_WINDOWS = 12
Profiler = Callable[[Path], WorkloadProfile]


class Window(Frozen):
    """The window that is open. `sample` is a uniform sample of its lines; `seen` counts all of them."""

    opened_unix_s: float
    seen: int = 0
    sample: tuple[Line, ...] = ()


class State(Frozen):
    """What the reader keeps. `marks`: places at the time the last run began; `marked`: lines read until then."""

    places: dict[str, Place] = Field(default_factory=dict)
    lines: int = 0
    bytes: int = 0
    marks: dict[str, int] = Field(default_factory=dict)
    marked: int = 0
    window: Window | None = None
    windows: int = 0
    moved: int = 0
    drift: str = ""
    trouble: str | None = None
    history: tuple[WindowSeen, ...] = ()


class TrafficReader:
    """Follows the sources of one served model. `profiler` makes the profile of a file of records."""

    def __init__(self, folder: Path, sources: list[str], policy: Policy, profiler: Profiler) -> None:
        self.folder, self.sources, self.policy, self._profiler = private_dir(folder), sources, policy, profiler
        self._state = self._load()
        self._chance = random.Random(self._state.lines)  # noqa: S311 - a sample, no secret

    @property
    def reference(self) -> Path:
        """Profile of the traffic that the champion knows; absent until a first window is complete."""
        return self.folder / "profiles" / "reference.json"

    @property
    def latest(self) -> Path:
        """Profile of the last complete window."""
        return self.folder / "profiles" / "latest.json"

    def look(self, now_unix_s: float) -> TrafficSeen:
        """Read what is new. Raises OSError if a source is not there; what was read before stays."""
        before = self._state
        self._read(now_unix_s)
        self._close_window(now_unix_s)
        if self._state != before:
            write_json(self.folder / STATE, self._state)
        return self.seen()

    def seen(self) -> TrafficSeen:
        """What was read so far."""
        state = self._state
        return TrafficSeen(
            identity=f"{state.lines}:{state.bytes}",
            new=state.lines - state.marked,
            windows=state.windows,
            history=state.history,
            moved=state.moved,
            drift=state.drift,
            trouble=state.trouble,
        )

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, now: float) -> None:
        places, trouble = dict(self._state.places), None
        window = self._state.window or Window(opened_unix_s=now)
        sample, seen = list(window.sample), window.seen
        lines, size = self._state.lines, self._state.bytes
        result = {key(path.stat()): path for path in files(self.sources)}
        for name, path in result.items():
            place, strange = settle(path, places.get(name))
            trouble = strange or trouble
            if strange:
                self._forget_mark(name)
            last = place.offset
            for line in added(place):
                last = line.start + line.length + 1
                seen += 1
                lines += 1
                size += line.length + 1
                if len(sample) < self.policy.window_requests:
                    sample.append(line)
                elif (at := self._chance.randrange(seen)) < len(sample):
                    sample[at] = line
            places[name] = moved_to(place, last) if last != place.offset else place
        removed = set(places) - set(result)
        window = window.model_copy(update={"seen": seen, "sample": tuple(sample)})
        self._set(
            places={name: place for name, place in places.items() if name not in removed},
            lines=lines, bytes=size, window=window, trouble=trouble,
        )  # fmt: skip

    def _close_window(self, now: float) -> None:
        window = self._state.window
        if window is None or now - window.opened_unix_s < self.policy.window_s or window.seen < MIN_RECORDS:
            return
        self._set(window=Window(opened_unix_s=now))
        try:
            profile = self._profile(window)
        except InputError as error:  # of the importers: nothing in the window can be used
            self._set(trouble=f"a window of {window.seen} records could not be profiled: {error.message}")
            return
        if profile is None:
            self._set(trouble="the files of a whole window were removed before it was profiled")
            return
        write_json(self.latest, profile)
        if not self.reference.exists():
            write_json(self.reference, profile)
            self._set(windows=1, moved=0, drift="the first window of traffic is what later ones are set beside")
            return
        report = compare(WorkloadProfile.model_validate(read_json(self.reference)), profile)
        moved = self._state.moved if report.drifted is None else self._state.moved + 1 if report.drifted else 0
        closed = WindowSeen(at_unix_s=now, requests=window.seen, drifted=report.drifted, sentence=report.sentence)
        history = (*self._state.history, closed)[-KEPT_WINDOWS:]
        self._set(windows=self._state.windows + 1, moved=moved, drift=report.sentence, history=history)

    def _profile(self, window: Window) -> WorkloadProfile | None:
        """The profile of a window's sample; its text is on disk for that long, in a private file."""
        texts = []
        for line in window.sample:
            try:
                texts.append(read_line(line))
            except OSError:
                continue  # its file was removed by the recorder's own cap
        if not texts:
            return None
        copy = write_atomic(self.folder / ".window.jsonl", b"\n".join(texts) + b"\n")
        try:
            return self._profiler(copy)
        finally:
            copy.unlink(missing_ok=True)

    # -- the traffic of a run ----------------------------------------------------------------------------------------

    def snapshot(self, folder: Path, identity: str) -> Path:
        """The traffic of a run as a file of its own: new lines, and a share of older ones against forgetting.

        The same identity gives the same file. Lines are sampled evenly where they are more than the policy's cap.
        """
        final = folder / "traffic.jsonl"
        if final.exists():
            return final
        until = int(identity.split(":")[0])
        known = [(place, self._state.marks.get(name, 0)) for name, place in self._state.places.items()]
        new = sum(max(0, place.offset - mark) for place, mark in known)
        old = sum(min(place.offset, mark) for place, mark in known)
        cap = self.policy.snapshot_mib * MIB
        keep_new = min(1.0, cap * (1 - self.policy.replay_share) / max(1, new))
        wanted = new * keep_new * self.policy.replay_share / (1 - self.policy.replay_share)
        keep_old = min(1.0, wanted / max(1, old))
        part = private_dir(folder) / ".traffic.part"
        with open(part, "wb", opener=_private) as out:
            for place, mark in known:
                whole = Place(path=place.path)
                for line in added(whole, place.offset):
                    if line.start >= place.offset:
                        break
                    share = keep_new if line.start >= mark else keep_old
                    if _chosen(f"{until} {line.path} {line.start}", share):
                        out.write(read_line(line) + b"\n")
        part.rename(final)
        return final

    def begun(self, identity: str) -> None:
        """A run on the traffic up to now has begun: what comes from here on is new. Saying it twice is harmless."""
        if int(identity.split(":")[0]) <= self._state.marked:
            return
        self._set(marks={name: place.offset for name, place in self._state.places.items()}, marked=self._state.lines)
        write_json(self.folder / STATE, self._state)
        if self.latest.exists():
            shutil.copyfile(self.latest, self.latest.with_name("trained.json"))

    def learned(self) -> None:
        """What was trained on is promoted: later windows are set beside the traffic of that run."""
        trained = self.latest.with_name("trained.json")
        if trained.exists():
            trained.replace(self.reference)
        self._set(moved=0, drift="the champion was trained on the latest traffic")
        write_json(self.folder / STATE, self._state)

    # -- state -------------------------------------------------------------------------------------------------------

    def _set(self, **changed: object) -> None:
        self._state = self._state.model_copy(update=changed)

    def _forget_mark(self, name: str) -> None:
        self._set(marks={key: mark for key, mark in self._state.marks.items() if key != name})

    def _load(self) -> State:
        path = self.folder / STATE
        if not path.exists():
            return State()
        try:
            return State.model_validate(read_json(path))
        except (OSError, ValueError):
            return State(trouble="what was read before could not be told: the traffic is read anew")


def _chosen(name: str, share: float) -> bool:
    """The answer for one line never changes."""
    if share >= 1.0:
        return True
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) < share * 2**64


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
