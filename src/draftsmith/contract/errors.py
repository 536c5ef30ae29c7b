"""Every error Draftsmith raises on purpose.

    DraftsmithError
    |- InputError          the user's data or flags are wrong: fix them and run again
    |  |- ConfigError      draftsmith.toml
    |  `- EvidenceError    a bundle does not verify, or cannot be read
    |- PrerequisiteError   the machine, engine or trainer lacks something: install or free it
    |  `- NoRoomError      the cluster has no free place now: waiting can help
    |- RefusedError        a law of the product forbids it (for example: promote without a WIN)
    |- EngineError         the serving engine failed
    |  |- EngineStartError it never became ready; carries the cause and the tail of its log
    |  `- EngineLostError  it was there and went away
    |- TrainerError        training failed or diverged
    |- BackendError        a scheduler said no, or could not be asked
    |  `- AwayError        it does not answer now: waiting can help
    |- StoppedAtGateError  a phase's gate says that the next phases would be useless
    |- RegressedError      a figure is worse than the baseline's, beyond noise
    |- NoVerdictError      a bundle that proves nothing: no verdict is in it
    `- RunInterruptedError stopped on purpose; running again resumes
       `- WaitingError     the next phase waits for the operator's yes

Each carries what happened (`message`) and what to do now (`next_step`). `exit_code` is what the command returns:
2 fix the input, 3 fix the machine, 4 refused, 5 a subsystem failed (retry or look at its log), 6 stopped at a gate,
7 waiting for a yes, 8 a bundle without a verdict, 9 worse than the baseline, 130 interrupted. A WIN, a LOSS and an INCONCLUSIVE all end with 0.
"""

from __future__ import annotations

import re
from typing import Any

# An address may hold a password, and an error is printed, logged and kept in result.json.
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^/\s@\"']{1,512}@")


class DraftsmithError(Exception):
    """Base of all deliberate errors. `next_step` is one imperative sentence. User and password of an address are left out."""

    exit_code = 5

    def __init__(self, message: str, next_step: str = "") -> None:
        message, next_step = (_USER_OF_ADDRESS.sub("***@", text) for text in (message, next_step))
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details: dict[str, Any] = {}  # what a command found beside the error: part of its one JSON value

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class InputError(DraftsmithError):
    """Data or flags from the user that cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """draftsmith.toml does not parse or holds an unknown key."""


class EvidenceError(InputError):
    """An evidence bundle is missing files, was altered, or does not reproduce its verdict."""


class PrerequisiteError(DraftsmithError):
    """Something the machine must have is not there. Found before work starts."""

    exit_code = 3


class NoRoomError(PrerequisiteError):
    """The cluster could run the job, and has no free place for it at the moment."""


class RefusedError(DraftsmithError):
    """A law of the product forbids the action."""

    exit_code = 4


class EngineError(DraftsmithError):
    """The serving engine failed."""


class EngineStartError(EngineError):
    """The engine did not become ready. `cause` is one sentence, `log_tail` its last lines."""

    def __init__(self, cause: str, log_tail: str = "", next_step: str = "") -> None:
        super().__init__(f"{cause}\n{log_tail}".rstrip(), next_step)
        self.cause = cause
        self.log_tail = log_tail


class EngineLostError(EngineError):
    """The engine was ready and went away."""


class TrainerError(DraftsmithError):
    """Training failed or diverged."""


class BackendError(DraftsmithError):
    """A scheduler refused or could not be asked."""


class AwayError(BackendError):
    """The scheduler does not answer at the moment. Says nothing about any job."""


class RunInterruptedError(DraftsmithError):
    """Stopped on purpose. Everything finished is kept."""

    exit_code = 130


class WaitingError(RunInterruptedError):
    """The next phase needs the operator's confirmation: it was declined, or there is no terminal to ask on."""

    exit_code = 7


class StoppedAtGateError(DraftsmithError):
    """A phase finished and its gate did not pass, so the run stops. Never raised: it names the exit code."""

    exit_code = 6


class NoVerdictError(DraftsmithError):
    """A bundle is intact and holds no verdict: there is nothing that it could prove."""

    exit_code = 8


class RegressedError(DraftsmithError):
    """A campaign is worse than the baseline it was set against, beyond the noise of both."""

    exit_code = 9
