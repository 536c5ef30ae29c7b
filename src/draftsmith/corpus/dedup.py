"""What a row says that its template does not, and which rows say nearly the same.

Rows of one service share a system prompt, worked examples, an instruction and a closing line, so whole rows always look
alike. Compared is a row's *own* part: the last turn of the prompt and the answer, without the beginning and the end
that many different prompts share. Candidates come from MinHash; the exact Jaccard similarity decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Keys = NDArray[np.uint64]
Shingles = NDArray[np.uint32]

SHINGLE = 5  # tokens; a change of one word alters five shingles
SAMPLE = 4_000  # prompts from which shared beginnings and endings are learnt
PERMUTATIONS = 128

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SEPARATOR = np.int32(-1)


def prefix_keys(ids: Ids) -> Keys:
    """[T] -> [T]: a 64-bit key of every prefix; entry k covers ids[: k + 1]."""
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(len(ids), _MULTIPLIER, dtype=np.uint64))
        return np.cumsum(_mixed(ids) * powers, dtype=np.uint64)


def _mixed(ids: Ids) -> Keys:
    # MurmurHash3's finaliser: ids are small and close together, a sum of their multiples would collide.
    with np.errstate(over="ignore"):
        h = ids.astype(np.int64).view(np.uint64) + _MULTIPLIER
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        return h ^ (h >> np.uint64(33))


@dataclass(frozen=True)
class Templates:
    """Beginnings and endings that many different prompts share, and the ids that separate turns."""

    beginnings: Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    endings: Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    specials: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))

    def own_span(self, prompt: Ids) -> tuple[int, int]:
        """[start, end) of the prompt's own part: its last turn without shared beginning and ending."""
        end = len(prompt) - _longest(prompt[::-1], self.endings)
        start = min(_longest(prompt, self.beginnings), end)
        turns = np.flatnonzero(_member(prompt[start:end], self.specials))
        return (start + int(turns[-1]) + 1 if len(turns) else start), end


def learn_templates(prompts: Sequence[Ids], specials: Collection[int] = ()) -> Templates:
    """Find what a noticeable part of these distinct prompts begins or ends with (8 of them, or 0.5 %)."""
    enough = max(2, min(8, len(prompts) // 2), len(prompts) // 200)
    return Templates(
        beginnings=_shared(prompts, enough),
        endings=_shared([prompt[::-1] for prompt in prompts], enough),
        specials=np.array(sorted(specials), dtype=np.int32),
    )


def _shared(prompts: Sequence[Ids], enough: int) -> Keys:
    if not prompts:
        return np.empty(0, dtype=np.uint64)
    keys, counts = np.unique(np.concatenate([prefix_keys(prompt) for prompt in prompts]), return_counts=True)
    return keys[counts >= enough]


def _longest(prompt: Ids, shared: Keys) -> int:
    # A prefix of a shared prefix is shared too, so the first miss ends the search.
    if not len(shared) or not len(prompt):
        return 0
    known = _member(prefix_keys(prompt), shared)
    return len(prompt) if known.all() else int(np.argmin(known))


def _member(values: NDArray[Any], ordered: NDArray[Any]) -> NDArray[np.bool_]:
    # numpy.isin sorts both sides again; this runs three times a row.
    if not len(ordered):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[places] == values)


def shingles(prompt: Ids, answer: Ids, templates: Templates) -> Shingles:
    """Sorted unique 32-bit hashes of the runs of SHINGLE tokens in the row's own part of prompt and answer."""
    start, end = templates.own_span(prompt)
    own = np.concatenate([prompt[start:end], [_SEPARATOR], answer]).astype(np.int32)
    width = min(SHINGLE, len(own))
    windows = np.lib.stride_tricks.sliding_window_view(_mixed(own), width)
    with np.errstate(over="ignore"):
        hashed = (windows * np.cumprod(np.full(width, _MULTIPLIER, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    return np.unique((hashed >> np.uint64(32)).astype(np.uint32))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Shared over all; 1.0 for two empty sets."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both) if len(a) or len(b) else 1.0


class NearIndex:
    """Rows to stay away from. `threshold` is the Jaccard similarity from which rows count as equal."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        # The index is tuned to a lower similarity than asked for, so that it misses almost nothing at the threshold.
        self._lsh = MinHashLSH(threshold=max(0.1, min(threshold, 1.0) - 0.1), num_perm=PERMUTATIONS, weights=(0.2, 0.8))
        self._blank = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int)
        self._known: list[Shingles] = []
        self.threshold = threshold

    def add(self, row: Shingles) -> None:
        """Remember one row."""
        self._lsh.insert(len(self._known), self._sketch(row), check_duplication=False)
        self._known.append(row)

    def near(self, row: Shingles) -> bool:
        """Whether any remembered row is at least `threshold` similar."""
        if not self._known:
            return False
        candidates: Iterable[int] = self._lsh.query(self._sketch(row))
        return any(jaccard(row, self._known[place]) >= self.threshold for place in candidates)

    def _sketch(self, row: Shingles) -> Any:
        sketch = self._blank.copy()
        sketch.update_batch(row.tolist())
        return sketch


def continued(prompt: Ids, mark: Ids) -> list[int]:
    """Lengths of the shorter prompts that `prompt` may continue: where `mark`, the opening of an answer, ends in it."""
    if not len(mark) or len(prompt) <= len(mark):
        return []
    windows = np.lib.stride_tricks.sliding_window_view(prompt, len(mark))
    ends = np.flatnonzero((windows == mark).all(axis=1)) + len(mark)
    return [int(end) for end in ends if end < len(prompt)]


def common_ending(prompts: Sequence[Ids], most: int = 16) -> Ids:
    """The tokens that all prompts end with (at most `most`): what a chat template puts before an answer."""
    if not prompts:
        return np.empty(0, dtype=np.int32)
    shared = min(most, *(len(prompt) for prompt in prompts)) if len(prompts) > 1 else 0
    for first, second in pairwise(prompts):
        while shared and not np.array_equal(first[len(first) - shared :], second[len(second) - shared :]):
            shared -= 1
    return prompts[0][len(prompts[0]) - shared :]
