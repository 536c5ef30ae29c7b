"""How well few starts have to agree: the bound holds for every spread of starts, checked by drawing them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.agreement import EARLY, allowed, late, luck, widest
from draftsmith.verdict.measures import BlockPair
from draftsmith.verdict.rule import Rule

BOUND = math.log(1.65)


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("sd", [0.2, 0.4, 0.6, 0.8, 1.2, 3.0])
def test_no_spread_of_starts_makes_luck_likelier_than_the_bound(groups: int, sd: float) -> None:
    permitted = allowed(groups, 4, 0.01)
    draws = np.random.default_rng(groups).normal(0, sd, (200_000, groups))
    lucky = (draws.mean(axis=1) >= BOUND) & (draws.std(axis=1, ddof=1) <= widest(groups, permitted, BOUND))
    assert lucky.mean() <= permitted + 4 * math.sqrt(permitted / 200_000)


def test_the_bound_is_reached_by_some_spread() -> None:
    """It is no looser than it must be: at its worst spread, equal arms come close to it."""
    permitted = allowed(3, 4, 0.01)
    draws = np.random.default_rng(1).normal(0, 0.72, (400_000, 3))
    lucky = (draws.mean(axis=1) >= BOUND) & (draws.std(axis=1, ddof=1) <= widest(3, permitted, BOUND))
    assert lucky.mean() > 0.8 * permitted


@pytest.mark.parametrize("needed", [3, 4, 5, 6])
def test_the_parts_of_the_error_add_up_to_no_more_than_all_of_it(needed: int) -> None:
    early = sum(allowed(groups, needed, 0.01) for groups in range(2, needed))
    assert early <= EARLY * 0.01 + 1e-12
    assert early + late(0.01) <= 0.01 + 1e-12


def test_luck_grows_with_the_spread_and_needs_more_than_one_start() -> None:
    assert luck(1, 0.0, BOUND) == luck(3, 0.1, 0.0) == 1.0
    assert luck(3, 0.05, BOUND) < luck(3, 0.1, BOUND) < luck(3, 0.1, BOUND / 2) < 1
    assert widest(1, 0.01, BOUND) == 0.0


@pytest.mark.parametrize(("most", "least", "looked"), [(1, 1, 1), (1, 3, 3), (2, 1, 2)])
def test_the_preset_limit_of_blocks_is_kept(most: int, least: int, looked: int) -> None:
    rule = Rule.of(Thresholds(min_blocks=least, max_blocks=most))
    pairs = [BlockPair(n, 1.0, ("a", "b"), {str(n): 0.0}, 0.0) for n in range(looked)]
    assert rule.need(pairs[:-1]) == "blocks"
    assert rule.need(pairs) == "done"
    look = rule.look(pairs)
    assert look.final
    found = rule.estimate(pairs)
    assert found is not None
    assert rule.settle(found, look).call == "open"
