"""Expected acceptance is told class by class, and the whole is the sum of its parts."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from draftsmith.profiling.acceptance import LOOKUP, OTHERS, Expected, expected
from draftsmith.profiling.observe import Sample, loops_in_ids
from draftsmith.profiling.simulate import SimCounts, simulate_ngram_many
from draftsmith.traffic.classes import CLASSES


def samples(count: int) -> list[Sample]:
    """Half of them copy their prompt, half do not."""
    rng = random.Random(0)
    made = []
    for order in range(count):
        prompt = [rng.randrange(500) for _ in range(60)]
        output = prompt[5:45] if order % 2 else [rng.randrange(500) for _ in range(rng.randrange(10, 60))]
        made.append(Sample(order % 2, order, np.array(prompt, np.int32), np.array(output, np.int32)))
    return made


def test_the_whole_is_the_sum_of_the_classes() -> None:
    made = samples(60)
    counts = simulate_ngram_many(
        [(one.prompt, one.output) for one in made],
        k=3,
        lookup_min=LOOKUP["prompt_lookup_min"],
        lookup_max=LOOKUP["prompt_lookup_max"],
    )
    whole = sum(counts, SimCounts())
    found = next(row for row in expected(made).overall if row.num_speculative_tokens == 3)
    assert found.acceptance_length == pytest.approx(whole.acceptance_length)
    assert found.tokens_per_step == pytest.approx(whole.tokens_per_step)
    assert found.draft_rate == pytest.approx(whole.draft_rate)


def test_a_class_that_copies_is_told_from_one_that_does_not() -> None:
    found = {name: rows[0].tokens_per_step or 0.0 for name, rows in expected(samples(60)).by_class.items()}
    assert found[CLASSES[1]] > 2.5
    assert found[CLASSES[0]] < 1.1


def test_a_route_that_copies_is_told_from_one_that_does_not() -> None:
    made = [
        replace(one, route=("new", "copies", "")[one.order % 3 if one.order % 3 == 2 else one.code])
        for one in samples(90)
    ]
    found = expected(made, routes=("new", "copies"))
    rates = {name: rows[0].tokens_per_step or 0.0 for name, rows in found.by_route.items()}
    assert rates.keys() == {"new", "copies"}, "a request without a route counts for none"
    assert rates["copies"] > 2.5 > 1.1 > rates["new"]
    assert expected(made).by_route.keys() == {OTHERS}, "routes that the profile does not list are one"
    assert found.overall == expected(samples(90)).overall


def test_words_and_one_sided_samples_are_not_replayed() -> None:
    ids, none = np.arange(300, dtype=np.int32), np.empty(0, np.int32)
    made = [Sample(0, 1, ids, ids, words=True), Sample(0, 2, none, ids), Sample(0, 3, ids, none)]
    assert expected(made) == Expected()


def test_answers_that_loop_are_told_apart_since_they_flatter() -> None:
    calm = [one for one in samples(80) if not one.order % 2]
    spin = np.array([7, 8, 9, 10, 11] * 40, np.int32)
    wild = [replace(one, output=spin, looped=True) for one in calm[:20]]
    found = next(row for row in expected([*calm, *wild]).overall if row.method == "ngram")
    assert found.without_loops == pytest.approx(
        next(row.tokens_per_step for row in expected(calm).overall if row.method == "ngram")
    )
    assert found.tokens_per_step is not None
    assert found.without_loops is not None
    assert found.tokens_per_step > 1.5 > found.without_loops
    assert all(row.without_loops is None for row in expected(calm).overall)


def test_a_loop_is_seen_in_token_ids_too() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 500, 150).astype(np.int32)
    assert not loops_in_ids(plain)
    assert not loops_in_ids(plain[:10])
    assert loops_in_ids(np.concatenate([plain, np.tile(plain[:9], 6)]))
