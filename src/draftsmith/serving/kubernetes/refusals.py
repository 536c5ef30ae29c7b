"""What the API server refuses, and what Draftsmith refuses to do there unasked, as errors with a next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from draftsmith.contract.cluster import explain
from draftsmith.kit.kube import ApiError

DRY = "read the plan, then add --i-understand-this-uses-the-cluster"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Refusals of the API server become errors with a next step."""
    try:
        yield
    except ApiError as error:
        raise explain(error, doing) from error
