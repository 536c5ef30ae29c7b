"""Reading and switching what serves. Standing configuration = the engine's speculative config, None = off."""

from __future__ import annotations

from typing import Protocol

from draftsmith.contract.speculation import SpecConfig


class Serving(Protocol):
    """The place where the standing configuration lives."""

    def current(self) -> SpecConfig:
        """What is configured to serve now."""
        ...

    def fingerprint(self) -> str | None:
        """What serves but for its speculative config, as a hash; None where that cannot be seen."""
        ...

    def switch(self, expected: SpecConfig, new: SpecConfig) -> None:
        """Put `new` in place, only if `expected` is what is there. Harmless if `new` is already there.

        Raises RefusedError if something else is serving: then nothing is changed.
        """
        ...
