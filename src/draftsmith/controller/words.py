"""Acts and the journal in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from draftsmith.contract import control as c
from draftsmith.kit.clock import utc


def sentence(act: c.Act, data: dict[str, Any] | None = None) -> str:
    """What an act is, in one sentence; `data` is what came of it."""
    match act:
        case c.StartRun():
            verb = "goes on with its run" if act.attempt else "starts a run"
            return f"{verb} ({act.reason}): {act.why}"
        case c.Conclude():
            return f"the run ended with {act.outcome}: {act.why}"
        case c.Propose():
            return f"proposes to {act.act.replace('_', ' ')}: {act.why}"
        case c.Shift():
            return f"gives the new configuration {act.share} % of live traffic: {act.why}"
        case c.TakeBack():
            return f"takes the share back: {act.why}"
        case c.Promote():
            kept = data is not None and not data.get("promoted", True)
            return f"{'kept what stands' if kept else 'promotes'}: {(data or {}).get('headline') or act.why}"
        case c.FallBack():
            return f"falls back to serving without the draft, for {act.hold_s / 60:.0f} minutes: {act.why}"
        case c.Restore():
            return f"tries the draft again on {act.share} % of live traffic: {act.why}"
        case c.Settle():
            return f"the draft is back: {act.why}"
        case c.Adopt():
            return act.why
        case c.Repair():
            return f"puts what serves in order: {act.why}"
        case c.HotSwap():
            return f"swaps the draft's weights in the running engine: {act.why}"
    return act.why


STORY = frozenset(
    {"started", "stopped", "state", "effect", "failed", "paused", "resumed", "approved", "declined", "requested"}
)


def story(events: Iterable[c.ControlEvent], everything: bool = False) -> list[str]:
    """The journal for people: a line an event, times in UTC. Intents are left out, for their effects follow."""
    lines = []
    for event in events:
        if not everything and event.kind not in STORY:
            continue
        lines.append(f"{utc(event.at_unix_s)}  {event.name:10} {event.sentence}")
    return lines
