"""Which operating points decide, and which arms are on trial."""

from __future__ import annotations

from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import ComparisonPlan, OperatingPoint


def primary_point(plan: ComparisonPlan) -> OperatingPoint:
    """The point that decides: the one marked primary, else the first. Raises InputError without points or with two."""
    marked = [point for point in plan.points if point.primary]
    if len(marked) > 1:
        raise InputError("the plan marks more than one operating point as primary", "mark exactly one")
    if not plan.points:
        raise InputError("the plan has no operating point", "give at least one concurrency to compare at")
    return marked[0] if marked else plan.points[0]
