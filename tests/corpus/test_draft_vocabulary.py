"""The reduced vocabulary and its two maps: a wrong one trains well and serves badly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_service import END, VOCAB, Service
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from draftsmith.contract.errors import InputError
from draftsmith.corpus.build import iter_rows
from draftsmith.corpus.vocabulary import choose_draft_vocab, ids_digest, load_token_freq, mapping

COUNTS = arrays.arrays(np.int64, 500, elements=st.integers(0, 1000)).filter(lambda counts: counts.sum() > 0)


@given(COUNTS, st.floats(0.5, 1.0))
def test_the_size_is_the_smallest_step_that_covers(counts: np.ndarray, wanted: float) -> None:
    ids, chosen = choose_draft_vocab(counts, 500, min_coverage=wanted)
    assert chosen.coverage["train"] >= wanted - 1e-9
    assert chosen.size == len(ids) == len(set(ids.tolist()))
    assert chosen.size % 64 == 0 or chosen.size == 500
    smaller = np.sort(counts)[::-1][: max(0, -(-chosen.size // 64) * 64 - 64)]
    assert smaller.sum() < wanted * counts.sum() + 1e-6 or chosen.size <= 64


@given(st.sets(st.integers(0, 499), min_size=1))
def test_the_maps_say_the_same(chosen: set[int]) -> None:
    ids = np.array(sorted(chosen), dtype=np.int64)
    d2t, t2d = mapping(ids, 500)
    assert (np.arange(len(ids)) + d2t == ids).all()
    assert (np.flatnonzero(t2d) == ids).all()
    assert d2t.dtype == np.int64


@pytest.mark.parametrize("ids", [[], [3, 2], [1, 1], [-1, 4], [1, 500]])
def test_a_broken_vocabulary_is_refused(ids: list[int]) -> None:
    with pytest.raises(InputError, match="sorted list of distinct target ids"):
        mapping(np.array(ids, dtype=np.int64), 500)


def test_rare_special_tokens_are_kept_and_absent_ones_are_not() -> None:
    counts = np.zeros(1000, dtype=np.int64)
    counts[:200] = 1000
    counts[900] = 1
    ids, _ = choose_draft_vocab(counts, 1000, min_coverage=0.3, always={900, 901})
    assert 900 in ids
    assert 901 not in ids


def test_every_split_is_reported_and_a_given_size_is_taken() -> None:
    train, heldout = np.zeros(1000, dtype=np.int64), np.zeros(1000, dtype=np.int64)
    train[:100] = 10
    heldout[50:150] = 1
    _, chosen = choose_draft_vocab({"train": train, "heldout": heldout}, 1000, min_coverage=0.9, size=100)
    assert (chosen.size, chosen.distinct_answer_tokens) == (100, 100)
    assert chosen.coverage == {"train": 1.0, "heldout": 0.5}
    with pytest.raises(InputError, match="does not fit"):
        choose_draft_vocab(train, 1000, min_coverage=0.9, size=1001)
    with pytest.raises(InputError, match="no answer tokens"):
        choose_draft_vocab(np.zeros(1000, dtype=np.int64), 1000, min_coverage=0.9)


def test_the_corpus_carries_its_counts(service: Service, tmp_path: Path) -> None:
    service.chatter(40)
    manifest = service.build(tmp_path / "corpus")
    counts = load_token_freq(tmp_path / "corpus", VOCAB)
    prompts = [row.input_ids[: row.prompt_tokens] for row in iter_rows(tmp_path / "corpus", "train")]
    assert (counts["prompt"] == np.bincount(np.concatenate(prompts), minlength=VOCAB)).all()
    for name in ("train", "validation", "heldout"):
        count = counts[name]
        answers = [row.input_ids[row.prompt_tokens :] for row in iter_rows(tmp_path / "corpus", name)]
        assert (count == np.bincount(np.concatenate(answers), minlength=VOCAB)).all()
    ids, again = choose_draft_vocab(counts, VOCAB, min_coverage=0.995, always={256, 257}, at_least=1024)
    assert again == manifest.vocabulary
    assert ids_digest(ids) == again.sha256
    assert service.ids(END)[0] in ids
