"""One look, one act: the intent first, then the effect. The only place where the controller acts.

Every act is safe to repeat. Killed between intent and effect, the next tick finds the intent and carries it out again.
"""

from __future__ import annotations

from typing import Any, Protocol

from draftsmith.contract import control as c
from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.policy import Policy
from draftsmith.controller.decide import decide
from draftsmith.controller.journal import ChangedMeanwhileError
from draftsmith.controller.words import sentence

RETRY_S, RETRY_MOST_S = 60.0, 3600.0


class Book(Protocol):
    """A journal: on disk, or in memory for a simulation."""

    def memory(self) -> c.Memory:
        """The events so far, folded."""
        ...

    def append(self, kind: c.EventKind, sentence: str, *, after: int | None = None, **data: Any) -> c.ControlEvent:
        """See journal.Journal.append."""
        ...


class Hands(Protocol):
    """What looks and what acts: the real world, or a simulated one."""

    def look(self, memory: c.Memory) -> c.Moment:
        """What there is to see now. Never raises: what could not be seen is None."""
        ...

    def perform(self, act: c.Act, memory: c.Memory) -> dict[str, Any]:
        """Carry out one act, safe to repeat; returns what is to be remembered of it. Raises DraftsmithError, OSError."""
        ...

    def tell(self, event: c.ControlEvent, memory: c.Memory) -> None:
        """Tell people of an event, if it is one for them. Never raises."""
        ...


def tick(book: Book, policy: Policy, hands: Hands) -> c.Act:
    """Look, decide, and do one act. Returns it. Raises what the journal raises (a full disk): then nothing was done."""
    memory = book.memory()
    at = hands.look(memory)
    act = decide(memory, policy, at)
    if isinstance(act, c.Wait):
        if memory.said != (act.state, act.about):
            event = book.append("state", act.why, state=act.state, about=act.about)
            hands.tell(event, memory)
        return act
    act_json = act.model_dump(mode="json")
    if memory.open is None:
        try:
            book.append("intent", sentence(act), after=memory.last, act=act_json)
        except ChangedMeanwhileError:
            why = "something was written to the journal meanwhile: it looks again"
            return c.Wait(state=memory.state, about="again", why=why)
    try:
        data = hands.perform(act, memory)
    except (DraftsmithError, OSError) as error:
        pause = min(RETRY_MOST_S, RETRY_S * 2**memory.failures)
        why = f"could not {act.kind.replace('_', ' ')}: {_words(error)}"
        hands.tell(book.append("failed", why, act=act_json, retry_s=pause), memory)
        return act
    hands.tell(book.append("effect", sentence(act, data), act=act_json, **data), memory)
    return act


def _words(error: DraftsmithError | OSError) -> str:
    return error.message if isinstance(error, DraftsmithError) else error.strerror or type(error).__name__
