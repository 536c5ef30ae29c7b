"""Blocks and the server starts behind them: what both editions of the rule are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@lru_cache(maxsize=4096)
def critical(alpha: float, freedom: int) -> float:
    """Upper `alpha` quantile of Student's t with `freedom` degrees; of the normal law for freedom 0."""
    from scipy import special

    if freedom == 0:
        return float(-special.ndtri(alpha))
    return float(-special.stdtrit(freedom, alpha))


@dataclass(frozen=True)
class BlockLog:
    """One block's log ratio, with the server starts it was measured on (any hashable names)."""

    block: int
    value: float
    starts: tuple[str, ...]


def start_groups(logs: Sequence[BlockLog]) -> list[list[float]]:
    """Values grouped so that blocks with any server start in common are in one group (connected components)."""
    owner: dict[str, int] = {}
    groups: dict[int, list[float]] = {}
    for index, log in enumerate(logs):
        joined = {owner[start] for start in log.starts if start in owner}
        values = [value for key in sorted(joined) for value in groups.pop(key)]
        groups[index] = [*values, log.value]
        for start, key in owner.items():
            if key in joined:
                owner[start] = index
        owner.update(dict.fromkeys(log.starts, index))
    return list(groups.values())
