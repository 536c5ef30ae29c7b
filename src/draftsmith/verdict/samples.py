"""The identity of the raw evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from draftsmith.contract.base import digest
from draftsmith.contract.measure import Trial


def bundle_digest(trials: Iterable[Trial]) -> str:
    """sha256 (hex) over all trials, independent of their order; every field of every sample counts, repeats too."""
    parts = sorted(digest(trial) for trial in trials)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
