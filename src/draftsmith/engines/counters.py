"""Counters of a server, whatever the engine: asked for, settled, compared across a window.

Laws: a counter is only ever used as a difference; `_created` series are timestamps, not data; a value that went down,
or another start, means that the server was replaced, and nothing is computed across that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from draftsmith.contract.errors import EngineError, EngineLostError
from draftsmith.engines.base import Snapshot
from draftsmith.kit.certificates import trusted
from draftsmith.kit.clock import Clock, SystemClock

TIMEOUT_S = 10.0
SETTLE_POLL_S = 0.15
SETTLE_READINGS = 3
SETTLE_LIMIT_S = 10.0
NEXT_STEP = "look at the engine's log; if it was replaced on purpose, run the trial again"


def sums(text: str, wanted: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Values of Prometheus text by (metric, value of its label in `wanted`); series that differ in other labels are added up.

    Raises EngineError for text that is none.
    """
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[tuple[str, str], float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in wanted:
                    key = (sample.name, sample.labels.get(wanted[sample.name], ""))
                    values[key] = values.get(key, 0.0) + sample.value
    except ValueError as error:
        raise EngineError(f"/metrics is not Prometheus text ({error})", "check the endpoint's address") from None
    return values


def require_same_start(before: Snapshot, after: Snapshot, counted: Callable[[str], bool] = lambda name: True) -> None:
    """Raise EngineLostError if two snapshots are of two server starts. `counted`: which metrics only ever rise."""
    if before.start_id != after.start_id:
        raise EngineLostError("the server was replaced between two readings of its counters", NEXT_STEP)
    for (name, label), value in before.values.items():
        if counted(name) and after.values.get((name, label), 0.0) < value:
            raise EngineLostError(f"counter {name} went down between two readings: the server was restarted", NEXT_STEP)


def settled(
    url: str, once: Callable[[str], Snapshot], clock: Clock | None = None, pause_s: float = SETTLE_POLL_S
) -> Snapshot:
    """Read until three readings in a row, `pause_s` apart, are equal: counters trail the last response by a moment.

    Raises EngineError if they still move after 10 s: then something else is using the server.
    """
    clock = clock or SystemClock()
    deadline = clock.monotonic() + SETTLE_LIMIT_S
    last, same = once(url), 1
    while same < SETTLE_READINGS:
        if clock.monotonic() >= deadline:
            raise EngineError(
                f"the counters still move {SETTLE_LIMIT_S:.0f} s after the last response",
                "make sure that nothing else sends requests to this server, and run the trial again",
            )
        clock.sleep(pause_s)
        now = once(url)
        same = same + 1 if now == last else 1
        last = now
    return last


def get(url: str, path: str, title: str, key: str | None = None) -> httpx.Response:
    """Ask a server, with its API key if it has one. Raises EngineLostError if it does not answer, EngineError for another status than 200."""
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.get(
            url.rstrip("/") + path, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=trusted()
        )
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise EngineLostError(f"{url} does not answer ({type(error).__name__})", NEXT_STEP) from None
    if answer.status_code != httpx.codes.OK:
        raise EngineError(f"{url}{path} answered {answer.status_code}", f"check that this is a server of {title}")
    return answer
