"""The one base of every value that becomes JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable and closed: an unknown key is an error, so a typo never passes silently."""

    # Values may be traffic: an error that is printed or logged says where, never what.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", hide_input_in_errors=True)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the text that hashes are taken over."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`.

    Of a model, fields that have their default are left out: a later version that adds a field with a default gives old
    values the hash they always had. So a default of a hashed contract must never change; add a field instead.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(canonical(value).encode()).hexdigest()
