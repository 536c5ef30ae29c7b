"""The replay says what the engine's counters would say. The oracle below is written step by step, as an engine works."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from depth import examples
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.profiling.simulate import SimCounts, simulate_ngram, simulate_ngram_many, simulate_suffix_many


def propose(context: Sequence[int], k: int, low: int, high: int) -> list[int]:
    """Prompt lookup by its definition: longest n-gram first, then its earliest earlier occurrence."""
    for n in range(high, low - 1, -1):
        suffix = list(context[len(context) - n :])
        for start in range(len(context) - n):
            if len(suffix) == n and list(context[start : start + n]) == suffix:
                return list(context[start + n : start + n + k])
    return []


FILLER = -1


def replayed(prompt: list[int], output: list[int], k: int, low: int, high: int, longest: int = 10**6) -> SimCounts:
    at, drafts, drafted, accepted, steps = 1, 0, 0, 0, 0
    reached = len(prompt)
    while at < len(output):
        context = prompt + output[:at]
        draft = propose(context, k, low, high) if reached + k <= longest else [FILLER] * k
        draft = draft[: max(0, longest - len(context) - 1)]
        reached = len(context) + len(draft)
        good = 0
        while good < len(draft) and at + good < len(output) and draft[good] == output[at + good]:
            good += 1
        steps += 1
        drafts += bool(draft)
        drafted += len(draft)
        accepted += good
        at += good + 1
    return SimCounts(drafts, drafted, accepted, steps, len(output), int(bool(output)))


few = st.lists(st.integers(0, 3), max_size=30)


@examples(200)
@given(st.lists(st.tuples(few, few), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_columns_agree_with_the_step_by_step_replay(
    requests: list[tuple[list[int], list[int]]], k: int, low: int, more: int
) -> None:
    found = simulate_ngram_many(requests, k=k, lookup_min=low, lookup_max=low + more)
    assert found == [replayed(prompt, output, k, low, low + more) for prompt, output in requests]


@examples(200)
@given(few, few, st.integers(1, 6), st.integers(0, 12))
def test_the_end_of_the_context_is_reached_as_the_engine_reaches_it(
    prompt: list[int], output: list[int], k: int, past: int
) -> None:
    longest = len(prompt) + max(1, len(output) - past)
    found = simulate_ngram(prompt, output, k=k, lookup_min=1, lookup_max=3, max_model_len=longest)
    assert found == replayed(prompt, output, k, 1, 3, longest)


def test_a_copied_answer_is_accepted_and_a_fresh_one_never_drafts() -> None:
    text = list(range(100, 140))
    copied = simulate_ngram(text, text, k=4, lookup_min=2, lookup_max=3)
    # Prefill gives one token, the first step a second; then seven steps give five each, and the last the three that remain.
    assert copied == SimCounts(drafts=8, draft_tokens=32, accepted=31, steps=9, output_tokens=40, prefills=1)
    assert copied.tokens_per_step == 39 / 9
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


def suffix_replayed(cache: Any, requests: list[tuple[list[int], list[int]]], k: int, depth: int = 24) -> SimCounts:
    """The original's own library, driven as the engine drives it: one request after another, one step after another."""
    total = SimCounts()
    for number, (prompt, output) in enumerate(requests):
        cache.start_request(number, prompt)
        cache.add_active_response(number, output[:1])
        at, drafts, drafted, accepted, steps = 1, 0, 0, 0, 0
        while at < len(output):
            context = (prompt + output[:at])[-depth:]
            draft = cache.speculate(
                number, context, max_spec_tokens=k, max_spec_factor=1.0, min_token_prob=0.1
            ).token_ids
            good = 0
            while good < len(draft) and at + good < len(output) and draft[good] == output[at + good]:
                good += 1
            cache.add_active_response(number, output[at : at + good + 1])
            steps, drafts = steps + 1, drafts + bool(draft)
            drafted, accepted, at = drafted + len(draft), accepted + good, at + good + 1
        cache.stop_request(number)
        total += SimCounts(drafts, drafted, accepted, steps, len(output), 1)
    return total


def test_suffix_decoding_is_close_to_the_original() -> None:
    """The replay is an approximation: this says how close, where the original's library is installed."""
    library = pytest.importorskip(
        "arctic_inference.suffix_decoding", reason="arctic-inference is not installed: nothing to compare with"
    )
    rng = random.Random(0)
    phrases = [[rng.randrange(400) for _ in range(rng.randrange(4, 20))] for _ in range(60)]

    def text(parts: int) -> list[int]:
        return [token for _ in range(parts) for token in (*rng.choice(phrases), rng.randrange(400))]

    requests = [(text(8), text(6)) for _ in range(60)]
    original = suffix_replayed(library.SuffixDecodingCache(max_tree_depth=24, max_cached_requests=10_000), requests, 16)
    ours = sum(simulate_suffix_many(requests, k=16), SimCounts())
    assert ours.tokens_per_step == pytest.approx(original.tokens_per_step, rel=0.03)
