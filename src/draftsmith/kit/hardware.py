"""What machine this is, in words, for the context of numbers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
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
    """Names of the NVIDIA GPUs that this process may use, empty without any (or without the driver's tool)."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=uuid,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode != 0:
        return []
    rows = [line.partition(",") for line in answer.stdout.splitlines() if line.strip()]
    return [rows[index][2].strip() for index in visible([uuid.strip() for uuid, _, _ in rows])]


def visible(uuids: Sequence[str]) -> list[int]:
    """Indices of the GPUs this process may use, per `CUDA_VISIBLE_DEVICES`. The driver lists all GPUs of the machine.

    Read as CUDA does: numbers or beginnings of UUIDs, and what follows an entry that fits no GPU is not seen either.
    A MIG instance does not say whose part it is: then every GPU counts.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or "MIG-" in chosen:
        return list(range(len(uuids)))
    seen: list[int] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.isdigit():
            index = int(entry)
        else:
            index = next((n for n, uuid in enumerate(uuids) if entry and uuid.startswith(entry)), len(uuids))
        if index >= len(uuids):
            break
        seen.append(index)
    return seen


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
