"""What a tiny phase hands to its job, and what it answers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.jobs import PhaseResult


class TinyPlan(Frozen):
    go: str
    value: int
    made: str


class TinyResult(PhaseResult):
    OUTPUTS = ("made",)

    made: str
    rows: int
    units: str = ""  # shards put together keep what adds up
    probe: dict[str, Any] = Field(default_factory=lambda: {"passed": True})
