"""Which arm answers which prompts, and when: the order of a block's visits. Pure: it follows from the frozen plan alone.

First edition: an arm has all prompts at once, in ABBA order over blocks, and every block asks all prompts.

Second edition: a block has prompts of its own. Where all servers are up, the arms take turns every few prompts, so that what
changes slowly meets all of them alike. The baseline's twin takes part: the same server, one visit more in each round.
The order of turns is a Williams design: over the rounds every arm stands at every place equally often, and after every
other arm equally often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from draftsmith.contract.measure import ComparisonPlan, OperatingPoint

SECOND: Literal["draftsmith_comparison_v2"] = "draftsmith_comparison_v2"
TWIN = "#b"
Traffic = Literal["own", "general", "tuning", "aa"]


@dataclass(frozen=True)
class Visit:
    """A few prompts over one arm. `prompts`: places in the pinned prompts, of general traffic if that is what is asked."""

    block: int
    order: int
    point: str
    arm: str
    traffic: Traffic
    visit: int
    prompts: tuple[int, ...]

    @property
    def server(self) -> str:
        """The arm whose server is measured: a twin has none of its own."""
        return self.arm.split("#", 1)[0]


@dataclass(frozen=True)
class General:
    """General traffic beside a block's own: which arms answer it, and how many prompts there are."""

    arms: tuple[str, ...] = ()
    prompts: int = 0


def is_second(plan: ComparisonPlan) -> bool:
    """Whether the second edition of the rule decides."""
    return plan.schema_ == SECOND


def visits(plan: ComparisonPlan, block: int, general: General = General()) -> tuple[Visit, ...]:
    """The visits of one block in their order."""
    if not is_second(plan):
        turns = _first_edition(plan, block, general)
    elif plan.resident:
        turns = _taking_turns(plan, block, general)
    else:
        turns = _one_by_one(plan, block, general)
    seen: dict[tuple[str, str, Traffic], int] = {}
    planned = []
    for order, turn in enumerate(turns):
        key = (turn.point, turn.arm, turn.traffic)
        planned.append(Visit(block, order, turn.point, turn.arm, turn.traffic, seen.get(key, 0), turn.prompts))
        seen[key] = seen.get(key, 0) + 1
    return tuple(planned)


def prompts_of_block(plan: ComparisonPlan, block: int) -> tuple[int, ...]:
    """Places of the prompts of one block. Blocks share none while there are unused ones; then all are shuffled anew."""
    count, size = plan.n_prompts, min(plan.block_prompts or plan.n_prompts, plan.n_prompts)
    rest: list[int] = []
    lap, taken = 0, list[int]()
    for _ in range(block + 1):
        taken, rest = rest[:size], rest[size:]
        if len(taken) < size:
            order, used = _lap(count, plan.seed, lap), set(taken)
            fresh = [place for place in order if place not in used]
            need = size - len(taken)
            taken, rest = taken + fresh[:need], fresh[need:] + [place for place in order if place in used]
            lap += 1
    return tuple(taken)


def rounds(places: Sequence[int], at_most: int) -> list[tuple[int, ...]]:
    """`places` in pieces of nearly equal length, none longer than `at_most`."""
    pieces = -(-len(places) // max(1, at_most))
    bounds = [round(n * len(places) / pieces) for n in range(pieces + 1)]
    return [tuple(places[a:b]) for a, b in pairwise(bounds)]


def turn_order(entries: int, number: int) -> tuple[int, ...]:
    """Row `number` of a Williams design over `entries` arms; an odd one needs twice as many rows as an even one."""
    row = [0]
    for step in range(1, entries):
        row.append((row[-1] + (step if step % 2 else -step)) % entries)
    shifted = [(place + number) % entries for place in row]
    return tuple(reversed(shifted)) if entries % 2 and (number // entries) % 2 else tuple(shifted)


@dataclass(frozen=True)
class _Turn:
    point: str
    arm: str
    traffic: Traffic
    prompts: tuple[int, ...]


def _entries(plan: ComparisonPlan) -> list[tuple[str, Traffic]]:
    twin = plan.baseline + (TWIN if is_second(plan) else "")
    return [*((arm.name, _OWN) for arm in plan.arms), (twin, "aa")]


_OWN: Traffic = "own"


def _visit_size(plan: ComparisonPlan, point: OperatingPoint, prompts: int) -> int:
    """An open loop needs its time to fill: there a visit is the whole block."""
    if plan.visit_prompts is None or point.open_loop:
        return prompts
    return plan.visit_prompts * max(1, point.concurrency)


def _taking_turns(plan: ComparisonPlan, block: int, general: General) -> Iterator[_Turn]:
    entries, places = _entries(plan), prompts_of_block(plan, block)
    primary = next((p for p in plan.points if p.primary), plan.points[0])
    for point in plan.points:
        pieces = rounds(places, _visit_size(plan, point, len(places)))
        for index, piece in enumerate(pieces):
            for at in turn_order(len(entries), plan.seed + block * len(pieces) + index):
                name, traffic = entries[at]
                yield _Turn(point.name, name, traffic, piece)
        if point is primary and general.arms and general.prompts:
            size = (plan.visit_prompts or general.prompts) * max(1, point.concurrency)
            for index, piece in enumerate(rounds(range(general.prompts), size)):
                for at in turn_order(len(general.arms), plan.seed + block + index):
                    yield _Turn(point.name, general.arms[at], "general", piece)


def _one_by_one(plan: ComparisonPlan, block: int, general: General) -> Iterator[_Turn]:
    """Servers that are up one at a time do all their points in one go."""
    entries, places = _entries(plan), prompts_of_block(plan, block)
    primary = next((p for p in plan.points if p.primary), plan.points[0])
    for at in turn_order(len(entries), plan.seed + block):
        name, traffic = entries[at]
        for point in plan.points:
            yield _Turn(point.name, name, traffic, places)
        if traffic == "own" and name in general.arms and general.prompts:
            yield _Turn(primary.name, name, "general", tuple(range(general.prompts)))


def _first_edition(plan: ComparisonPlan, block: int, general: General) -> Iterator[_Turn]:
    order, every = _entries(plan), tuple(range(plan.n_prompts))
    if block % 2:
        order.reverse()
    primary = next((p for p in plan.points if p.primary), plan.points[0])
    general_prompts = tuple(range(general.prompts))
    if not plan.resident:
        for name, traffic in order:
            for point in plan.points:
                yield _Turn(point.name, name, traffic, every)
            if traffic == "own" and name in general.arms and general_prompts:
                yield _Turn(primary.name, name, "general", general_prompts)
        return
    for point in plan.points:
        for name, traffic in order:
            yield _Turn(point.name, name, traffic, every)
        if point is primary and general_prompts:
            for name in general.arms:
                yield _Turn(point.name, name, "general", general_prompts)


def _lap(count: int, seed: int, lap: int) -> list[int]:
    """The pinned order first, which is by hash already; then shuffled by seed and lap, the same everywhere."""
    if lap == 0:
        return list(range(count))
    return sorted(range(count), key=lambda place: hashlib.sha256(f"{seed}/{lap}/{place}".encode()).digest())
