"""What the machine did during a visit: clocks, power, heat and memory of the GPUs, stolen time, and what else wanted its cores."""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType

import httpx
import psutil

from draftsmith.contract.measure import Contention
from draftsmith.kit import bandwidth, gpu, hardware, load
from draftsmith.kit.certificates import trusted
from draftsmith.kit.clock import Clock, SystemClock

EVERY_S = 0.25
TIMEOUT_S = 2.0


@lru_cache(maxsize=1)
def _on_cpu() -> bool:
    return not hardware.gpu_names()


class Meter:
    """Reads beside the visit, in a thread, a few times a second; `summary` after it. Never raises, never delays a request.

    `dcgm_url`: the /metrics of a DCGM exporter, read instead of NVML, for servers on another machine. `node`: the other
    machine, where there is one; of this one only the time that its CPUs lost is read then, by which the client is late.
    `own_processes`: the processes of every server of the comparison; what else uses the cores is contention. None = not known.
    """

    def __init__(
        self,
        dcgm_url: str | None = None,
        every_s: float = EVERY_S,
        *,
        node: str | None = None,
        own_processes: Sequence[psutil.Process] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.dcgm_url, self.node, self.every_s = dcgm_url, node, every_s
        self.readings: list[list[gpu.Reading]] = []
        self.own_processes = None if own_processes is None else (psutil.Process(), *own_processes)
        self.clock = clock or SystemClock()
        self.moved_s = 0.0
        """By how much the wall clock moved against the monotonic one: it was set, or the machine slept."""
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._queue: list[int] = []
        self._cpu = psutil.cpu_times()
        self._cores: frozenset[int] = frozenset()
        self._stolen: float | None = None
        self._wall_s = 0.0
        self._gpus = False

    def __enter__(self) -> Meter:
        self._cores = load.allowed(self.own_processes or (psutil.Process(),))
        self._cpu, self._load = psutil.cpu_times(), load.read(self.own_processes, self._cores)
        self._times = self.clock.unix(), self.clock.monotonic()
        self._gpus = self._look_at_gpus()  # nothing is read again where there is nothing to see
        if self._look_at_queue() or self._gpus:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        unix, monotonic = self.clock.unix(), self.clock.monotonic()
        self._wall_s = monotonic - self._times[1]
        self.moved_s = (unix - self._times[0]) - self._wall_s
        self._after = load.read(self.own_processes, self._cores)
        now = psutil.cpu_times()
        whole = sum(now) - sum(self._cpu)
        if whole > 0 and hasattr(now, "steal"):
            self._stolen = (now.steal - self._cpu.steal) / whole

    def summary(self) -> dict[str, float | str]:
        """For `Trial.hardware`. Only what could be read; `device` always."""
        device = f"node {self.node}" if self.node else hardware.describe()
        shown: dict[str, float | str] = {"device": device, **gpu.summarise(self.readings)}
        if self._stolen is not None:
            shown["cpu_stolen_share"] = round(self._stolen, 4)
        if self.node is None and _on_cpu():
            shown["memory_gb_per_s"] = round(bandwidth.measured() / 1e9, 2)
        return shown

    def contention(self, client_lag_s: float) -> Contention:
        """For `Trial.contention`. Of servers on another machine only the client's lag and the GPUs are known."""
        clock = gpu.summarise(self.readings).get("gpu_sm_clock_mhz")
        shown = Contention(client_lag_s=round(client_lag_s, 4), gpu_clock_mhz=clock)
        if self.node is not None or self._wall_s <= 0:
            return shown
        before, after, room = self._load, self._after, self._wall_s * len(self._cores)
        others = None
        if before.ours_s is not None and after.ours_s is not None:
            others = min(1.0, max(0.0, (after.busy_s - before.busy_s - after.ours_s + before.ours_s) / room))
        return shown.model_copy(
            update={
                "run_queue": round(statistics.fmean(self._queue) / load.cores(), 3) if self._queue else None,
                "cpu_pressure": _share(before.cpu_stall_s, after.cpu_stall_s, self._wall_s),
                "memory_pressure": _share(before.memory_stall_s, after.memory_stall_s, self._wall_s),
                "others_cpu": None if others is None else round(others, 4),
            }
        )

    def _watch(self) -> None:
        while not self._end.wait(self.every_s):
            self._look_at_queue()
            if self._gpus:
                self._look_at_gpus()

    def _look_at_queue(self) -> bool:
        queue = load.running() if self.node is None else None
        if queue is not None:
            self._queue.append(queue)
        return queue is not None

    def _look_at_gpus(self) -> bool:
        readings: list[gpu.Reading] = []
        if self.dcgm_url is None:
            readings = [] if self.node else gpu.read()
        else:
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
                answer = httpx.get(self.dcgm_url, timeout=TIMEOUT_S, trust_env=False, verify=trusted())
                readings = gpu.parse_dcgm(answer.text)
        if readings:
            self.readings.append(readings)
        return bool(readings)


def _share(before: float | None, after: float | None, wall_s: float) -> float | None:
    return None if before is None or after is None else round(min(1.0, max(0.0, (after - before) / wall_s)), 4)
