"""Accepting at a chosen rate: the rate comes out, padding never does, and other requests are left to the engine."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from lazily import lazily

from draftsmith.work.inside.synthetic_acceptance import Rule, accept, install

torch = lazily("torch")


def test_accepted_tokens_come_first_then_the_targets_own() -> None:
    assert accept([7, 8, 9], [1, 2, 3], 4, [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]) == [7, 8, 9, 4]
    assert accept([7, 8, 9], [1, 2, 3], 4, [0.1, 0.9, 0.1], [0.5, 0.5, 0.5]) == [7, 2]
    assert accept([7, 8], [1, 2], 4, [0.0, 0.0], [0.0, 1.0]) == [1]
    assert accept([], [], 4, [], [0.5]) == [4]


def test_padding_is_refused_whatever_the_rate() -> None:
    assert accept([-1, 8], [1, 2], 4, [0.0, 0.0], [1.0, 1.0]) == [1]


def test_the_mean_is_the_length_that_was_asked_for() -> None:
    chance, rates = random.Random(0), [0.9, 0.5, 0.5]
    wanted = 1 + 0.9 + 0.9 * 0.5 + 0.9 * 0.25
    given = [len(accept([1] * 3, [2] * 3, 3, [chance.random() for _ in rates], rates)) for _ in range(20_000)]
    assert sum(given) / len(given) == pytest.approx(wanted, rel=0.01)


def greedy(*, is_greedy: Any, rates: Any) -> tuple[Any, ...]:
    """Arguments as the engine gives them: two sequences with two and one drafted tokens."""
    return (
        torch.full((2, 3), -1, dtype=torch.int32), torch.tensor([2, 3]), torch.tensor([11, 12, 21]),
        torch.tensor([91, 92, 93]), torch.tensor([[5], [6]]), is_greedy, 2,
        torch.tensor([0.1, 0.9, 0.1], dtype=torch.float64), rates,
    )  # fmt: skip


def test_rows_are_written_as_the_engines_sampler_writes_them() -> None:
    arguments = greedy(is_greedy=None, rates=torch.tensor([0.5, 0.5]))
    Rule(None, greedy=True)(*arguments)
    assert arguments[0].tolist() == [[11, 92, -1], [21, 6, -1]]


def test_sampled_rows_are_left_to_the_other_entry_point() -> None:
    rates = torch.tensor([0.5, 0.5])
    first = greedy(is_greedy=torch.tensor([True, False]), rates=rates)
    Rule(None, greedy=True)(*first)
    output, ends, drafted, argmax, bonus, is_greedy, longest, uniform, _ = first
    Rule(None, greedy=False)(output, ends, drafted, None, None, bonus, argmax, uniform, is_greedy, longest, rates)
    assert output.tolist() == [[11, 92, -1], [21, 6, -1]]


def test_without_rates_the_original_decides() -> None:
    asked: list[Any] = []
    rule = Rule(lambda *arguments: asked.append(arguments) or "its answer", greedy=True)
    arguments = greedy(is_greedy=None, rates=None)
    assert rule(*arguments) == "its answer"
    assert len(asked) == 1


def test_a_release_with_other_entry_points_does_not_start() -> None:
    with pytest.raises(ImportError, match="_rejection_random_sample"):
        install(SimpleNamespace(_rejection_greedy_sample=print))
    module = SimpleNamespace(_rejection_greedy_sample=print, _rejection_random_sample=print)
    install(module)
    first = module._rejection_greedy_sample
    install(module)
    assert module._rejection_greedy_sample is first, "installing twice changes nothing"
