"""What else a machine does: its run queue, stalls for want of a core or memory, and the CPU time of some processes.

Everything is read from Linux's own counters; what cannot be read is None, never zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")


@dataclass(frozen=True)
class Reading:
    """Totals since some start, in seconds: `busy` over the given cores (stolen time left out), `ours` of the given processes."""

    busy_s: float
    ours_s: float | None
    cpu_stall_s: float | None
    memory_stall_s: float | None


def cores() -> int:
    """Cores of the machine, not only of this process: what the totals are of."""
    return os.cpu_count() or 1


def running(proc: Path = PROC) -> int | None:
    """Tasks that run or are ready to run at this moment."""
    try:
        return int((proc / "loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return None


def stalled_s(resource: str, proc: Path = PROC) -> float | None:
    """Seconds in which at least one task waited for `cpu` or `memory` (PSI, the line `some`)."""
    try:
        for line in (proc / "pressure" / resource).read_text().splitlines():
            kind, *fields = line.split()
            if kind == "some":
                return int(dict(field.split("=") for field in fields)["total"]) / 1e6
    except (OSError, ValueError, KeyError):
        pass
    return None


def allowed(processes: Iterable[psutil.Process]) -> frozenset[int]:
    """Numbers of the cores that at least one of `processes` may use; those of this process where none can be asked."""
    numbers: set[int] = set()
    for process in processes:
        try:
            numbers.update(process.cpu_affinity())
        except (psutil.Error, OSError, AttributeError):
            continue
    return frozenset(numbers or os.sched_getaffinity(0))


def read(processes: Iterable[psutil.Process] | None, on: frozenset[int] | None = None) -> Reading:
    """Now. `processes`: those whose time is ours (None = not known which they are); one that has ended counts no more.

    `on`: the cores that count (None = all of the machine): what runs on other cores takes nothing from processes that may
    not go there, with taskset or in a Slurm job for example.
    """
    times = psutil.cpu_times(percpu=True)
    if on is not None and max(on, default=0) < len(
        times
    ):  # else some are offline, and the numbers are not those of the list
        times = [times[number] for number in sorted(on)]
    busy = sum(getattr(core, name, 0.0) for core in times for name in ("user", "nice", "system", "irq", "softirq"))
    own_s = None if processes is None else sum(_used_s(process) for process in processes)
    return Reading(busy, own_s, stalled_s("cpu"), stalled_s("memory"))


def listening(port: int) -> list[psutil.Process] | None:
    """The process that listens on a TCP port of this machine and all below it; None if it cannot be told."""
    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                leader = psutil.Process(connection.pid)
                return [leader, *leader.children(recursive=True)]
    except (psutil.Error, OSError):
        pass
    return None


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except (psutil.Error, OSError):
        return 0.0
    return float(times.user + times.system)
