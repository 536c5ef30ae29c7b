"""Time as a value that can be handed in, so that nothing under test waits on the wall."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol


class Clock(Protocol):
    """Where code asks for the time. All values in seconds."""

    def unix(self) -> float:
        """Seconds since the epoch: for records, never for durations."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start: for durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clock."""

    def unix(self) -> float:
        """See Clock."""
        return time.time()

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


class SteadyClock(SystemClock):
    """Looks at the wall once and goes on by the monotonic clock, so that a wall clock that is set reorders nothing."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def unix(self) -> float:
        """See Clock."""
        return self._offset + time.monotonic()


def pauses(longest_s: float) -> Iterator[float]:
    """Seconds to wait before each next look at something that may end soon or late: from a tenth of `longest_s` up to it."""
    pause = longest_s / 10
    while True:
        yield pause
        pause = min(pause * 1.5, longest_s)


def duration(seconds: float) -> str:
    """`45s`, `3m05s`, `2h10m`; `an unknown time` for what is no number."""
    if not math.isfinite(seconds):
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def utc(unix_s: float) -> str:
    """`2026-03-01 12:30:05`, in UTC; `at no known time` for what no calendar holds."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
    except (ValueError, OverflowError, OSError):  # a clock that was far off, or a file of somebody else's
        return "at no known time"
