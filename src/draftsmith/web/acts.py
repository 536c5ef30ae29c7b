"""What an operator can do from the page, each through `api`. Nothing here decides."""

from __future__ import annotations

from collections.abc import Callable

from draftsmith import api
from draftsmith.api.watching import Watch

REASON_CUT = 300


def _answer(yes: bool) -> Callable[[Watch, str, str], str]:
    def act(watch: Watch, why: str, key: str) -> str:
        return api.answer_proposal(watch.config, yes, why, key).sentence

    return act


def _rollback(watch: Watch, why: str, key: str) -> str:
    state = api.rollback(watch.config)
    return "rolled back: " + ("what stood before serves" if state.standing_config else "no speculation serves")


ACTS: dict[str, Callable[[Watch, str, str], str]] = {
    "pause": lambda watch, why, key: api.pause_controller(watch.config, why).sentence,
    "resume": lambda watch, why, key: api.resume_controller(watch.config).sentence,
    "request": lambda watch, why, key: api.request_run(watch.config, why).sentence,
    "approve": _answer(True),
    "decline": _answer(False),
    "rollback": _rollback,
}


def carry_out(name: str, watch: Watch, why: str, key: str) -> str:
    """Do it; the sentence that was written down. Raises KeyError for an act that is not known, DraftsmithError."""
    plain = "".join(char for char in why if char.isprintable())[:REASON_CUT]
    return ACTS[name](watch, plain, key)
