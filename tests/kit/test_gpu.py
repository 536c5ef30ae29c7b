"""Clocks and power: from NVML where it is, from a DCGM exporter's text, and from nowhere."""

from __future__ import annotations

import types
from typing import Any

import pytest

from draftsmith.kit import gpu

EXPORTER = """# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",device="nvidia0",Hostname="node1"} 1980
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-b",device="nvidia1",Hostname="node1"} 1410
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",device="nvidia0",Hostname="node1"} 420.5
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-b",device="nvidia1",Hostname="node1"} 380
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",device="nvidia0",Hostname="node1"} 20480
# TYPE DCGM_FI_DEV_CLOCKS_EVENT_REASONS gauge
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{gpu="1",UUID="GPU-b",device="nvidia1",Hostname="node1"} 4
"""


class TemperatureError(Exception):
    pass


def library(count: int = 1) -> types.SimpleNamespace:
    """As much of pynvml as is asked, of a GPU that does not tell its temperature."""

    def refuse(*_: Any) -> int:
        raise TemperatureError

    return types.SimpleNamespace(
        NVMLError=TemperatureError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda device: f"GPU-{'abc'[device]}0",
        nvmlDeviceGetClockInfo=lambda device, kind: {1: 1755, 2: 2619}[kind],
        nvmlDeviceGetTemperature=refuse,
        nvmlDeviceGetPowerUsage=lambda device: 350_000,
        nvmlDeviceGetMemoryInfo=lambda device: types.SimpleNamespace(used=8 * 2**30, free=72 * 2**30),
        nvmlDeviceGetUtilizationRates=lambda device: types.SimpleNamespace(gpu=50),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda device: 0x1,
    )


def test_nvml_tells_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_nvml", library)
    assert gpu.read() == [
        {"sm_clock_mhz": 1755, "memory_clock_mhz": 2619, "power_w": 350, "memory_gib": 8, "busy": 0.5, "slowed": 0}
    ], "an idle GPU is not slowed down, and what it does not tell is left out"
    assert gpu.free_gib() == 72


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("GPU-c", [2]),
        ("0,7,1", [0]),
        ("-1", []),
        ("", []),
        ("MIG-7", [0, 1, 2]),
    ],
)
def test_only_the_gpus_of_this_process_are_read(
    chosen: str | None, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = library(3)
    told.nvmlDeviceGetPowerUsage = lambda device: 1000 * device
    monkeypatch.setattr(gpu, "_nvml", lambda: told)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [reading["power_w"] for reading in gpu.read()] == seen


def test_without_a_gpu_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_nvml", lambda: None)
    assert (gpu.read(), gpu.free_gib(), gpu.summarise([])) == ([], None, {})


def test_a_dcgm_exporter_says_the_same() -> None:
    first, second = gpu.parse_dcgm(EXPORTER)
    assert first == {"sm_clock_mhz": 1980, "power_w": 420.5, "memory_gib": 20}
    assert second == {"sm_clock_mhz": 1410, "power_w": 380, "slowed": 1}


def test_text_that_is_no_exposition_is_told() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own
        gpu.parse_dcgm("<html>not found</html>")


def test_a_window_is_told_by_its_slowest_and_hottest() -> None:
    window = [
        [{"sm_clock_mhz": 1980.0, "power_w": 300.0, "temperature_c": 50.0}, {"sm_clock_mhz": 1900.0, "power_w": 200.0}],
        [{"sm_clock_mhz": 1200.0, "power_w": 320.0, "temperature_c": 71.0}, {"sm_clock_mhz": 1980.0, "power_w": 220.0}],
        [{"sm_clock_mhz": 1980.0, "power_w": 310.0}, {"sm_clock_mhz": 1980.0, "power_w": 210.0}],
    ]
    told = gpu.summarise(window)
    assert told == {
        "gpu_sm_clock_mhz": 1900.0,
        "gpu_sm_clock_lowest_mhz": 1200.0,
        "gpu_temperature_c": 71.0,
        "gpu_power_w": 520.0,
    }
