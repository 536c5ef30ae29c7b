"""What this machine has: accelerators, memory, disk and ports, and whether servers of the target fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from draftsmith import wiring
from draftsmith.api.findings import Check
from draftsmith.contract.config import TRAINLESS, Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import PrerequisiteError

MIN_MEMORY_GIB = 6.0
MIN_DISK_GIB = 5.0
CPU_PROCESS_GIB = 1.0  # a server beside its weights and cache, at the very least


def check_gpu(config: Config, measure: bool) -> Iterator[Check]:
    """The accelerators, and what is chosen for them; on a CPU the speed of its memory."""
    from draftsmith.kit import bandwidth, gpu, hardware
    from draftsmith.trainers.speculators import implementations

    if config.trainer.kind == "speculators" and config.method not in TRAINLESS:
        yield Check("training", "ok", f"{config.trainer.method} with {implementations(config.trainer)}")
    if not hardware.gpu_names():
        if measure:
            speed = bandwidth.measured() / 1e9
            yield Check("bandwidth", "ok", f"{hardware.describe()}: memory reads at {speed:.1f} GB/s, as measured now")
        return
    free = gpu.free_gib()
    if free is None:
        yield Check(
            "gpu",
            "warning",
            f"{hardware.describe()}; its clocks and free memory are not told",
            "pip install 'draftsmith[gpu]' for clocks, power and memory in the evidence",
        )
        return
    yield Check("gpu", "ok", f"{hardware.describe()}, {free:.1f} GiB free{_shared(config, free)}")


def _shared(config: Config, free: float) -> str:
    from draftsmith.engines.gpu_memory import gpu_share

    settings = config.engine
    share = settings.gpu_memory_share or gpu_share(2)
    size = settings.gpu_kv_gib or wiring.shared_kv_gib(config, config.target or "", 2)
    return f"; of two servers beside each other each gets {share:.0%} of the memory and {size:g} GiB of KV cache"


def check_fit(config: Config, facts: TargetFacts) -> Iterator[Check]:
    """Whether a server of the target fits: the GPUs it gets, or this machine's memory."""
    from draftsmith.api.fitting import fit_of, require_fit, room, sized

    machine = room(config)
    if machine is None:
        yield from _fits_memory(config, facts)
        return
    folder = Path(facts.path)
    fit = fit_of(config, folder, facts.weight_bytes, machine)
    try:
        require_fit(fit, machine, config)
    except PrerequisiteError as error:
        yield Check("fit", "missing", error.message, error.next_step)
        return
    if not fit.fits:
        yield Check("fit", "warning", f"{fit.sentence}{machine}", "set engine.gpu_memory_gib to what the GPUs have")
        return
    yield Check("fit", "ok", f"a server takes {fit.sentence}{machine}")
    settled = sized(config, folder, facts.weight_bytes)
    beside = fit_of(settled, folder, facts.weight_bytes, machine, residents=2)
    if not beside.fits:
        yield Check("fit", "ok", "two servers do not fit beside each other: the arms of a comparison take turns")
    for note in fit.notes:
        yield Check("fit", "warning", note)


def _fits_memory(config: Config, facts: TargetFacts) -> Iterator[Check]:
    """On a CPU: weights, cache and process against all of the machine's memory."""
    if config.backend.kind != "local":
        return
    needed = facts.weight_bytes / 2**30 + config.engine.cpu_kv_gib + CPU_PROCESS_GIB
    total = psutil.virtual_memory().total / 2**30
    if needed > total:
        yield Check(
            "fit",
            "missing",
            f"a server of the target takes {needed:.0f} GiB ({facts.weight_bytes / 2**30:.0f} of weights) and this machine "
            f"has {total:.0f}",
            "use a machine with GPUs, or a back end that reaches them (--backend slurm or kubernetes)",
        )


def check_memory(config: Config) -> Iterator[Check]:
    """Free memory against two servers beside each other."""
    free = psutil.virtual_memory().available / 2**30
    needed = max(MIN_MEMORY_GIB, 2 * (config.engine.cpu_kv_gib + 3))
    if free < needed:
        yield Check(
            "memory",
            "warning",
            f"{free:.1f} GiB free; two servers want about {needed:.0f}",
            "stop other work, or lower engine.cpu_kv_gib",
        )
    else:
        yield Check("memory", "ok", f"{free:.1f} GiB free")


def check_disk(config: Config) -> Iterator[Check]:
    """Free space on the disk of the workspace."""
    place = Path(config.workspace).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if free < MIN_DISK_GIB:
        yield Check(
            "disk",
            "missing",
            f"{free:.1f} GiB free on the disk of the workspace, {MIN_DISK_GIB:.0f} are needed",
            "free space, or set workspace elsewhere",
        )
    else:
        yield Check("disk", "ok", f"{free:.1f} GiB free on the disk of the workspace")


def check_port(config: Config) -> Iterator[Check]:
    """Whether a server can listen on the configured address."""
    from draftsmith.engines.base import free_port

    try:
        yield Check(
            "ports",
            "ok",
            f"servers can listen on {config.engine.host} (for example port {free_port(config.engine.host)})",
        )
    except OSError as error:
        yield Check(
            "ports",
            "missing",
            f"nothing can listen on {config.engine.host}: {error.strerror}",
            "set engine.host to an address of this machine",
        )
