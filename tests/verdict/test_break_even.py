"""What a step costs is found again from noisy pairs, and the acceptance that pays for it follows."""

from __future__ import annotations

import math

import pytest
from depth import examples
from hypothesis import given
from hypothesis import strategies as st
from planned import PLAIN, line, pair

from draftsmith.contract.errors import InputError
from draftsmith.verdict.break_even import (
    CostModel,
    acceptance_length,
    drafted_ngram_ratio,
    length_at,
    per_token_for,
)


def test_an_exact_line_is_found_and_gives_the_break_even_between_the_measured_k() -> None:
    model = CostModel(line(1, 1.02, 0.05) + line(8, 1.1, 0.2))
    assert model.ks == (1, 2, 3, 4, 5)
    assert model.ratio(1, 2).value == pytest.approx(1.12, rel=1e-4)
    assert model.ratio(8, 5).value == pytest.approx(2.1, rel=1e-4)
    fit = model.summary()
    assert fit.residual_worst < 1e-4
    assert fit.costs[0].a_s == pytest.approx(PLAIN * 1.02, rel=1e-3)
    assert fit.costs[1].b_s == pytest.approx(PLAIN * 0.2, rel=1e-3)
    assert fit.degrees_of_freedom == 12 - 4


@examples(40)
@given(a=st.floats(0.9, 1.5), b=st.floats(0.0, 0.4), noise=st.floats(0.001, 0.05), seed=st.integers(0, 10**6))
def test_the_fit_stays_near_the_truth_and_its_interval_holds_its_value(
    a: float, b: float, noise: float, seed: int
) -> None:
    model = CostModel(line(1, a, b, noise, seed))
    for k in model.ks:
        found = model.ratio(1, k)
        assert found.low <= found.value <= found.high
        assert abs(math.log(found.value / (a + b * k))) < 5 * noise + 1e-3
    steps = [model.ratio(1, k).value for k in model.ks]
    assert steps == sorted(steps), "more drafted tokens never make a step cheaper"


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth, hits, rounds = 1.05 + 0.06 * 3, 0, 200
    for seed in range(rounds):
        found = CostModel(line(1, 1.05, 0.06, 0.04, seed) + line(4, 1.1, 0.1, 0.04, seed)).ratio(1, 3)
        hits += found.low <= truth <= found.high
    assert hits / rounds > 0.9


def test_more_noise_gives_wider_intervals() -> None:
    widths = []
    for noise in (0.005, 0.05):
        found = CostModel(line(1, 1.05, 0.06, noise)).ratio(1, 3)
        widths.append(found.high / found.low)
    assert widths[0] < widths[1]


def test_one_k_gives_a_level_and_one_pair_an_interval_by_assumption() -> None:
    model = CostModel([pair(1, 3, 1.3)])
    found = model.ratio(1, 3)
    assert model.ks == (3,)
    assert found.value == pytest.approx(1.3)
    assert found.low < 1.0, "a single pair must not look certain"


def test_without_drafted_points_there_is_no_model() -> None:
    with pytest.raises(InputError, match="no point with a draft"):
        CostModel([pair(1, 3, 1.1, method="ngram")])


@given(p=st.floats(0.0, 1.0), k=st.integers(1, 16))
def test_chance_and_length_are_inverse(p: float, k: int) -> None:
    length = acceptance_length(p, k)
    assert 1 <= length <= k + 1
    back = per_token_for(length, k)
    assert back is not None
    assert acceptance_length(back, k) == pytest.approx(length, abs=1e-6)


def test_more_than_full_acceptance_is_out_of_reach() -> None:
    assert per_token_for(4.01, 3) is None
    assert per_token_for(4.0, 3) == pytest.approx(1.0)


def test_length_at_another_k_uses_what_was_measured_and_goes_on_at_the_last_rate() -> None:
    rates = (0.8, 0.6, 0.48)
    assert length_at(rates, 2) == pytest.approx(2.4)
    assert length_at(rates, 3) == pytest.approx(2.88)
    assert length_at(rates, 4) == pytest.approx(2.88 + 0.48 * 0.8)
    assert length_at((0.5,), 3) == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    assert length_at((), 3) == 1


def test_an_ngram_step_with_a_proposal_is_told_from_those_without() -> None:
    mixed = [pair(1, 3, 1.06, method="ngram", rate=0.5)]
    assert drafted_ngram_ratio(mixed, 1) == pytest.approx(1.12)
    assert drafted_ngram_ratio([pair(1, 3, 1.06, method="ngram", rate=0.1)], 1) is None
    assert drafted_ngram_ratio(mixed, 4) is None
