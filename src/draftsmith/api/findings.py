"""One finding about this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One finding. `missing` blocks the work that needs it, `warning` does not."""

    name: str
    level: Literal["ok", "warning", "missing"]
    sentence: str
    next_step: str = ""
