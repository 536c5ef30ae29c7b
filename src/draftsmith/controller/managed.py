"""The hands of a managed service: what serves is brought to what the journal says, and both sides of a share are watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract import control as c
from draftsmith.contract.speculation import SpecConfig
from draftsmith.controller.hands import WorldHands
from draftsmith.controller.live import LiveReader
from draftsmith.controller.rollout import FEWEST
from draftsmith.controller.sides import after, wanted
from draftsmith.serving.managed.fleet import Fleet, Slot

NO_CHANGE = ("start_run", "conclude", "propose", "adopt")


@dataclass(kw_only=True)
class ManagedHands(WorldHands):
    """See tick.Hands. `fleet`: engines and proxy."""

    fleet: Fleet
    standby: bool = True
    readers: dict[str, LiveReader] = field(default_factory=dict)
    _errors: dict[tuple[str, float], int] = field(default_factory=dict)
    _beside: c.LiveSeen | None = None
    _before: c.LiveSeen | None = None

    def look(self, memory: c.Memory) -> c.Moment:
        """See tick.Hands."""
        moment = super().look(memory)
        sides = wanted(memory, moment.standing, standby=self.standby)
        amiss = self._could("service", lambda: (self.fleet.amiss(sides),))
        moment = moment.model_copy(
            update={"amiss": amiss[0] if amiss else None, "can_shift": True, "beside": self._old_side(memory, moment)}
        )
        self.keep(moment)
        return moment

    def _live(self, memory: c.Memory, now: float) -> c.LiveSeen | None:
        rollout = memory.rollout
        if rollout is not None:
            return self._side(rollout.config, memory, now, rollout.since_unix_s)
        config = None if memory.fallback or memory.champion is None else memory.champion.config
        return self._side(config, memory, now, None)

    def _old_side(self, memory: c.Memory, moment: c.Moment) -> c.LiveSeen | None:
        """The side that stood. With the whole traffic on the new one, what it showed last is what there is."""
        rollout = memory.rollout
        if rollout is None:
            self._beside, self._before = None, moment.live or self._before
            return None
        previous = None if memory.fallback or memory.champion is None else memory.champion.config
        seen = self._side(previous, memory, moment.now_unix_s, rollout.since_unix_s)
        if seen is not None and seen.requests >= FEWEST:
            self._beside = seen
        # A swap in the running engine leaves no other side: what it showed before is what there is.
        return self._beside or (self._before if seen is None and rollout.share >= 100 else None)

    def _side(self, config: SpecConfig, memory: c.Memory, now: float, since: float | None) -> c.LiveSeen | None:
        slot = self._could("side", lambda: (self.fleet.slot_of(config),))
        deployment = slot[0] if slot else None
        if deployment is None:
            return None
        seen = self._could("live", lambda: self._reader(deployment).look(deployment.url, now, memory.champion, since))
        if seen is None:
            return None
        return seen.model_copy(update={"failed": self._failed(deployment, config, since)})

    def _reader(self, slot: Slot) -> LiveReader:
        if slot.token not in self.readers:
            living = {item.token for item in self.fleet.slots().values()}
            self.readers = {token: reader for token, reader in self.readers.items() if token in living}
            reader = self.readers[slot.token] = LiveReader(self.engine, self.config.controller)
            reader.fall = self.live.fall
        return self.readers[slot.token]

    def _failed(self, slot: Slot, config: SpecConfig, since: float | None) -> int:
        """Requests that failed on a side since then, by the proxy's count."""
        figures = self._could("proxy", lambda: (self.fleet.figures(config),))
        count = figures[0].errors if figures and figures[0] else 0
        if since is None:
            return 0
        first = self._errors.setdefault((slot.token, since), count)
        return max(0, count - first)

    def _endpoint(self) -> str | None:
        return None  # the proxy answers there; the engines are queried directly

    # -- acting ------------------------------------------------------------------------------------------------------

    def perform(self, act: c.Act, memory: c.Memory) -> dict[str, Any]:
        """See tick.Hands."""
        if act.kind in NO_CHANGE:
            return super().perform(act, memory)
        data: dict[str, Any] = super().perform(act, memory) if isinstance(act, c.Promote) else {}
        if isinstance(act, c.TakeBack) and memory.run is not None:
            self.jobs.forget(self.jobs.folder_of(memory.run.traffic))
        then = after(memory, act, self.clock.unix(), **data)
        standing = self._could("standing", lambda: (self.serving.current(),))
        self.fleet.make(wanted(then, standing[0] if standing else None, standby=self.standby))
        return data
