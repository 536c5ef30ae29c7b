"""Folds rows of records into aggregates. One place, one process, memory that does not grow with the log."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.profiling import observe
from draftsmith.profiling.bounded import Clock, Seen
from draftsmith.profiling.fingerprint import Fingerprint
from draftsmith.profiling.lengths import Lengths, fit, guess
from draftsmith.profiling.observe import Batch, Sample
from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.importers import MEDIA
from draftsmith.traffic.tokens import IdCheck

KINDS = ("in", "out")
MAX_ROUTES = 48  # tables of lengths cost memory: a log with an id in each route must not make one for every request
OTHERS = "(others)"
MAX_SAMPLE_TOKENS = 1_500_000  # of the requests that are replayed for acceptance: bounds memory and time of the replay
_HOLD = 24  # batches that may wait for the fit; a log without countable records must not wait for ever
_FIT = 1500  # counted records that the guess is fitted on

Columns = dict[str, NDArray[Any]]
OnSkip = Callable[[str, int, int, bytes], None]
"""Hears the reason, the file, the line, and the bytes (where they are kept) of a request that is left out or has a flaw."""
DUPLICATE = "duplicate request id"


@dataclass
class Gathered:
    """All aggregates of a log. `lengths[kind, class code]`, `routes[name][kind]`."""

    on_skip: OnSkip
    can_guess: bool
    n: int = 0
    classes: Tally[int] = field(default_factory=Tally)
    lengths: dict[tuple[str, int], Lengths] = field(default_factory=dict)
    routes: dict[str, dict[str, Lengths]] = field(default_factory=dict)
    sources: Tally[str] = field(default_factory=Tally)
    flags: Tally[int] = field(default_factory=Tally)
    copied: dict[int, tuple[float, int]] = field(default_factory=dict)
    parameters: Tally[tuple[str, str]] = field(default_factory=Tally)
    languages: Tally[str] = field(default_factory=Tally)
    clock: Clock = field(default_factory=Clock)
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    samples: list[Sample] = field(default_factory=list)
    continued: int = 0
    reused: float = 0.0
    prefixed: float = 0.0
    cached: tuple[int, int] = (0, 0)
    ids: IdCheck = field(default_factory=IdCheck)
    models: Tally[str] = field(default_factory=Tally)
    adapters: Tally[str] = field(default_factory=Tally)
    media: Tally[str] = field(default_factory=Tally)
    no_counts: int = 0
    sample_tokens: int = 0
    _ids: Seen = field(default_factory=Seen)
    _prefixes: Seen = field(default_factory=Seen)
    _contexts: Seen = field(default_factory=Seen)
    _held: list[Batch] = field(default_factory=list)
    _fits: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict)
    _fitted: bool = False

    def fold(self, batch: Batch) -> None:
        """Take in a batch. The first ones wait until enough records are counted to fit the guesses."""
        if self._fitted or not self.can_guess:
            self._fold(batch)
            return
        self._held.append(batch)
        counted = sum(int((item.columns["chosen"] & (item.columns["counted_in"] >= 0)).sum()) for item in self._held)
        if counted >= _FIT or len(self._held) >= _HOLD:
            self._release()

    def finish(self) -> None:
        """Fold what still waits."""
        self._release()

    def _release(self) -> None:
        if not self._fitted and self._held:
            self._fit()
        self._fitted = True
        held, self._held = self._held, []
        for batch in held:
            self._fold(batch)

    def _fit(self) -> None:
        for kind in KINDS:
            parts = [(_features(b.columns, kind), b.columns[f"counted_{kind}"], b.columns["code"]) for b in self._held]
            features, truth, codes = (np.concatenate([part[i] for part in parts]) for i in range(3))
            counted = (truth >= 0) & (features[:, 0] > (observe.SHORT if kind == "out" else 0))
            self._fits[kind, -1] = fit(features[counted], truth[counted])
            # A class of its own only with enough records; the others use the line of all of them.
            for code in range(len(CLASSES)):
                of_class = counted & (codes == code)
                if of_class.sum() >= 60:
                    self._fits[kind, code] = fit(features[of_class], truth[of_class])

    def _fold(self, batch: Batch) -> None:
        # A gateway logs a retried request twice. It is counted once, by its id, before anything else is added up.
        keep = self._first_of_id(batch)
        self.ids.add(batch.ids)
        _add_names(self.models, batch.models)
        _add_names(self.adapters, batch.adapters)
        for reason, file, line in batch.flawed:
            self.on_skip(reason, file, line, b"")
        # Requests with media were load, and are counted by what is in them. All else is of text alone.
        self.clock.add(batch.columns["start"][keep], batch.columns["latency"][keep])
        keep &= ~self._with_media(batch, keep)
        columns = {name: values[keep] for name, values in batch.columns.items()}
        self.parameters.update(batch.parameters)
        self.languages.update(batch.languages)
        self._turns(columns)
        self._reuse(batch, keep)
        self._marks(columns)
        # Four parts that take turns, 16 records each: their differences are the noise that drift is compared with.
        parts = (np.arange(self.n, self.n + len(columns["code"])) // 16) % 4
        self.n += len(columns["code"])
        self.classes.update(columns["code"].tolist())
        self.fingerprint.add_classes(parts, columns["code"])
        for kind in KINDS:
            self._lengths(columns, kind, batch.routes, parts)
        for sample in batch.samples:
            size = len(sample.prompt) + len(sample.output)
            if self.sample_tokens + size <= MAX_SAMPLE_TOKENS:
                self.sample_tokens += size
                self.samples.append(sample)
            self.fingerprint.add_tokens(sample)

    def _with_media(self, batch: Batch, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        flags = np.where(keep, batch.columns["flags"], 0)
        has_media: NDArray[np.bool_] = flags >= min(observe.MEDIA.values())
        if has_media.any():
            self.media.update({kind: int(((flags & flag) > 0).sum()) for kind, flag in observe.MEDIA.items()})
            self._skip(batch, has_media, MEDIA)
        return has_media

    def _first_of_id(self, batch: Batch) -> NDArray[np.bool_]:
        again = self._ids.check_and_add(batch.columns["id"])
        self._skip(batch, again, DUPLICATE)
        return ~again

    def _skip(self, batch: Batch, rows: NDArray[np.bool_], reason: str) -> None:
        for row in np.flatnonzero(rows).tolist():
            file, line = int(batch.columns["file"][row]), int(batch.columns["line"][row])
            self.on_skip(reason, file, line, batch.raw[row] if batch.raw else b"")

    def _turns(self, columns: Columns) -> None:
        """Requests that continue an earlier one, by conversation or because their earlier turns were a prompt of this log."""
        self._contexts.check_and_add(columns["whole"])
        follows = self._contexts.check(columns["earlier"])
        seen = self._contexts.check_and_add(columns["conversation"])
        self.continued += int((follows | seen).sum())

    def _reuse(self, batch: Batch, keep: NDArray[np.bool_]) -> None:
        owners, hashes, shares = batch.prefixes
        weights = np.maximum(batch.columns["chars_in"], np.maximum(batch.columns["ids_in"], batch.columns["usage_in"]))
        self.prefixed += float(np.maximum(weights[np.unique(owners)], 1).sum())
        if not len(owners):
            return
        seen = self._prefixes.check_and_add(hashes)
        # A prefix counts only if all shorter ones were there: the chain of hashes makes that so.
        best = np.zeros(len(keep))
        np.maximum.at(best, owners[seen], shares[seen])
        self.reused += float((best * np.maximum(weights, 1)).sum())

    def _marks(self, columns: Columns) -> None:
        for bit in range(7):
            self.flags[1 << bit] += int(((columns["flags"] >> bit) & 1).sum())
        for code in np.unique(columns["code"]).tolist():
            rates = columns["copied"][(columns["code"] == code) & np.isfinite(columns["copied"])]
            total, count = self.copied.get(code, (0.0, 0))
            self.copied[code] = (total + float(rates.sum()), count + len(rates))
        known = (columns["cached"] >= 0) & (columns["usage_in"] > 0)
        cached, total_in = self.cached
        self.cached = (cached + int(columns["cached"][known].sum()), total_in + int(columns["usage_in"][known].sum()))

    def _lengths(self, columns: Columns, kind: str, routes: list[str], parts: NDArray[Any]) -> None:
        usage, ids, counted = (columns[f"{name}_{kind}"] for name in ("usage", "ids", "counted"))
        # The server's own count is the truth; then logged ids; then our tokenizer, which may not be that of the served model.
        known = np.where(usage >= 0, usage, np.where(ids >= 0, ids, counted))
        for name, used in (("usage", usage >= 0), ("ids", (usage < 0) & (ids >= 0)), ("counted", counted >= 0)):
            self.sources[f"{name}_{kind}"] += int(used.sum())
        size = columns[f"chars_{kind}"]
        guessable = (known < 0) & (size > 0) & self.can_guess
        self.sources[f"guessed_{kind}"] += int(guessable.sum())
        if kind == "in":
            self.no_counts += int(((known < 0) & ~guessable & (size > 0)).sum())
        # Only records of the random sample give pairs: short texts are always counted, and would bias the spread.
        sampled = columns["chosen"] & (counted >= 0) & (size > (observe.SHORT if kind == "out" else 0)) & self.can_guess
        groups = self._groups(columns, kind)
        named = self._routes(columns, kind, routes)
        guesses = self._guesses(columns, kind, guessable | sampled)
        shown = np.where(known >= 0, known, np.where(guessable, guesses, -1))
        self.fingerprint.add_lengths(parts, kind, shown)
        for lengths, mask in (*groups, *named):
            lengths.add_exact(known[mask & (known >= 0)])
            if self.can_guess:
                lengths.add_guesses(guesses[mask & guessable])
                mask_sampled = mask & sampled
                lengths.add_pairs(guesses[mask_sampled], counted[mask_sampled], columns["weight"][mask_sampled])

    def _guesses(self, columns: Columns, kind: str, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
        result = np.ones(len(wanted))
        if not wanted.any():
            return result
        features, codes = _features(columns, kind), columns["code"]
        for code in np.unique(codes[wanted]).tolist():
            of_class = wanted & (codes == code)
            result[of_class] = guess(features[of_class], self._fits.get((kind, code), self._fits[kind, -1]))
        return result

    def _groups(self, columns: Columns, kind: str) -> list[tuple[Lengths, NDArray[np.bool_]]]:
        return [
            (self.lengths.setdefault((kind, code), Lengths()), columns["code"] == code)
            for code in np.unique(columns["code"]).tolist()
        ]

    def _routes(self, columns: Columns, kind: str, routes: list[str]) -> list[tuple[Lengths, NDArray[np.bool_]]]:
        """A group for every route that has a table. All others share one, so that a route a request costs no more than one."""
        named: dict[str, int] = {}
        group = np.full(len(routes), -1, np.int32)
        for at in np.unique(columns["route"]).tolist():
            name = routes[at]
            if not name:
                continue
            if name not in self.routes and len(self.routes) >= MAX_ROUTES:
                name = OTHERS
            self.routes.setdefault(name, {item: Lengths() for item in KINDS})
            group[at] = named.setdefault(name, len(named))
        group_of_row = group[columns["route"]] if len(routes) else np.full(len(columns["route"]), -1)
        return [(self.routes[name][kind], group_of_row == at) for name, at in named.items()]


def _add_names(known: Tally[str], names: Tally[str]) -> None:
    """Count names, with as many of their own as there are tables of routes."""
    for name, times in names.items():
        known[name if name in known or len(known) < MAX_ROUTES else OTHERS] += times


def _features(columns: Columns, kind: str) -> NDArray[np.float64]:
    """Columns of the guess: characters, spaces, wide bytes, messages (prompts only), one."""
    size = columns[f"chars_{kind}"]
    extra = columns["messages"] if kind == "in" else np.zeros(len(size))
    return np.column_stack(
        [size, columns[f"spaces_{kind}"], columns[f"wide_{kind}"], extra, np.ones(len(size))]
    ).astype(float)
