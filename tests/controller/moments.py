"""Memories and moments with a champion that serves, quiet traffic and nothing to do; each test bends what it is about."""

from __future__ import annotations

from typing import Any

from draftsmith.contract import control as c
from draftsmith.contract.policy import Policy
from draftsmith.controller.memory import fold

NOW = 1_800_000_000.0
DRAFT = {"method": "eagle3", "model": "/drafts/one", "num_speculative_tokens": 3}
NEXT = {"method": "eagle3", "model": "/drafts/two", "num_speculative_tokens": 3}
AUTO = Policy(mode="auto", quiet_hours=None)
CHAMPION = c.Champion(
    run_id="r1", since_unix_s=NOW - 86400, acceptance_length=2.8, floor_al=1.6, target_sha256="t", engine="vllm 1", config=DRAFT
)  # fmt: skip
WON = c.Conclude(run_id="r2", outcome="WIN", why="faster by 20 %", config=NEXT, promotes=True, floor_al=1.7)
RUN = c.RunInHand(reason="drift", why="moved", traffic="500:9", began_unix_s=NOW - 3600)


def memory(**changed: Any) -> c.Memory:
    return c.Memory(**{"last": 1, "last_unix_s": NOW - 60, "champion": CHAMPION, "state": "watching", **changed})


def traffic(**changed: Any) -> c.TrafficSeen:
    return c.TrafficSeen(**{"identity": "1000:9", "new": 1000, "windows": 5, "drift": "no drift", **changed})


def live(**changed: Any) -> c.LiveSeen:
    good = {"requests": 400, "acceptance_length": 2.8, "tpot_s": 0.02, "ttft_s": 0.2, "busy_share": 0.9}
    return c.LiveSeen(**{**good, **changed})


def moment(**changed: Any) -> c.Moment:
    seen = {
        "now_unix_s": NOW, "traffic": traffic(), "live": live(), "standing": DRAFT, "target_sha256": "t",
        "engine": "vllm 1", "free_gib": 100.0,
    }  # fmt: skip
    return c.Moment(**{**seen, **changed})


def rollout(share: int = 25, **changed: Any) -> c.Rollout:
    return c.Rollout(**{"run_id": "r2", "share": share, "since_unix_s": NOW - 3600, "config": NEXT, **changed})


class PaperBook:
    """A journal in memory, with a clock that the test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.events: list[c.ControlEvent] = []
        self._memory = c.Memory()

    def memory(self) -> c.Memory:
        self._memory = fold(self.events[self._memory.last :], self._memory)
        return self._memory

    def append(self, kind: c.EventKind, sentence: str, *, after: int | None = None, **data: Any) -> c.ControlEvent:
        from draftsmith.controller.journal import ChangedMeanwhileError

        if after is not None and after != len(self.events):
            raise ChangedMeanwhileError
        event = c.ControlEvent(number=len(self.events) + 1, at_unix_s=self.now, kind=kind, sentence=sentence, data=data)
        self.events.append(event)
        return event
