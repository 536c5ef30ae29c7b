"""Is what serves still what was compared? Asked of the served endpoint, and of where it is served, before a switch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draftsmith.contract.errors import RefusedError
from draftsmith.contract.measure import EngineFacts
from draftsmith.engines.base import Engine
from draftsmith.serving.base import Serving


def check_served(engine: Engine, endpoint: str | None, standing: dict[str, Any] | None) -> None:
    """Raise RefusedError if the server speculates and the compared configuration does not, or the reverse.

    A server does not publish its speculative config, so this is all that can be seen from outside. Without an endpoint
    nothing is asked. Raises EngineLostError if the server cannot be asked: that says nothing about it, run again.
    """
    if not endpoint:
        return
    speculates = engine.speculates(engine.reading(endpoint.rstrip("/").removesuffix("/v1")))
    if speculates != (standing is not None):
        seen, expected = ("with", "without") if speculates else ("without", "with")
        raise RefusedError(
            f"the served endpoint runs {seen} speculation, but {expected} it was compared",
            "compare again against what serves now",
        )


def regime_warning(engine: Engine, endpoint: str | None, facts: Sequence[EngineFacts]) -> str | None:
    """A sentence where the arms were served in another regime than what serves, as far as both say; else None.

    A prefix cache changes the time to the first token, and what a draft has seen of a prompt that is not computed anew.
    """
    measured = {fact.prefix_caching for fact in facts} - {None}
    if not endpoint or len(measured) != 1:
        return None
    served, was = engine.identify(endpoint.rstrip("/").removesuffix("/v1")).prefix_caching, measured.pop()
    if served is None or served == was:
        return None
    with_, without = ("with", "without") if served else ("without", "with")
    return (
        f"what serves runs {with_} a prefix cache, the comparison ran {without} one: set engine.prefix_caching = "
        f"{str(served).lower()} to measure the served regime"
    )


def check_unchanged(serving: Serving, compared: str | None) -> None:
    """Raise RefusedError if something but the speculative config differs from what was compared.

    `compared` None: the comparison was not made on copies of what serves.
    """
    if compared is not None and serving.fingerprint() != compared:
        raise RefusedError(
            "the image, arguments, variables or resources of what serves were changed since the comparison",
            "compare again against what serves now: --start-phase compare",
        )
