"""A clock for tests: nothing waits on the wall."""

from __future__ import annotations

from dataclasses import dataclass, field

from draftsmith.kit.clock import Clock


@dataclass
class FakeClock:
    """Moves only when told, or when someone sleeps on it."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def unix(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Return at once, with the time moved forward."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now += seconds


AS_CLOCK: type[Clock] = FakeClock
