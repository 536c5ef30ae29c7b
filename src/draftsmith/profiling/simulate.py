"""What drafting without training would reach: replay of logged token ids through prompt lookup and suffix decoding.

The replay is greedy: the logged answer is what the target said, so a drafted token is accepted while it equals the next
logged one. The first output token comes from prefill. Draft tokens beyond the end of the log count as drafted and not
accepted; the engine verifies them too and counts what it would have said, so its AL is a little higher. Because every proposal depends only on tokens that are already known, all positions of many requests are matched
at once, in columns; only the walk from step to step is sequential.

Prompt lookup follows vLLM: the longest n-gram (between `lookup_min` and `lookup_max`) that ends the context and occurred
before; of equal ones the earliest; at most k tokens after it, never past the end of the context. Close to the longest
context the engine drafts nothing useful but counts it: see `_near_the_limit`.

Suffix decoding is an approximation of the suffix tree: candidates come from the request itself and from earlier answers;
the longest of a ladder of suffix lengths wins, its most recent occurrence is continued, and as in the original the draft is
not longer than the match. The original weighs all lengths and all occurrences by frequency instead. The single token at the
end of the ladder matters: the original drafts in most steps, and without it half of those drafts would be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int] | NDArray[Any]
Ints = NDArray[np.int64]

BATCH_TOKENS = 1 << 19  # tokens laid end to end at once: memory is that of one batch, however long the log is
LADDER = (12, 6, 4, 3, 2, 1)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # an odd constant with well spread bits: its product fills the upper bits of a key


@dataclass(frozen=True)
class SimCounts:
    """What the engine's counters would say, and the steps they leave out.

    `steps` are decode steps (prefill excluded), with or without a draft; `output_tokens` includes the tokens that came from
    `prefills`, one a request.
    """

    drafts: int = 0
    draft_tokens: int = 0
    accepted: int = 0
    steps: int = 0
    output_tokens: int = 0
    prefills: int = 0

    def __add__(self, other: SimCounts) -> SimCounts:
        return SimCounts(
            self.drafts + other.drafts,
            self.draft_tokens + other.draft_tokens,
            self.accepted + other.accepted,
            self.steps + other.steps,
            self.output_tokens + other.output_tokens,
            self.prefills + other.prefills,
        )

    @property
    def acceptance_length(self) -> float | None:
        """1 + accepted / drafts: mean tokens of the steps that drafted; None without drafts."""
        return 1 + self.accepted / self.drafts if self.drafts else None

    @property
    def tokens_per_step(self) -> float | None:
        """Mean tokens of all decode steps, drafted or not."""
        return (self.output_tokens - self.prefills) / self.steps if self.steps else None

    @property
    def draft_rate(self) -> float | None:
        """Share of decode steps that had a proposal."""
        return self.drafts / self.steps if self.steps else None


def simulate_ngram(
    prompt_ids: Ids,
    output_ids: Ids,
    *,
    k: int,
    lookup_min: int = 5,
    lookup_max: int = 5,
    max_model_len: int | None = None,
) -> SimCounts:
    """Replay one request through prompt lookup. Token ids as the engine saw them, template included."""
    counts = simulate_ngram_many(
        [(prompt_ids, output_ids)], k=k, lookup_min=lookup_min, lookup_max=lookup_max, max_model_len=max_model_len
    )
    return counts[0]


def simulate_ngram_many(
    requests: Sequence[tuple[Ids, Ids]],
    *,
    k: int,
    lookup_min: int = 5,
    lookup_max: int = 5,
    max_model_len: int | None = None,
) -> list[SimCounts]:
    """`simulate_ngram` for many requests, in batches of columns."""
    if not 1 <= lookup_min <= lookup_max or k < 1:
        raise ValueError("need 1 <= lookup_min <= lookup_max and k >= 1")
    results: list[SimCounts] = []
    for batch in _batches(requests):
        flat = _Flat.of(batch)
        start, match_length = _earliest_match(flat, lookup_min, lookup_max)
        accepted, drafted = _continue(flat, start, match_length, k)
        results += _walk(flat, accepted, drafted, (k, max_model_len) if max_model_len is not None else None)
    return results


def simulate_suffix_many(requests: Sequence[tuple[Ids, Ids]], *, k: int, max_depth: int = 24) -> list[SimCounts]:
    """Replay requests, in their order of arrival, through approximated suffix decoding with a cache of earlier answers."""
    results: list[SimCounts] = []
    for batch in _batches(requests):
        flat = _Flat.of(batch)
        start, result, length = _recent_match(flat, max_depth)
        accepted, drafted = _continue(flat, start, result, np.minimum(k, length))
        results += _walk(flat, accepted, drafted)
    return results


@dataclass(frozen=True)
class _Flat:
    """Requests laid end to end. All arrays are over tokens, except `first` (first token) and `decoded` (first answer token)."""

    tokens: Ints
    owner: Ints
    first: Ints
    decoded: Ints
    last: Ints

    @staticmethod
    def of(batch: Sequence[tuple[Ids, Ids]]) -> _Flat:
        prompts = np.array([len(prompt) for prompt, _ in batch], dtype=np.int64)
        outputs = np.array([len(output) for _, output in batch], dtype=np.int64)
        lengths = prompts + outputs
        last = np.cumsum(lengths)
        first = last - lengths
        parts = [np.asarray(part, dtype=np.int64) for pair in batch for part in pair]
        tokens = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return _Flat(tokens, np.repeat(np.arange(len(batch)), lengths), first, first + prompts, last)


def _batches(requests: Sequence[tuple[Ids, Ids]]) -> list[Sequence[tuple[Ids, Ids]]]:
    batches, begin, size = [], 0, 0
    for at, (prompt, output) in enumerate(requests):
        size += len(prompt) + len(output)
        if size >= BATCH_TOKENS:
            batches.append(requests[begin : at + 1])
            begin, size = at + 1, 0
    if begin < len(requests):
        batches.append(requests[begin:])
    return batches


def _step_positions(flat: _Flat) -> Ints:
    """Places where a step may start: the token to predict next is the second or a later one of the answer."""
    # The first answer token comes from prefill, so no step starts there: an answer of n tokens has n - 1 places.
    counts = np.maximum(flat.last - flat.decoded - 1, 0)
    begins = flat.decoded + 1
    total = int(counts.sum())
    # 0, 1, 2, ... inside each request, without a loop: a running number minus where its request began.
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(begins, counts) + within, np.int64)


def _keys(flat: _Flat, n: int, *, by_owner: bool = True) -> NDArray[np.uint64]:
    """A 64-bit key of the n-gram that starts at each token (the last n - 1 keys reach over the end and are not used)."""
    tokens = flat.tokens.astype(np.uint64)
    # The owner is the seed of the key, so that equal n-grams of two requests do not match where only the own prompt counts.
    key = flat.owner.astype(np.uint64) + np.uint64(1) if by_owner else np.ones(len(tokens), np.uint64)
    key = key * _MIX
    for shift in range(n):
        shifted = np.zeros_like(tokens)
        shifted[: max(0, len(tokens) - shift)] = tokens[shift:]
        key = (key ^ (shifted + np.uint64(1))) * _MIX
        key ^= key >> np.uint64(29)
    return key


def _earliest_match(flat: _Flat, low: int, high: int) -> tuple[Ints, Ints]:
    """For every step position, where the token after the matched n-gram is (or -1): longest n first, then earliest."""
    at = _step_positions(flat)
    begin = flat.first[flat.owner[at]] if len(at) else at
    target = np.full(len(at), -1, np.int64)
    open_ = np.arange(len(at))
    # From the longest n down: a place that matched is closed, because a longer match wins over an earlier one.
    for n in range(high, low - 1, -1):
        open_ = open_[target[open_] < 0]
        if not len(open_):
            break
        # The n tokens before the place must lie inside the request.
        usable = open_[at[open_] - n >= begin[open_]]
        suffix = at[usable] - n
        earliest = _first_of_key(_keys(flat, n), suffix)
        # The suffix always finds itself; only an occurrence before it is a match.
        hit = earliest < suffix
        target[usable[hit]] = earliest[hit] + n
    return at, target


def _first_of_key(keys: NDArray[np.uint64], wanted: Ints) -> Ints:
    """For each place in `wanted`, the earliest place whose key is the same: one pass through a table, losers again."""
    result = np.empty(len(wanted), np.int64)
    bits = max(10, int(2 * len(keys)).bit_length())
    table = np.empty(1 << bits, np.int64)
    places, open_queries = np.arange(len(keys)), np.arange(len(wanted))
    spread = np.uint64(64 - bits)
    salt = int(_MIX)
    # A dictionary would look keys up one by one. Here all keys go into a table by their hash; where two different keys fall
    # into one slot, the loser is looked up in another round with another salt.
    while len(open_queries):
        mix = np.uint64(salt)
        slots = (keys[places] * mix) >> spread
        table[slots[::-1]] = places[::-1]  # written last to first, so that the earliest place of a slot stays
        winner = table[(keys[wanted[open_queries]] * mix) >> spread]
        same = keys[winner] == keys[wanted[open_queries]]
        result[open_queries[same]] = winner[same]
        open_queries = open_queries[~same]
        if len(open_queries):
            # Keys that own their slot are answered; only those that lost it are needed in the next round.
            places = places[keys[table[slots]] != keys[places]]
            salt = (salt * int(_MIX) + 2) & (1 << 64) - 1 | 1
    return result


def _recent_match(flat: _Flat, max_depth: int) -> tuple[Ints, Ints, Ints]:
    """For every step position the token after its most recent long match, and how long the match is."""
    at = _step_positions(flat)
    target = np.full(len(at), -1, np.int64)
    answers = np.concatenate([np.arange(a, b) for a, b in zip(flat.decoded, flat.last, strict=True)] or [at])
    for n in LADDER:
        # The own request first: its text is the better guess. Then the answers of all requests before it.
        for places, by_owner in ((np.arange(len(flat.tokens)), True), (answers, False)):
            open_ = np.flatnonzero(target < 0)
            if len(open_):
                _fill_recent(flat, at, target, open_, places, n, by_owner)
    return at, target, _match_length(flat, at, target, max_depth)


def _fill_recent(flat: _Flat, at: Ints, target: Ints, open_: Ints, places: Ints, n: int, by_owner: bool) -> None:
    """Set `target` of the open positions whose last n tokens occurred at an earlier one of `places`."""
    # An occurrence at the very end of a request has no token after it to propose.
    places = places[places + n < flat.last[flat.owner[places]]]
    keys = _keys(flat, n, by_owner=by_owner)
    # Sorted by key and, as the sort is stable, by place: the entry before an equal key is the most recent occurrence.
    order = np.argsort(keys[places], kind="stable")
    ordered = places[order]
    same = np.zeros(len(ordered), bool)
    same[1:] = keys[ordered[1:]] == keys[ordered[:-1]]
    previous = np.full(len(flat.tokens), -1, np.int64)
    previous[ordered[1:][same[1:]]] = ordered[:-1][same[1:]]
    suffix = at[open_] - n
    inside = suffix >= flat.first[flat.owner[at[open_]]]
    result = np.where(inside, previous[np.maximum(suffix, 0)], -1)
    hit = result >= 0
    target[open_[hit]] = result[hit] + n


def _match_length(flat: _Flat, at: Ints, target: Ints, max_depth: int) -> Ints:
    """How many tokens before `at` equal those before `target`, up to `max_depth`, inside their own requests."""
    length = np.zeros(len(at), np.int64)
    # One token further back in every round; a place whose tokens differ is dropped, so the rounds get cheap quickly.
    alive = np.flatnonzero(target > 0)
    for back in range(1, max_depth + 1):
        place, target_place = at[alive] - back, target[alive] - back
        inside = (place >= flat.first[flat.owner[at[alive]]]) & (
            target_place >= flat.first[flat.owner[target[alive] - 1]]
        )
        alive = alive[inside]
        place, target_place = place[inside], target_place[inside]
        alive = alive[flat.tokens[place] == flat.tokens[target_place]]
        if not len(alive):
            break
        length[alive] += 1
    return length


def _continue(flat: _Flat, at: Ints, target: Ints, k: int | Ints) -> tuple[Ints, Ints]:
    """Accepted and drafted tokens of a step at every token position (0 where no step starts or nothing matched)."""
    accepted = np.zeros(len(flat.tokens) + 1, np.int64)
    drafted = np.zeros(len(flat.tokens) + 1, np.int64)
    # A match in the same request ends where the context ends; in an earlier answer, where that answer ends.
    end = (
        np.where(flat.owner[np.maximum(target, 0)] == flat.owner[at], at, flat.last[flat.owner[np.maximum(target, 0)]])
        if len(at)
        else at
    )
    size = np.minimum(k, end - target)
    size = np.where(target >= 0, np.maximum(size, 0), 0)
    # Past the end of the log nothing can be compared: those drafts count as drafted and not as accepted.
    stop = flat.last[flat.owner[at]] if len(at) else at
    alive = np.flatnonzero(size > 0)
    good = np.zeros(len(at), np.int64)
    for ahead in range(int(size.max(initial=0))):
        alive = alive[(size[alive] > ahead) & (at[alive] + ahead < stop[alive])]
        alive = alive[flat.tokens[at[alive] + ahead] == flat.tokens[target[alive] + ahead]]
        good[alive] += 1
    accepted[at], drafted[at] = good, size
    return accepted, drafted


def _walk(flat: _Flat, accepted: Ints, drafted: Ints, limit: tuple[int, int] | None = None) -> list[SimCounts]:
    """Step through every request: each step gives its accepted tokens and one from the target itself.

    `limit` is (k, longest context) where the end of the context matters.
    """
    # Where a step starts depends on how much the one before accepted, so this part cannot be done in columns. Plain lists:
    # reading an array number by number is slow.
    good, size = accepted.tolist(), drafted.tolist()
    results = []
    for first, begin, end in zip(flat.first.tolist(), flat.decoded.tolist(), flat.last.tolist(), strict=True):
        at, steps, drafts, tokens, won = begin + 1, 0, 0, 0, 0
        before = begin - first
        while at < end:
            steps += 1
            now, right = size[at], good[at]
            if limit is not None:
                now, right = _near_the_limit(*limit, before, at - first, now, right)
                before = at - first + now
            if now:
                drafts += 1
                tokens += now
                won += right
                at += right
            at += 1
        results.append(SimCounts(drafts, tokens, won, steps, end - begin, int(end > begin)))
    return results


def _near_the_limit(k: int, longest: int, before: int, context: int, drafted: int, accepted: int) -> tuple[int, int]:
    """Drafted and accepted tokens of a step as vLLM schedules them, with `context` known tokens.

    If the step before reached (with its drafts, `before` tokens) within k of the longest context, the drafter is not asked,
    and k filler tokens are verified in its place. What is scheduled always leaves room for the token that comes from the
    target itself. Holds for one request at a time: in a batch the longest request decides for all.
    """
    room = max(0, longest - context - 1)
    if before + k > longest:
        return min(k, room), 0
    return min(drafted, room), min(accepted, room)
