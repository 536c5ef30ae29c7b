"""counters.json beside the samples it belongs to: in the folder of a run, a cell or a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from draftsmith.contract.counters import GpuCounters
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Trial
from draftsmith.kit.files import read_json, write_json
from draftsmith.verdict.samples import bundle_digest

COUNTERS = "counters.json"


def read_counters(folder: Path, trials: Iterable[Trial]) -> GpuCounters | None:
    """What was correlated with these trials; None if nothing was, or with others. Raises InputError for a torn file."""
    path = folder / COUNTERS
    if not path.is_file():
        return None
    try:
        counters = GpuCounters.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{COUNTERS} cannot be read ({type(error).__name__})",
            "remove it, and run `draftsmith dcgm correlate` again",
        ) from None
    return counters if counters.samples_sha256 == bundle_digest(list(trials)) else None


def write_counters(folder: Path, counters: GpuCounters) -> Path:
    """Keep them."""
    return write_json(folder / COUNTERS, counters)
