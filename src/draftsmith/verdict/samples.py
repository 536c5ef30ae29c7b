"""The identity of the raw evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.measure import Trial


def trial_digest(trial: Trial) -> str:
    """sha256 (hex) of one trial as a file keeps it (JSON writes NaN as null), so that reading it back changes nothing."""
    return digest(_without_nulls(json.loads(trial.model_dump_json(exclude_defaults=True))))


def _without_nulls(value: Any) -> Any:
    """A null says as much as a missing key, and is what a file makes of NaN."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def bundle_digest(trials: Iterable[Trial]) -> str:
    """sha256 (hex) over all trials, independent of their order; every field of every sample counts, repeats too."""
    parts = sorted(trial_digest(trial) for trial in trials)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
