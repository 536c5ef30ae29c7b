"""Which answers prove the states behind them: those that had to be the likeliest tokens."""

from __future__ import annotations

from typing import Any

import pytest

from draftsmith.work.inside.probe_plan import greedy


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"temperature": 0.0, "max_tokens": 20, "stop": ["\n"], "seed": 3, "top_p": 0.9},
        {"temperature": 0, "repetition_penalty": 1.0, "presence_penalty": 0, "response_format": None},
    ],
)
def test_nothing_moved_the_tokens(params: dict[str, Any]) -> None:
    assert greedy(params)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_tokens": 20},
        {"temperature": None},
        {"temperature": 0.7},
        {"temperature": 0, "repetition_penalty": 1.1},
        {"temperature": 0, "logit_bias": {"5": 3}},
        {"temperature": 0, "response_format": {"type": "json_object"}},
        {"temperature": 0, "guided_json": "{}"},
        {"temperature": 0, "of_a_later_engine": 1},
    ],
    ids=str,
)
def test_something_may_have(params: dict[str, Any]) -> None:
    assert not greedy(params)
