"""The served engine's own counters, look by look: figures over the last minutes, and whether acceptance has fallen.

Only differences count. A restart, a counter that went back, another model or a server that does not answer break the
series: what was counted across the break is left out, and nothing is concluded from it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from draftsmith.contract.base import Frozen
from draftsmith.contract.control import Champion, LiveSeen
from draftsmith.contract.errors import EngineError
from draftsmith.contract.measure import SpecCounters
from draftsmith.contract.policy import Policy
from draftsmith.controller.acceptance import Wealth, bet, share
from draftsmith.engines.base import Engine, ServerIdentity, Snapshot

FIGURES_S = 120.0
WINDOW_DRAFTS = 400
"""Drafts in one window of the sequential test: fewer are added up over several looks."""
REFERENCE_WINDOWS = 5
TTFT = ("time_to_first_token_seconds_sum", "time_to_first_token_seconds_count")


class Sample(NamedTuple):
    """What was counted between two looks."""

    at: float
    seconds: float
    counted: SpecCounters
    ttft_sum: float
    ttft_count: float


class Fall(Frozen):
    """The sequential test, kept across restarts of the controller. `since`: of the champion that it is about."""

    since: float = 0.0
    wealth: Wealth = Wealth()
    accepted: int = 0
    drafted: int = 0
    drafts: int = 0
    first: tuple[float, ...] = ()


class LiveReader:
    """Follows one server. `url` may change: that is another server."""

    def __init__(
        self, engine: Engine, policy: Policy, reading: Callable[[str], Snapshot] | None = None,
        identify: Callable[[str], ServerIdentity] | None = None,
    ) -> None:  # fmt: skip
        """`reading`, `identify`: how the server is queried; default: by the engine."""
        self.engine, self.policy = engine, policy
        self.reading = reading or engine.reading
        self._identify = identify or (None if reading else engine.identify)
        self._samples: deque[Sample] = deque()
        self._last: tuple[str, float, Snapshot] | None = None
        self._below: tuple[float, int] | None = None
        self._asked: tuple[str, str | None] | None = None
        self._model: str | None = None
        self.fall = Fall()

    def look(self, url: str, now: float, champion: Champion | None, since: float | None = None) -> LiveSeen:
        """Figures of the last two minutes, or of all the time since `since`. Raises EngineError if it could not look."""
        try:
            reading = self.reading(url)
        except EngineError:
            self._below = None  # "for so long without a break" begins anew: nothing is done on what was not seen
            self._last = None
            raise
        self._require_same_model(url, reading.start_id)
        before, self._last = self._last, (url, now, reading)
        if before is not None and before[0] == url and now > before[1]:
            self._count(before[1], before[2], now, reading)
        elif before is not None and before[0] != url:
            self._break()
        first = now - FIGURES_S if since is None else since
        while self._samples and self._samples[0].at - self._samples[0].seconds < first - 1.0:
            self._samples.popleft()
        return self._figures(now, champion)

    def _require_same_model(self, url: str, start_id: str | None) -> None:
        """Asked once a start of the server. Raises EngineError where another model answers than at first."""
        if self._asked == (url, start_id) or self._identify is None:
            return
        model = self._identify(url).model
        if self._model is not None and model != self._model:
            self._below = self._last = None
            raise EngineError(
                f"the server's metrics are those of another model ({model}, and it was {self._model})",
                "point serving.endpoint to the served model",
            )
        self._model, self._asked = model, (url, start_id)

    def _count(self, then: float, before: Snapshot, now: float, reading: Snapshot) -> None:
        try:
            counted = self.engine.diff(before, reading)
        except EngineError:  # it was restarted: this reading is where counting begins
            self._break()
            return
        ttft = [_total(reading, name) - _total(before, name) for name in TTFT]
        self._samples.append(Sample(now, now - then, counted, *ttft))
        if counted.present:
            fall = self.fall
            self.fall = fall.model_copy(
                update={
                    "accepted": fall.accepted + counted.accepted_tokens,
                    "drafted": fall.drafted + counted.draft_tokens,
                    "drafts": fall.drafts + counted.drafts,
                }
            )

    def _break(self) -> None:
        self._samples.clear()
        self._below = None

    def _figures(self, now: float, champion: Champion | None) -> LiveSeen:
        total = _Sum(self._samples)
        below = self._wrong(total, champion)
        if not below:
            self._below = None
        elif self._below is None:
            self._below = (now, 0)
        elif self._samples and self._samples[-1].at == now:
            self._below = (self._below[0], self._below[1] + self._samples[-1].counted.requests)
        return LiveSeen(
            requests=total.requests,
            acceptance_length=total.acceptance_length,
            acceptance_by_position=total.by_position,
            tpot_s=total.tpot_s,
            ttft_s=total.ttft_s,
            below=below,
            below_s=now - self._below[0] if self._below else 0.0,
            below_requests=self._below[1] if self._below else 0,
            fell=self._fell(champion),
            busy_share=total.busy_share,
        )

    def _wrong(self, total: _Sum, champion: Champion | None) -> str:
        floor = self.policy.floor_al or (champion.floor_al if champion else None)
        length = total.acceptance_length
        if floor is not None and length is not None and length < floor:
            return f"acceptance length is {length:.2f}, and pays from {floor:.2f} on"
        promise = self.policy.tpot_promise_s
        if promise is not None and total.tpot_s is not None and total.tpot_s > promise:
            return f"time per output token is {total.tpot_s * 1000:.1f} ms, and {promise * 1000:.1f} ms are promised"
        return ""

    def _fell(self, champion: Champion | None) -> str | None:
        if champion is None or champion.config is None:
            return None
        if self.fall.since != champion.since_unix_s:
            self.fall = Fall(since=champion.since_unix_s)
        fall = self.fall
        seen = share(fall.accepted, fall.drafted)
        if fall.drafts >= WINDOW_DRAFTS and seen is not None:
            fall = fall.model_copy(update={"accepted": 0, "drafted": 0, "drafts": 0})
            promised = promised_share(champion)
            if promised is None and len(fall.first) < REFERENCE_WINDOWS:
                fall = fall.model_copy(update={"first": (*fall.first, seen)})
            else:
                promised = promised if promised is not None else sum(fall.first) / len(fall.first)
                fall = fall.model_copy(update={"wealth": bet(fall.wealth, seen, promised, self.policy.fall_margin)})
            self.fall = fall
        if fall.wealth.evidence < 1 / self.policy.fall_alpha:
            return None
        was = promised_share(champion) or sum(fall.first) / max(1, len(fall.first))
        return (
            f"acceptance fell below the promoted {was:.0%} of drafted tokens, by a sequential test over "
            f"{fall.wealth.windows} windows (evidence {fall.wealth.evidence:.0f} : 1)"
        )


def promised_share(champion: Champion) -> float | None:
    """Accepted share of drafted tokens that the champion was promoted with: (AL - 1) / K."""
    k = int((champion.config or {}).get("num_speculative_tokens") or 0)
    if champion.acceptance_length is None or k <= 0:
        return None
    return min(1.0, max(0.0, (champion.acceptance_length - 1) / k))


class _Sum:
    """Samples added up."""

    def __init__(self, samples: deque[Sample]) -> None:
        counted = [sample.counted for sample in samples]
        self.requests = sum(item.requests for item in counted)
        drafts, accepted = sum(item.drafts for item in counted), sum(item.accepted_tokens for item in counted)
        self.acceptance_length = 1 + accepted / drafts if drafts else None
        self.by_position = _by_position(counted, drafts)
        times: list[Any] = [item for item in counted if item.server_tpot_sum_s is not None and item.server_tpot_count]
        count = sum(time.server_tpot_count for time in times)
        self.tpot_s = sum(time.server_tpot_sum_s for time in times) / count if count else None
        first = sum(sample.ttft_count for sample in samples)
        self.ttft_s = sum(sample.ttft_sum for sample in samples) / first if first > 0 else None
        seconds = sum(sample.seconds for sample in samples)
        made = sum(item.generation_tokens for item in counted)
        in_flight = made * self.tpot_s / seconds if self.tpot_s is not None and seconds > 0 else None
        self.busy_share = None if in_flight is None else min(1.0, in_flight)


def _by_position(counted: Sequence[SpecCounters], drafts: int) -> tuple[float, ...]:
    """Empty where the engine does not count positions, or counts them in part of the time only."""
    rows = [item.accepted_per_position for item in counted if item.drafts]
    if not drafts or not rows or not all(rows):
        return ()
    return tuple(min(1.0, sum(place) / drafts) for place in itertools.zip_longest(*rows, fillvalue=0))


def _total(reading: Snapshot, ending: str) -> float:
    return sum(value for (name, _), value in reading.values.items() if name.endswith(ending))
