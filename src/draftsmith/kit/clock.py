"""Time as a value that can be handed in, so that nothing under test waits on the wall."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
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


@dataclass
class FakeClock:
    """Moves only when told, or when someone sleeps on it."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def unix(self) -> float:
        """See Clock."""
        return self.now

    def monotonic(self) -> float:
        """See Clock."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Return at once, with the time moved forward."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self.now += seconds


def duration(seconds: float) -> str:
    """`45s`, `3m05s`, `2h10m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
