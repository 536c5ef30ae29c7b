"""Sampling parameters as aggregates: what was asked for, without what users wrote."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

REFUSED_WHILE_SPECULATING = ("min_p", "logit_bias")


def structured(params: dict[str, Any]) -> bool:
    """Whether a request constrains the form of its answer."""
    asked = params.get("response_format")
    if isinstance(asked, dict):
        return asked.get("type") in ("json_object", "json_schema", "structural_tag")
    return any(key.startswith(("guided_", "structured_")) for key in params)


def shown_parameters(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Parameters as text; values that could hold user text are reduced to their kind."""
    out = []
    for key, value in params.items():
        if isinstance(value, bool | int | float):
            out.append((key, str(value)))
        elif isinstance(value, str) and key in ("tool_choice", "reasoning_effort"):
            out.append((key, value[:24]))
        elif isinstance(value, dict) and key == "response_format":
            out.append((key, str(value.get("type"))[:24]))
        elif value not in (None, [], {}):
            out.append((key, "set"))
    return out


def refused(params: Tally[tuple[str, str]]) -> dict[str, int]:
    """Requests whose parameters an engine refuses while speculation is on. A min_p of zero is neutral."""
    found: Tally[str] = Tally()
    for (key, value), times in params.items():
        if key in REFUSED_WHILE_SPECULATING and value not in ("0", "0.0", "False"):
            found[key] += times
    return dict(found)
