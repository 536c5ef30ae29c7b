"""Which visits are spoiled by what else the machine did, and how often one is repeated. The rule is the frozen plan's."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

from draftsmith.contract.measure import Contention, ContentionRule

ENOUGH = 3  # visits before anything is usual
FREE = 4  # repeats that a short campaign may take before its share counts


class Repeats:
    """What is usual on this machine, and how many repeats are left.

    Every visit counts for what is usual, a spoiled one too: a load that stays is soon the usual, and then nothing is repeated.
    """

    def __init__(self, rule: ContentionRule | None, seen: Iterable[Contention | None] = ()) -> None:
        self.rule = rule or ContentionRule(repeats=0)
        self._seen: deque[Contention] = deque(maxlen=self.rule.window)
        self.visits = 0
        self.repeated = 0
        for contention in seen:
            self.remember(contention)

    def look(self, contention: Contention | None) -> str | None:
        """Why this visit is spoiled, in words; None if it is not. Remembers it either way."""
        why = self._why(contention) if contention is not None and len(self._seen) >= ENOUGH else None
        self.remember(contention)
        self.visits += 1
        return why

    def may_repeat(self, attempt: int) -> bool:
        """Whether a visit that was tried `attempt` + 1 times may be tried again."""
        left = FREE + self.rule.budget * self.visits - self.repeated
        return attempt < self.rule.repeats and left >= 1

    def remember(self, contention: Contention | None) -> None:
        """A visit that counts for what is usual, and is not judged."""
        if contention is not None:
            self._seen.append(contention)

    def _why(self, now: Contention) -> str | None:
        rule = self.rule
        usual = self._usual("others_cpu")
        if now.others_cpu is not None and usual is not None and now.others_cpu > usual + rule.others_cpu:
            return f"other processes used {now.others_cpu:.0%} of the cores, {usual:.0%} is usual here"
        usual = self._usual("client_lag_s")
        if now.client_lag_s is not None and usual is not None and now.client_lag_s > usual + rule.client_lag_s:
            return f"the client's own timer was {now.client_lag_s:.2f} s late, {usual:.2f} s is usual here"
        usual = self._usual("gpu_clock_mhz")
        if now.gpu_clock_mhz is not None and usual is not None and now.gpu_clock_mhz < usual * (1 - rule.gpu_clock):
            return f"the GPUs ran at {now.gpu_clock_mhz:.0f} MHz, {usual:.0f} is usual here"
        return None

    def _usual(self, name: str) -> float | None:
        values = [value for seen in self._seen if (value := getattr(seen, name)) is not None]
        return statistics.median(values) if len(values) >= ENOUGH else None
