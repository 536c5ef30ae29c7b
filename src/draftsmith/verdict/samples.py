"""The identity of the raw evidence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from draftsmith.contract.base import digest
from draftsmith.contract.measure import Trial


def trial_digest(trial: Trial) -> str:
    """sha256 (hex) of one trial as a file keeps it (JSON writes NaN as null), so that reading it back changes nothing."""
    return digest(json.loads(trial.model_dump_json()))


def bundle_digest(trials: Iterable[Trial]) -> str:
    """sha256 (hex) over all trials, independent of their order; every field of every sample counts, repeats too."""
    parts = sorted(trial_digest(trial) for trial in trials)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
