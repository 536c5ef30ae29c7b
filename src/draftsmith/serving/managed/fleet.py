"""Engines and proxy, brought to what is wanted: start, warm, smoke, shift, drain, stop. Each step is safe to repeat.

The order is the law: a new side serves before an old one is drained, and an old one is stopped only when its requests have
ended. Engines and proxy outlive the controller; the next one finds them in `fleet.json` and in the registry of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, EngineError, PrerequisiteError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines.base import LOOPBACK, Engine, ServerSpec
from draftsmith.kit import processes
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.serving.managed.haproxy import SLOTS, SlotStats, close_words, drain_words, open_words, weights
from draftsmith.serving.managed.hot_swap import swappable
from draftsmith.serving.managed.options import ManagedOptions
from draftsmith.serving.managed.proxy import Proxy
from draftsmith.serving.managed.sides import Side, identity
from draftsmith.serving.managed.smoke import smoke

GIB = 2**30
UP_S = 30.0
SpecOf = Callable[[SpecConfig], ServerSpec]


class Slot(Frozen):
    """An engine in its place. `token` is that of its process; `ready`: it was warmed and smoked."""

    identity: str
    config: SpecConfig
    port: int
    token: str
    ready: bool = False
    share: int = 0
    draining_since: float | None = Field(
        None, description="unix seconds; it takes no new requests and ends with its last"
    )

    @property
    def url(self) -> str:
        """Base URL of the engine itself, past the proxy."""
        return f"http://{LOOPBACK}:{self.port}"


class FleetState(Frozen):
    """fleet.json."""

    slots: dict[str, Slot] = Field(default_factory=dict)


class Fleet:
    """The served model of one workspace. `spec_of` is the server of a speculative config."""

    def __init__(
        self, folder: Path, proxy: Proxy, engine: Engine, spec_of: SpecOf, options: ManagedOptions, *,
        ready_s: float = 900.0, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.proxy, self.engine, self.options = private_dir(folder), proxy, engine, options
        self.spec_of, self.ready_s, self.clock = spec_of, ready_s, clock or SystemClock()

    # -- looking -----------------------------------------------------------------------------------------------------

    def slots(self) -> dict[str, Slot]:
        """The engines that are there, by place. A state that cannot be read is none: its processes are swept."""
        try:
            return FleetState.model_validate(read_json(self.folder / "fleet.json")).slots
        except (OSError, ValueError):
            return {}

    def slot_of(self, config: SpecConfig) -> Slot | None:
        """The engine that serves a configuration, if one does."""
        wanted = identity(config)
        return next((slot for slot in self.slots().values() if slot.identity == wanted and self._alive(slot)), None)

    def amiss(self, wanted: Sequence[Side]) -> str | None:
        """What is wrong with the service, in one sentence; None if all is well. Raises nothing: an unreadable state counts as wrong."""
        slots = self.slots()
        if not slots:
            return "nothing serves yet"
        try:
            stats = self.proxy.stats()
        except BackendError:
            return "the proxy is not there"
        if any(stats[name].weight != slot.share for name, slot in slots.items() if name in stats):
            return "the proxy gives other shares than it was told"
        wanted = self._needed(wanted)
        for side in wanted:
            result = next((slot for slot in slots.values() if slot.identity == identity(side.config)), None)
            if result is None or not result.ready or result.share != side.share:
                return f"a side is not up: {_named(side.config)} at {side.share} %"
            if not self._alive(result):
                return f"an engine went away: {_named(side.config)}"
        names = {identity(side.config) for side in wanted}
        for name, slot in slots.items():
            if slot.identity not in names and (slot.draining_since is None or self._drained(name, slot)):
                return f"a side is drained and can be ended: {_named(slot.config)}"
        return None

    def figures(self, config: SpecConfig) -> SlotStats | None:
        """What the proxy counted for the side of a configuration. Raises BackendError if it does not answer."""
        wanted = identity(config)
        name = next((name for name, slot in self.slots().items() if slot.identity == wanted), None)
        return self.proxy.stats().get(name) if name else None

    # -- acting ------------------------------------------------------------------------------------------------------

    def make(self, wanted: Sequence[Side]) -> None:
        """Bring it about that exactly `wanted` is served, without failing a request.

        A side that is no longer wanted takes no new requests from here on. It is ended once its last request has ended:
        now, or by a later call (`amiss` says when there is one to make).

        Raises PrerequisiteError if another engine does not fit, EngineStartError, EngineError, BackendError.
        """
        self.proxy.start()
        self._forget_the_dead()
        wanted = self._needed(wanted)
        self._swap_in(wanted)
        placed = {self._place(side): side for side in wanted}
        self._let_in(list(placed))
        self._share({name: side.share for name, side in placed.items()})
        for name in [name for name in self.slots() if name not in placed]:
            self._take_out(name, wait=False)

    def stop(self) -> None:
        """End everything: engines and proxy. Requests in flight are cut."""
        self.proxy.stop()
        for path, record in processes.records(self.engine.registry):
            processes.stop(processes.Process(record, path))
        self._keep({})

    def _needed(self, wanted: Sequence[Side]) -> tuple[Side, ...]:
        """Without sides that take no traffic and would be a swap away: none is kept up for those."""
        if not self.options.hot_swap:
            return tuple(wanted)
        main = [side.config for side in wanted if side.share == 100]
        return tuple(
            s for s in wanted if s.share > 0 or not any(swappable(config, s.config) is None for config in main)
        )

    def _swap_in(self, wanted: Sequence[Side]) -> None:
        """Where a side that takes everything differs from a running one by its draft's weights alone: swap them there.

        What a swap cannot do, or the engine refuses, another engine does: see `_place`.
        """
        names = {identity(side.config) for side in wanted}
        slots = self.slots()
        if not self.options.hot_swap or any(side.share not in (0, 100) for side in wanted):
            return
        for side in wanted:
            if side.config is None or identity(side.config) in {slot.identity for slot in slots.values()}:
                continue
            for name, slot in slots.items():
                if slot.identity in names or not slot.ready or swappable(slot.config, side.config) is not None:
                    continue
                with contextlib.suppress(EngineError):
                    old, new = (Path(str((config or {})["model"])) for config in (slot.config, side.config))
                    self.engine.swap_draft(self.spec_of(slot.config), slot.url, old, new)
                    changed = {"identity": identity(side.config), "config": side.config}
                    self._keep(slots | {name: slot.model_copy(update=changed)})
                    return

    def _place(self, side: Side) -> str:
        """The place of a side's engine, which is started, warmed and smoked if it is not there yet."""
        wanted, slots = identity(side.config), self.slots()
        for name, slot in slots.items():
            if slot.identity == wanted:
                if not slot.ready:
                    self._prepare(name, slot)
                return name
        name = next((name for name in SLOTS if name not in slots), "")
        if not name:
            name = next(name for name, slot in slots.items() if slot.share == 0)
            self._take_out(name)
        self._require_room(bool(self.slots()))
        server = self.engine.start(self.spec_of(side.config), self.folder / "logs")
        slot = Slot(identity=wanted, config=side.config, port=server.spec.port, token=server.start_id)
        self._keep(self.slots() | {name: slot})
        self.engine.wait_ready(server, self.ready_s)
        self._prepare(name, slot)
        return name

    def _prepare(self, name: str, slot: Slot) -> None:
        deadline = self.clock.monotonic() + self.ready_s
        while not self.engine.healthy(slot.url):  # it was started by a controller that died meanwhile
            if not self._alive(slot) or self.clock.monotonic() > deadline:
                self._end(name)
                raise BackendError(f"an engine did not become ready: {_named(slot.config)}", "see its log")
            self.clock.sleep(0.2)
        try:
            smoke(slot.url, self.options.served_name, self.options.warm_requests)
        except Exception:
            self._end(name)
            raise
        self._keep(self.slots() | {name: slot.model_copy(update={"ready": True})})

    def _let_in(self, names: Sequence[str]) -> None:
        """Every wanted place is open in the proxy, and its check passes, before any share is set."""
        stats = self.proxy.stats()
        slots = self.slots()
        for name in names:
            if stats[name].status.startswith("MAINT"):
                self.proxy.say(open_words(name, LOOPBACK, slots[name].port))
            elif stats[name].status.startswith("DRAIN"):
                self.proxy.say([f"set server engines/{name} state ready"])
        deadline = self.clock.monotonic() + UP_S
        while not all(server.up for name, server in self.proxy.stats().items() if name in names):
            if self.clock.monotonic() > deadline:
                raise BackendError("the proxy does not find a new engine healthy", "see the engine's log")
            self.clock.sleep(0.1)

    def _share(self, shares: dict[str, int]) -> None:
        slots = self.slots()
        rest = {name: 0 for name in slots if name not in shares}
        self.proxy.say(weights((shares | rest).items()))
        back = {
            name: slot.model_copy(update={"draining_since": None}) for name, slot in slots.items() if name in shares
        }
        self._keep({n: s.model_copy(update={"share": shares.get(n, 0)}) for n, s in (slots | back).items()})

    def _take_out(self, name: str, *, wait: bool = True) -> None:
        """Drain a place, and end its engine once its requests have ended. `wait` False: if they have not, a later time."""
        slots = self.slots()
        slot = slots[name]
        if slot.draining_since is None:
            slot = slot.model_copy(update={"draining_since": self.clock.unix(), "share": 0})
            self._keep(slots | {name: slot})
            self.proxy.say([drain_words(name)])
        while not self._drained(name, slot):
            if not wait:
                return
            self.clock.sleep(0.1)
        self.proxy.say([close_words(name)])
        self._end(name)

    def _drained(self, name: str, slot: Slot) -> bool:
        """Whether the last request of a draining side has ended, or it had its time."""
        if slot.draining_since is None or not self._alive(slot):
            return slot.draining_since is not None
        late = self.clock.unix() - slot.draining_since > self.options.drain_s
        return late or self.proxy.stats()[name].current == 0

    def _end(self, name: str) -> None:
        slots = self.slots()
        slot = slots.pop(name)
        for path, record in processes.records(self.engine.registry):
            if record.token == slot.token:
                processes.stop(processes.Process(record, path))
        self._keep(slots)

    def _forget_the_dead(self) -> None:
        """Engines that went away free their place; processes that no state names are ended."""
        slots = self.slots()
        known = {slot.token for slot in slots.values()}
        for path, record in processes.records(self.engine.registry):
            if record.token not in known:
                processes.stop(processes.Process(record, path))
        for name in [name for name, slot in slots.items() if not self._alive(slot)]:
            with contextlib.suppress(BackendError):
                self.proxy.say([close_words(name)])
            self._end(name)

    def _require_room(self, beside_another: bool) -> None:
        """Refuse to start a second engine where the memory is not there: both would die."""
        if not beside_another:
            return
        sizes = [psutil.Process(record.pid) for _, record in processes.records(self.engine.registry) if record.pid]
        used = 0
        for process in sizes:
            with contextlib.suppress(psutil.Error):
                used = max(used, sum(item.memory_info().rss for item in (process, *process.children(recursive=True))))
        free = psutil.virtual_memory().available
        if free < used + self.options.room_gib * GIB:
            raise PrerequisiteError(
                f"a second engine does not fit: {free / GIB:.1f} GiB are free, the one that serves takes {used / GIB:.1f}",
                "give the machine more memory, set serving.options.standby = false, or lower engine.cpu_kv_gib",
            )

    def _alive(self, slot: Slot) -> bool:
        return any(
            record.token == slot.token and processes.is_alive(record)
            for _, record in processes.records(self.engine.registry)
        )

    def _keep(self, slots: dict[str, Slot]) -> None:
        write_json(self.folder / "fleet.json", FleetState(slots=slots))


def _named(config: SpecConfig) -> str:
    return "no speculation" if config is None else str(config.get("method"))
