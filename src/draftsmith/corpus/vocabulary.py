"""The draft's reduced vocabulary: which target tokens it can propose, and the two maps between the vocabularies."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draftsmith.contract.corpus import DraftVocabulary
from draftsmith.contract.errors import InputError

Counts = NDArray[np.int64]
STEP = 64  # matrix widths that kernels like


def choose_draft_vocab(
    token_freq: Counts | Mapping[str, Counts],
    vocab_size: int,
    *,
    min_coverage: float,
    size: int | None = None,
    always: Collection[int] = (),
    at_least: int = 0,
) -> tuple[NDArray[np.int64], DraftVocabulary]:
    """(sorted target ids [size], what they cover).

    `token_freq` counts answer tokens [vocab_size], per split or for training alone; training chooses, all are reported.
    The size is the smallest multiple of 64 that covers `min_coverage` of the training answers, unless it is given.
    Tokens of `always` (end of turn and other special tokens) are in if any answer holds them. `at_least` is a floor of
    the size: a few hundred rows never show all tokens that the traffic will use. Places left over go to the tokens most
    frequent in training *prompts* (counts under the key `prompt`), since answers copy from them. Raises InputError without answers, or for a size that does not fit.
    """
    counts = {"train": token_freq} if isinstance(token_freq, np.ndarray) else dict(token_freq)
    train = counts["train"]
    prompts = counts.pop("prompt", np.zeros_like(train))
    if len(train) != vocab_size or not train.sum():
        raise InputError(
            "no answer tokens to choose a draft vocabulary from", "build the corpus from answered requests"
        )
    if size is not None and not 0 < size <= vocab_size:
        raise InputError(
            f"a draft vocabulary of {size} does not fit a target of {vocab_size}", "change trainer.draft_vocab"
        )
    forced = np.array(sorted(t for t in set(always) if t < vocab_size and train[t]), dtype=np.int64)
    rank = train + prompts / (prompts.sum() + 1)  # prompts only break ties
    rank[forced] = np.inf
    order = np.argsort(-rank, kind="stable")
    smallest = _smallest(train[order], len(forced), min_coverage, vocab_size)
    wanted = size if size is not None else min(max(smallest, at_least), vocab_size)
    ids = np.sort(order[:wanted]).astype(np.int64)
    coverage = {name: float(freq[ids].sum() / freq.sum()) if freq.sum() else 0.0 for name, freq in counts.items()}
    return ids, DraftVocabulary(
        size=len(ids), distinct_answer_tokens=int((train > 0).sum()), coverage=coverage, sha256=ids_digest(ids)
    )


def _smallest(ordered: Counts, forced: int, min_coverage: float, vocab_size: int) -> int:
    reached = np.cumsum(ordered) >= min_coverage * ordered.sum()
    # At full coverage rounding must not ask for more than there is.
    needed = max(int(np.argmax(reached)) + 1 if reached.any() else int((ordered > 0).sum()), forced)
    return min(-(-needed // STEP) * STEP, vocab_size)


def ids_digest(ids: NDArray[np.int64]) -> str:
    """sha256 of the ids as little-endian int64: the identity of a draft vocabulary."""
    return hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()


def mapping(ids: NDArray[np.int64], vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(d2t [draft], t2d [vocab_size]): target id = i + d2t[i] for draft id i; t2d marks the target ids held.

    Raises InputError unless the ids are sorted, unique and inside the target's vocabulary.
    """
    if not len(ids) or (np.diff(ids) <= 0).any() or ids[0] < 0 or ids[-1] >= vocab_size:
        raise InputError(
            "the draft vocabulary is not a sorted list of distinct target ids",
            "choose the vocabulary from this corpus anew",
        )
    held = np.zeros(vocab_size, dtype=np.bool_)
    held[ids] = True
    return ids - np.arange(len(ids), dtype=np.int64), held


def load_token_freq(corpus_dir: Path, vocab_size: int) -> dict[str, Counts]:
    """Counts of answer tokens per split, and of tokens in training prompts under `prompt` [vocab_size each]."""
    import polars as pl

    frame = pl.read_parquet(corpus_dir / "token_freq.parquet")
    ids = frame["token_id"].to_numpy()
    counts = {}
    for name, column in (
        ("train", "count"),
        ("validation", "validation"),
        ("heldout", "heldout"),
        ("prompt", "prompt"),
    ):
        counts[name] = np.zeros(vocab_size, dtype=np.int64)
        counts[name][ids] = frame[column].to_numpy()
    return counts
