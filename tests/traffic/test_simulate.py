"""The replay says what the engine's counters would say. The oracle below is written step by step, as an engine works."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftsmith.traffic.simulate import SimCounts, simulate_ngram, simulate_ngram_many, simulate_suffix_many


def propose(context: Sequence[int], k: int, low: int, high: int) -> list[int]:
    """Prompt lookup by its definition: longest n-gram first, then its earliest earlier occurrence."""
    for n in range(high, low - 1, -1):
        suffix = list(context[len(context) - n :])
        for start in range(len(context) - n):
            if len(suffix) == n and list(context[start : start + n]) == suffix:
                return list(context[start + n : start + n + k])
    return []


def replayed(prompt: list[int], output: list[int], k: int, low: int, high: int) -> SimCounts:
    at, drafts, drafted, accepted, steps = 1, 0, 0, 0, 0
    while at < len(output):
        draft = propose(prompt + output[:at], k, low, high)
        good = 0
        while good < len(draft) and at + good < len(output) and draft[good] == output[at + good]:
            good += 1
        steps += 1
        drafts += bool(draft)
        drafted += len(draft)
        accepted += good
        at += good + 1
    return SimCounts(drafts, drafted, accepted, steps, len(output))


few = st.lists(st.integers(0, 3), max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(few, few), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_columns_agree_with_the_step_by_step_replay(
    requests: list[tuple[list[int], list[int]]], k: int, low: int, more: int
) -> None:
    found = simulate_ngram_many(requests, k=k, lookup_min=low, lookup_max=low + more)
    assert found == [replayed(prompt, output, k, low, low + more) for prompt, output in requests]


def test_a_copied_answer_is_accepted_and_a_fresh_one_never_drafts() -> None:
    text = list(range(100, 140))
    copied = simulate_ngram(text, text, k=4, lookup_min=2, lookup_max=3)
    # Prefill gives one token, the first step a second; then seven steps give five each, and the last the three that remain.
    assert copied == SimCounts(drafts=8, draft_tokens=32, accepted=31, steps=9, output_tokens=40)
    fresh = simulate_ngram(text, list(range(40)), k=4, lookup_min=2, lookup_max=3)
    assert (fresh.drafts, fresh.acceptance_length, fresh.tokens_per_step) == (0, None, 1.0)


def test_nothing_is_drafted_past_the_longest_context() -> None:
    text = [1, 2, 3, 4] * 5
    assert simulate_ngram(text, text, k=4, lookup_min=2, lookup_max=2, max_model_len=len(text)).drafts == 0


def test_suffix_decoding_learns_from_earlier_answers() -> None:
    answer = list(range(50, 90))
    first, second = simulate_suffix_many([([1, 2, 3], answer), ([4, 5, 6], answer)], k=8)
    assert first.accepted == 0
    assert second.tokens_per_step is not None
    assert second.tokens_per_step > 4


def test_requests_do_not_leak_into_each_other() -> None:
    answer = list(range(50, 90))
    alone = simulate_ngram([7], answer, k=3, lookup_min=2, lookup_max=3)
    together = simulate_ngram_many([(answer, answer), ([7], answer)], k=3, lookup_min=2, lookup_max=3)
    assert together[1] == alone


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="lookup_min"):
        simulate_ngram([1], [1], k=1, lookup_min=3, lookup_max=2)
