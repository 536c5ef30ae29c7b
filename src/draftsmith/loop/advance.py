"""What to do next, from the journal alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.store.runs import Event

StepKind = Literal["run", "promote", "finish", "finished"]


@dataclass(frozen=True)
class Step:
    """The next act. `ask`: ask the operator first. `headline`: the headline of the phase before."""

    kind: StepKind
    phase: str | None = None
    ask: bool = False
    headline: str = ""


def advance(events: Sequence[Event], pipeline: Sequence[str], *, ask: bool) -> Step:
    """The first phase without a passed result, in order. `ask` False: go on without asking (`--yes`).

    A phase that failed is run again: its job continues from what it finished. A phase whose gate did not pass ends the
    run: training a draft on a corpus that is not one, or comparing a draft that was not trained, costs GPU hours.
    """
    if finished(events):
        return Step("finished")
    done = completed(events)
    headline = ""
    for phase in pipeline:
        event = done.get(phase)
        if event is None:
            kind: StepKind = "promote" if phase == "promote" else "run"
            return Step(kind, phase, ask=ask and bool(headline), headline=headline)
        headline = str(event.data.get("headline", ""))
        if not event.data.get("passed", True):
            return Step("finish", phase, headline=headline)
    return Step("finish", pipeline[-1], headline=headline)


def finished(events: Sequence[Event]) -> bool:
    """Whether the run came to its end, and no phase was requested again since."""
    ends = [event.number for event in events if event.kind == "finished"]
    return bool(ends) and not any(_discards(event) for event in events if event.number > ends[-1])


def to_clear(events: Sequence[Event]) -> list[str]:
    """Phases that the operator asked for anew, whose earlier files are still to be removed."""
    phases: list[str] = []
    for event in events:
        phases += [phase for phase in _discards(event) if phase not in phases]
        if event.kind == "cleared" and event.phase in phases:
            phases.remove(event.phase)
    return phases


def completed(events: Sequence[Event]) -> dict[str, Event]:
    """The last result of each phase; a later start of an earlier phase discards what came after it."""
    done: dict[str, Event] = {}
    for event in events:
        if event.kind == "phase_done" and event.phase:
            done[event.phase] = event
        for phase in _discards(event):
            done.pop(phase, None)
    return done


def _discards(event: Event) -> list[str]:
    return list(event.data.get("discards", ())) if event.kind == "started" else []
