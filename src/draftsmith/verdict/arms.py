"""What an arm says of itself, in its configuration or in the words of its command."""

from __future__ import annotations

from draftsmith.contract.measure import Arm
from draftsmith.contract.speculation import Speculation, read_words


def speculation(arm: Arm) -> Speculation | None:
    """What an arm says of its speculation, also in a command that spells it out; None = no word of it."""
    return arm.speculation or read_words((*arm.flags, *(arm.command or ())), arm.engine)


def says_speculation(arm: Arm) -> bool | None:
    """Whether an arm speculates, by its own words; None for a running server, which has none."""
    return None if arm.endpoint is not None else speculation(arm) is not None


def has_draft(arm: Arm) -> bool:
    """Whether a trained draft may be behind an arm, so that it can have forgotten general traffic."""
    if arm.endpoint is not None:
        return True
    speculates = speculation(arm)
    return speculates is not None and speculates.has_draft


def may_forget(arm: Arm) -> bool:
    """Whether an arm on trial has to be seen on general traffic: its draft may be slow there. References have none."""
    return arm.role in ("candidate", "other") and has_draft(arm)
