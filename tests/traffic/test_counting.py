"""Counting fast must be counting right: piecewise tokens, bounded memory of what was seen, spreads put back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from draftsmith.contract.errors import InputError
from draftsmith.traffic.bounded import Clock, Seen
from draftsmith.traffic.lengths import Lengths, distribution
from draftsmith.traffic.tokens import Counter, load_counter

odd = st.text(alphabet=st.sampled_from(list("ab1_ \n\t.,'(é汉<|")), max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(odd, st.text(max_size=40)), min_size=1, max_size=80))
def test_piecewise_counts_are_the_tokenizers_own(tokenizer: Path, texts: list[str]) -> None:
    counter = load_counter(tokenizer)
    for text in texts * 2:
        assert counter.count(text) == len(counter.tokenizer.encode(text, add_special_tokens=False))


def test_a_tokenizer_that_joins_words_is_asked_directly() -> None:
    merging = Tokenizer(models.BPE(vocab={"a": 0, " ": 1, "b": 2, "a ": 3, "a b": 4}, merges=[("a", " "), ("a ", "b")]))
    counter = Counter(merging, "merging", 5)
    assert counter.count("a b") == 1
    assert counter.count("a ba b") == 2


def test_a_template_that_refuses_a_conversation_is_left_aside(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ raise_exception(\'no\') }}"}')
    counter = load_counter(tmp_path)
    assert counter.render([{"role": "user", "content": "hello"}]) == "hello"


@pytest.mark.parametrize("content", [None, "not json", '{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer"):
        load_counter(tmp_path)


def test_a_hundred_thousand_names_are_told_apart() -> None:
    names = np.random.default_rng(0).integers(1, 1 << 63, 100_000).astype(np.uint64)
    seen = Seen()
    fresh = [seen.check_and_add(part) for part in np.split(names, 50)]
    assert not np.concatenate(fresh).any()
    assert seen.check_and_add(names).all()
    assert not seen.check_and_add(np.zeros(3, np.uint64)).any(), "zero means that there is no name"


def test_a_year_of_seconds_fits_the_clock() -> None:
    rng = np.random.default_rng(1)
    clock = Clock()
    for month in range(12):
        start = 1.7e9 + month * 2.6e6 + np.sort(rng.uniform(0, 2.6e6, 30_000))
        clock.add(start, np.full(30_000, 40.0))
    found = clock.summary()
    assert len(clock.starts) <= 100_000
    assert found["arrival_rate_per_s"] == pytest.approx(360_000 / (12 * 2.6e6), rel=0.02)
    assert found["concurrency_mean"] == pytest.approx(360_000 * 40 / (12 * 2.6e6), rel=0.03)


def test_a_biased_guess_does_not_bias_the_percentiles() -> None:
    rng = np.random.default_rng(2)
    truth = rng.lognormal(6, 0.9, 60_000).astype(np.int64) + 1
    guesses = truth * 1.3 * rng.lognormal(0, 0.08, len(truth))
    sampled = rng.random(len(truth)) < 0.05
    lengths = Lengths()
    lengths.add_exact(truth[sampled])
    lengths.add_guesses(guesses[~sampled])
    lengths.add_pairs(guesses[sampled], truth[sampled], np.ones(int(sampled.sum())))
    found = distribution(*lengths.histogram())
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert value == pytest.approx(float(np.quantile(truth, share)), rel=0.01)
