"""The real world of the controller: what it looks at, and how each act is carried out.

Each look is taken by itself: what fails is None in the moment, with a word in `trouble`, and nothing is concluded from it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from draftsmith.contract import control as c
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, RefusedError
from draftsmith.controller.jobs import RunJobs
from draftsmith.controller.live import LiveReader
from draftsmith.controller.notify import Notifier
from draftsmith.controller.traffic import TrafficReader
from draftsmith.engines.base import Engine
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.serving.base import Serving

GIB = 2**30
IDENTITY_S = 300.0
"""How often the target's weights and the engine's version are looked at: hashing gigabytes is no work for every look."""
_T = TypeVar("_T")


@dataclass
class WorldHands:
    """See tick.Hands. `target`: digest of the target's weights; `engine_name`: name and version of what serves."""

    config: Config
    workspace: Path
    serving: Serving
    engine: Engine
    traffic: TrafficReader
    jobs: RunJobs
    live: LiveReader
    notifier: Notifier
    target: Callable[[], str]
    engine_name: Callable[[str | None], str | None]
    clock: Clock = field(default_factory=SystemClock)
    keep: Callable[[c.Moment], None] = lambda moment: None
    trouble: dict[str, str] = field(default_factory=dict)
    _clocks: tuple[float, float] | None = None
    _identity: tuple[float, str | None, str | None] | None = None

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self, memory: c.Memory) -> c.Moment:
        """See tick.Hands."""
        now = self.clock.unix()
        jumped = self._jumped(now)
        target, engine = self._identities()
        standing = self._could("standing", lambda: (self.serving.current(),))
        moment = c.Moment(
            now_unix_s=now,
            jumped_s=jumped,
            traffic=self._could("traffic", lambda: self.traffic.look(now)),
            live=self._live(memory, now),
            run=self._run(memory.run),
            standing=standing[0] if standing else None,
            standing_known=standing is not None,
            target_sha256=target,
            engine=engine,
            free_gib=self._could("disk", lambda: shutil.disk_usage(self.workspace).free / GIB),
            other_run=None if memory.run else self._could("runs", self.jobs.other_run),
        )
        self.keep(moment)
        return moment

    def _live(self, memory: c.Memory, now: float) -> c.LiveSeen | None:
        url = self._endpoint()
        if url is None:
            return None
        return self._could("live", lambda: self.live.look(url, now, memory.champion))

    def _endpoint(self) -> str | None:
        given = self.config.serving.endpoint
        return given.rstrip("/").removesuffix("/v1") if given else None

    def _run(self, run: c.RunInHand | None) -> c.RunSeen | None:
        if run is None or run.concluded is not None:
            return None
        return self._could("run", lambda: self.jobs.seen(run))

    def _identities(self) -> tuple[str | None, str | None]:
        now = self.clock.monotonic()
        if self._identity is None or now - self._identity[0] > IDENTITY_S:
            target = self._could("target", self.target)
            engine = self._could("engine", lambda: self.engine_name(self._endpoint()))
            self._identity = (now, target, engine)
        return self._identity[1:]

    def _jumped(self, now: float) -> float:
        steady = self.clock.monotonic()
        before, self._clocks = self._clocks, (now, steady)
        return 0.0 if before is None else (now - before[0]) - (steady - before[1])

    def _could(self, text: str, look: Callable[[], _T]) -> _T | None:
        try:
            seen_jobs = look()
        except (DraftsmithError, OSError, ValueError) as error:
            self.trouble[text] = getattr(error, "message", None) or type(error).__name__
            return None
        self.trouble.pop(text, None)
        return seen_jobs

    # -- acting ------------------------------------------------------------------------------------------------------

    def perform(self, act: c.Act, memory: c.Memory) -> dict[str, Any]:
        """See tick.Hands. Acts on live traffic need a managed service."""
        match act:
            case c.StartRun():
                return self._start_run(act, memory)
            case c.Conclude():
                if not act.promotes and memory.run is not None:
                    self.jobs.forget(self.jobs.folder_of(memory.run.traffic))
                return {}
            case c.Promote():
                return self._promote(memory)
            case c.Propose() | c.Adopt() | c.Settle() | c.Wait():
                return {}
        raise RefusedError(
            f"{act.kind.replace('_', ' ')} needs a service that Draftsmith manages", 'set serving.kind = "managed"'
        )

    def _start_run(self, act: c.StartRun, memory: c.Memory) -> dict[str, Any]:
        began = memory.run.began_unix_s if memory.run else self.clock.unix()
        run = c.RunInHand(reason=act.reason, why=act.why, traffic=act.traffic, attempt=act.attempt, began_unix_s=began)
        self.traffic.snapshot(self.jobs.folder_of(act.traffic), act.traffic)
        self.jobs.start(run, memory.champion)
        self.traffic.begun(act.traffic)
        return {}

    def _promote(self, memory: c.Memory) -> dict[str, Any]:
        if memory.run is None:
            raise RefusedError("there is no run to promote", "see `draftsmith controller log`")
        result = self.jobs.finish(memory.run.traffic)
        self.jobs.forget(self.jobs.folder_of(memory.run.traffic))
        outputs = result.outputs
        if outputs.get("promoted"):
            self.traffic.learned()
        self._identity = None
        target, engine = self._identities()
        kept = ("promoted", "headline", "config", "acceptance_length")
        return {name: outputs.get(name) for name in kept} | {"target_sha256": target, "engine": engine}

    def tell(self, event: c.ControlEvent, memory: c.Memory) -> None:
        """See tick.Hands."""
        self.notifier.tell(event)


def forever(step: Callable[[], c.Act], every_s: float, stopped: Callable[[], bool], clock: Clock) -> None:
    """Take step after step until told to stop. After an act the next look is taken at once."""
    while not stopped():
        act = step()
        deadline = clock.monotonic() + (every_s if isinstance(act, c.Wait) else 0.0)
        while clock.monotonic() < deadline and not stopped():
            time.sleep(min(0.2, max(0.0, deadline - clock.monotonic())))
