"""What the hardware did during a trial: clocks, power, heat and memory of the GPUs, and time stolen from the CPUs."""

from __future__ import annotations

import contextlib
import threading
from functools import lru_cache
from types import TracebackType

import httpx
import psutil

from draftsmith.kit import bandwidth, gpu, hardware
from draftsmith.kit.certificates import trusted

EVERY_S = 0.25
TIMEOUT_S = 2.0


@lru_cache(maxsize=1)
def _on_cpu() -> bool:
    return not hardware.gpu_names()


class Meter:
    """Reads beside the trial, in a thread, a few times a second; `summary` after it. Never raises, never delays a request.

    `dcgm_url`: the /metrics of a DCGM exporter, read instead of NVML, for servers on another machine. `node`: the other
    machine, where there is one; of this one only the time that its CPUs lost is read then, by which the client is late.
    """

    def __init__(self, dcgm_url: str | None = None, every_s: float = EVERY_S, *, node: str | None = None) -> None:
        self.dcgm_url, self.node = dcgm_url, node
        self.every_s = every_s
        self.readings: list[list[gpu.Reading]] = []
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._cpu = psutil.cpu_times()
        self._stolen: float | None = None

    def __enter__(self) -> Meter:
        self._cpu = psutil.cpu_times()
        if self._look():  # nothing is read again where there is nothing to see
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        now = psutil.cpu_times()
        whole = sum(now) - sum(self._cpu)
        if whole > 0 and hasattr(now, "steal"):
            self._stolen = (now.steal - self._cpu.steal) / whole

    def summary(self) -> dict[str, float | str]:
        """For `Trial.hardware`. Only what could be read; `device` always."""
        device = f"node {self.node}" if self.node else hardware.describe()
        told: dict[str, float | str] = {"device": device, **gpu.summarise(self.readings)}
        if self._stolen is not None:
            told["cpu_stolen_share"] = round(self._stolen, 4)
        if self.node is None and _on_cpu():
            told["memory_gb_per_s"] = round(bandwidth.measured() / 1e9, 2)
        return told

    def _watch(self) -> None:
        while not self._end.wait(self.every_s):
            self._look()

    def _look(self) -> bool:
        found: list[gpu.Reading] = []
        if self.dcgm_url is None:
            found = [] if self.node else gpu.read()
        else:
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
                answer = httpx.get(self.dcgm_url, timeout=TIMEOUT_S, trust_env=False, verify=trusted())
                found = gpu.parse_dcgm(answer.text)
        if found:
            self.readings.append(found)
        return bool(found)
