"""Sampling parameters as aggregates: names and numeric values, never text of users."""

from __future__ import annotations

import re
from collections import Counter as Tally
from typing import Any

REFUSED_WHILE_SPECULATING = ("min_p", "logit_bias")
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
OTHER = "(another)"
# Words that the APIs define. Another word in their place is a client's own, and may tell of it.
WORDS = {
    "tool_choice": frozenset({"auto", "none", "required"}),
    "reasoning_effort": frozenset({"none", "minimal", "low", "medium", "high", "xhigh"}),
    "response_format": frozenset({"text", "json_object", "json_schema", "structural_tag"}),
}


def structured(params: dict[str, Any]) -> bool:
    """Whether a request constrains the form of its answer."""
    form = params.get("response_format")
    if isinstance(form, dict):
        return form.get("type") in ("json_object", "json_schema", "structural_tag")
    return any(key.startswith(("guided_", "structured_")) for key in params)


def shown_parameters(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Parameters as text; values that could hold user text are reduced to their kind."""
    out = []
    for name, value in params.items():
        key = name if NAME.fullmatch(name) else OTHER
        word = value.get("type") if isinstance(value, dict) else value
        if isinstance(value, bool | int | float):
            out.append((key, str(value)))
        elif isinstance(word, str) and word in WORDS.get(key, ()):
            out.append((key, word))
        elif value not in (None, [], {}):
            out.append((key, "set"))
    return out


def refused(params: Tally[tuple[str, str]]) -> dict[str, int]:
    """Requests whose parameters an engine refuses while speculation is on. A min_p of zero is neutral."""
    tally: Tally[str] = Tally()
    for (key, value), times in params.items():
        if key in REFUSED_WHILE_SPECULATING and value not in ("0", "0.0", "False"):
            tally[key] += times
    return dict(tally)
