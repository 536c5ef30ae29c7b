"""Settings of the capture middleware, from environment variables: the server constructs it with the application alone."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from draftsmith.contract.errors import ConfigError

PREFIX = "DRAFTSMITH_CAPTURE_"
MIB = 2**20
SAMPLE_BY = ("conversation", "request")


@dataclass(frozen=True)
class CaptureSettings:
    """What is recorded, and how much room it may take. Sizes in bytes.

    `rate`: share of conversations (or requests, see `by`) that are recorded. `keys`: policy file; with one, an unknown key
    means no. `queue`: finished requests that wait for the writer; `memory_bytes`: copies held at one time, and
    `record_bytes` of one request; beyond each of the three a request goes unrecorded and is counted.
    """

    folder: Path
    rate: float = 1.0
    by: str = "conversation"
    keys: Path | None = None
    file_bytes: int = 64 * MIB
    total_bytes: int = 4096 * MIB
    days: float = 30.0
    min_free_bytes: int = 5120 * MIB
    queue: int = 1024
    memory_bytes: int = 128 * MIB
    record_bytes: int = 8 * MIB


# variable (without prefix) -> (field, factor, lowest, highest)
NUMBERS: dict[str, tuple[str, int, float, float]] = {
    "SAMPLE": ("rate", 1, 0.0, 1.0),
    "FILE_MB": ("file_bytes", MIB, 0.001, 1 << 20),
    "TOTAL_MB": ("total_bytes", MIB, 0.001, 1 << 30),
    "DAYS": ("days", 1, 0.001, 36500),
    "MIN_FREE_MB": ("min_free_bytes", MIB, 0, 1 << 30),
    "QUEUE": ("queue", 1, 1, 1 << 20),
    "MEMORY_MB": ("memory_bytes", MIB, 0.001, 1 << 20),
    "RECORD_MB": ("record_bytes", MIB, 0.001, 1 << 20),
}
VARIABLES = tuple(PREFIX + name for name in ("DIR", "SAMPLE_BY", "KEYS", *NUMBERS))


def from_environment(environment: Mapping[str, str]) -> CaptureSettings:
    """Settings from DRAFTSMITH_CAPTURE_* variables. Raises ConfigError that names every wrong one, never its value."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    wrong = [_unknown(name) for name in given if name not in VARIABLES]
    if PREFIX + "DIR" not in given:
        wrong.append(f"{PREFIX}DIR is not set")
    numbers: dict[str, float] = {}
    for name, (field, factor, low, high) in NUMBERS.items():
        text = given.get(PREFIX + name)
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            wrong.append(f"{PREFIX}{name} must be a number from {low:g} to {high:g}")
            continue
        numbers[field] = value if field in ("rate", "days") else round(value * factor)
    by = given.get(PREFIX + "SAMPLE_BY", SAMPLE_BY[0])
    if by not in SAMPLE_BY:
        wrong.append(f"{PREFIX}SAMPLE_BY must be {' or '.join(SAMPLE_BY)}")
    if wrong:
        raise ConfigError("; ".join(wrong), "correct the variables named and start the server again")
    keys = given.get(PREFIX + "KEYS")
    folder = Path(given[PREFIX + "DIR"])
    return CaptureSettings(folder=folder, by=by, keys=Path(keys) if keys else None, **numbers)  # type: ignore[arg-type]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, VARIABLES, n=1)
    return f"{name} is no setting" + (f", did you mean {near[0]}?" if near else "")
