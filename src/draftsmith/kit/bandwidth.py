"""How fast this machine reads its memory: the ceiling of decoding on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from draftsmith.kit.clock import Clock, SystemClock

MEBIBYTES = 256
PASSES = 5


@lru_cache(maxsize=1)
def measured() -> float:
    """Bytes/s, once a process: see `measure`."""
    return measure()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    cores: int | None = None, mebibytes: int = MEBIBYTES, passes: int = PASSES, clock: Clock | None = None
) -> float:
    """The best of a few passes of all cores over arrays much larger than the caches, in bytes/s. Takes under a second.

    Two kinds of pass: a copy, which counts what it reads and writes, and a dot product, which only reads, as a decode step
    does with its weights. The better one is the ceiling. Other work on the machine can only make the figure too low.
    """
    clock = clock or SystemClock()
    workers = cores or usable_cores()
    each = mebibytes * 2**20 // 4 // workers
    sources = [np.ones(each, dtype=np.float32) for _ in range(workers)]
    copies = [np.zeros(each, dtype=np.float32) for _ in range(workers)]
    size = each * workers * 4

    def copy(index: int) -> None:
        np.copyto(copies[index], sources[index])

    def read(index: int) -> None:
        float(np.dot(sources[index], sources[index]))

    with ThreadPoolExecutor(workers) as pool:

        def best(work: Callable[[int], None], size: int) -> float:
            times = []
            for _ in range(passes):
                began = clock.monotonic()
                list(pool.map(work, range(workers)))
                times.append(max(clock.monotonic() - began, 1e-9))
            return size / min(times)

        return max(best(copy, 2 * size), best(read, size))
