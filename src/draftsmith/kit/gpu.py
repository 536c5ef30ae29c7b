"""Clocks, power, temperature and memory of NVIDIA GPUs: through NVML, or from a DCGM exporter. Without either: nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from draftsmith.kit.hardware import visible

Reading = dict[str, float]
"""One GPU at one moment: `sm_clock_mhz`, `memory_clock_mhz`, `temperature_c`, `power_w`, `memory_gib`, `busy` (0..1),
`slowed` (1 where power or heat holds the clocks down). A value that the source does not tell is left out."""

# clocks_event_reasons: software power cap, hardware slowdown, software and hardware thermal, hardware power brake
SLOWED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80

DCGM: dict[str, tuple[str, float]] = {
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_mhz", 1.0),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_c", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_FB_USED": ("memory_gib", 1 / 1024),
    "DCGM_FI_DEV_GPU_UTIL": ("busy", 1 / 100),
}
DCGM_REASONS = ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")


@lru_cache(maxsize=1)
def _nvml() -> Any:
    """The initialised library, or None."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def read() -> list[Reading]:
    """Every GPU this process may use; empty without pynvml, a driver or a GPU. Takes about a millisecond a GPU."""
    nvml = _nvml()
    if nvml is None:
        return []
    try:
        return [dict(_values(nvml, device)) for device in _devices(nvml)]
    except nvml.NVMLError:
        return []


def _devices(nvml: Any) -> list[Any]:
    every = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [every[index] for index in visible([str(nvml.nvmlDeviceGetUUID(device)) for device in every])]


def _values(nvml: Any, device: Any) -> Iterator[tuple[str, float]]:
    queries = (
        ("sm_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
        ("memory_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
        ("temperature_c", lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
        ("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1000),
        ("memory_gib", lambda: nvml.nvmlDeviceGetMemoryInfo(device).used / 2**30),
        ("busy", lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100),
        ("slowed", lambda: float(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device) & SLOWED != 0)),
    )
    for name, ask in queries:
        with contextlib.suppress(nvml.NVMLError, AttributeError):  # a virtual GPU does not tell everything
            yield name, float(ask())


def free_gib() -> float | None:
    """Free memory of the emptiest GPU that this process may use, or None without NVML."""
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        return max((nvml.nvmlDeviceGetMemoryInfo(device).free / 2**30 for device in _devices(nvml)), default=None)
    except nvml.NVMLError:
        return None


def sizes_gib() -> list[float]:
    """Memory of every GPU that this process may use; empty without NVML."""
    nvml = _nvml()
    if nvml is None:
        return []
    try:
        return [nvml.nvmlDeviceGetMemoryInfo(device).total / 2**30 for device in _devices(nvml)]
    except nvml.NVMLError:
        return []


def parse_dcgm(text: str) -> list[Reading]:
    """A DCGM exporter's /metrics, one reading a GPU (label `gpu`, of several hosts `Hostname`). Raises ValueError."""
    readings: dict[tuple[str, str], Reading] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            place = (sample.labels.get("Hostname", ""), sample.labels.get("gpu", ""))
            if sample.name in DCGM:
                name, scale = DCGM[sample.name]
                readings.setdefault(place, {})[name] = sample.value * scale
            elif sample.name in DCGM_REASONS:
                readings.setdefault(place, {})["slowed"] = float(int(sample.value) & SLOWED != 0)
    return [readings[place] for place in sorted(readings)]


def summarise(readings: Sequence[Sequence[Reading]]) -> dict[str, float]:
    """Over a window, all GPUs together: the slowest clock, the hottest place, power and memory of all. Empty for none.

    `gpu_sm_clock_mhz` is the median over time of the slowest GPU's clock, `gpu_power_w` a mean, memory and heat a peak.
    """
    import statistics

    def series(name: str, join: Any) -> list[float]:
        rows = [[gpu[name] for gpu in moment if name in gpu] for moment in readings]
        return [float(join(row)) for row in rows if row]

    rules = (
        ("gpu_sm_clock_mhz", "sm_clock_mhz", min, statistics.median),
        ("gpu_sm_clock_lowest_mhz", "sm_clock_mhz", min, min),
        ("gpu_memory_clock_mhz", "memory_clock_mhz", min, statistics.median),
        ("gpu_temperature_c", "temperature_c", max, max),
        ("gpu_power_w", "power_w", sum, statistics.fmean),
        ("gpu_memory_gib", "memory_gib", sum, max),
        ("gpu_busy", "busy", max, statistics.fmean),
        ("gpu_slowed_share", "slowed", max, statistics.fmean),
    )
    by_name = {}
    for key, name, join, over in rules:
        if values := series(name, join):
            by_name[key] = round(float(over(values)), 3)
    return by_name
