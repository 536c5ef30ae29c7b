"""Reaching an arm's server: all are up together, or each is started for its visit and stopped after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from draftsmith.contract.measure import Arm
from draftsmith.work.compare.fleet import Servers
from draftsmith.work.compare.trial import Endpoint

OnReady = Callable[[Arm, Endpoint], None]


class Reach(Protocol):
    """`reach(name)` is a context with the arm's server, ready. `start_s`: to start the servers of one block."""

    start_s: float

    def __call__(self, name: str) -> AbstractContextManager[Endpoint]:
        """The server of an arm."""
        ...


@dataclass
class Together:
    """All servers are up."""

    endpoints: Mapping[str, Endpoint]
    start_s: float = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[Endpoint]:
        """See Reach."""
        yield self.endpoints[name]


@dataclass
class Alone:
    """One server at a time. `on_ready` warms it up."""

    fleet: Servers
    arms: Mapping[str, Arm]
    on_ready: OnReady
    start_s: float = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[Endpoint]:
        """See Reach."""
        began = time.monotonic()
        with self.fleet.up({name: self.arms[name]}) as endpoints:
            self.on_ready(self.arms[name], endpoints[name])
            # The slowest start seen so far stands for every arm and the baseline's twin.
            self.start_s = max(self.start_s, (time.monotonic() - began) * (len(self.arms) + 1))
            yield endpoints[name]
