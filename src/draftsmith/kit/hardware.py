"""What machine this is, in words, for the context of numbers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import psutil


@lru_cache(maxsize=1)
def describe() -> str:
    """For example `NVIDIA H100 80GB HBM3 x1`, or `Intel(R) Xeon(R) Processor, 2 cores, 24 GiB`."""
    gpus = gpu_names()
    if gpus:
        kinds = sorted(set(gpus))
        return ", ".join(f"{kind} x{gpus.count(kind)}" for kind in kinds)
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{cpu_name()}, {psutil.cpu_count() or 1} cores, {memory} GiB"


def gpu_names() -> list[str]:
    """Names of NVIDIA GPUs, empty without any (or without its driver's tool)."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()] if answer.returncode == 0 else []


def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def node() -> str:
    """This machine's name, as trials record it."""
    return platform.node() or "localhost"
