"""What an arm says of itself, in its configuration or in the words of its command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from draftsmith.contract.measure import Arm

SPECULATION_FLAGS = frozenset({"--speculative-config", "-sc", "--spec-method", "--spec-model", "--spec-tokens"})
WITHOUT_DRAFT = frozenset({"ngram", "ngram_gpu", "suffix"})


def says_speculation(arm: Arm) -> bool | None:
    """Whether an arm speculates, by its own words; None for a running server, which has none."""
    if arm.endpoint is not None:
        return None
    words = [word.split("=")[0] for word in (*arm.flags, *(arm.command or ()))]
    return arm.spec_config is not None or any(word in SPECULATION_FLAGS for word in words)


def has_draft(arm: Arm) -> bool:
    """Whether a trained draft may be behind an arm, so that it can have forgotten general traffic."""
    said = says_speculation(arm)
    if said is None or not said:
        return said is None
    return speculation(arm).get("method") not in WITHOUT_DRAFT


def may_forget(arm: Arm) -> bool:
    """Whether an arm on trial has to be seen on general traffic: its draft may be slow there. References have none."""
    return arm.role in ("candidate", "other") and has_draft(arm)


def speculation(arm: Arm) -> Mapping[str, Any]:
    """The speculative config, also of a command that spells it out; empty where there is none or it cannot be read."""
    if arm.spec_config is not None:
        return arm.spec_config
    return _spelled_out((*arm.flags, *(arm.command or ())))


def _spelled_out(words: Sequence[str]) -> Mapping[str, Any]:
    for word, following in pairwise((*words, "")):
        name, given, value = word.partition("=")
        if name in ("--speculative-config", "-sc"):
            try:
                found = json.loads(value if given else following)
            except ValueError:
                return {}
            return found if isinstance(found, dict) else {}
        if name == "--spec-method":
            return {"method": value if given else following}
    return {}
