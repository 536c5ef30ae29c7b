"""One record in, one row of numbers out. Runs in worker processes: after this, no text is left but what was sampled as ids.

Counting every token of a large log is what takes the time, so by default only some records are counted: a random sample
(chosen by place, so that a run can be repeated), and every short answer. The rest leave their size in characters, from which
`lengths` estimates.
"""

from __future__ import annotations

import zlib
from collections import Counter as Tally
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.profiling.parameters import shown_parameters, structured
from draftsmith.traffic.classes import CLASSES, classify_shown, copy_rate, shown
from draftsmith.traffic.importers.base import Fields
from draftsmith.traffic.importers.counts import NONE
from draftsmith.traffic.languages import language
from draftsmith.traffic.messages import MEDIA_KINDS
from draftsmith.traffic.tokens import Counter, IdCheck, content

SHORT = 256
"""Answers up to this many characters are always tokenised exactly: for short texts an estimate is off by more than a token."""
TOGETHER = 8 << 20
"""Characters that wait at most to be counted together."""
TOOL, STRUCTURED, LOOP, TURNS, TEXT, ANSWER, IDS = (1 << bit for bit in range(7))
MEDIA = {kind: 1 << bit for bit, kind in enumerate(sorted(MEDIA_KINDS), 7)}
"""Flags of a request whose prompt is more than text."""
_CLASS_CODE = {name: code for code, name in enumerate(CLASSES)}
_EMPTY = np.empty(0, np.int32)
BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Sampling:
    """How many records are looked at closely. Shares between 0 and 1; `exact` counts all tokens."""

    exact: bool = True
    count_share: float = 1.0
    ids_share: float = 1.0
    early_share: float = 0.5


@dataclass(frozen=True)
class Sample:
    """Token ids (or hashed words, if `words`) of one sampled record. `looped`: its answer ends in a repetition loop."""

    code: int
    order: int
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    words: bool = False
    route: str = ""
    looped: bool = False


@dataclass
class Batch:
    """What one block of records left. Columns have one value a record; `prefixes` several (owner row, hash, share).

    `raw`: the bytes of each record where they may have to be written aside, else empty.
    """

    columns: dict[str, NDArray[Any]]
    routes: list[str]
    parameters: Tally[tuple[str, str]]
    languages: Tally[str]
    prefixes: tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]
    samples: list[Sample] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    flawed: list[tuple[str, int, int]] = field(default_factory=list)
    ids: IdCheck = field(default_factory=IdCheck)
    models: Tally[str] = field(default_factory=Tally)
    adapters: Tally[str] = field(default_factory=Tally)


FOREIGN_IDS = "token ids outside the tokenizer's vocabulary (kept without them)"


class Observer:
    """Turns records into rows. `counter` is None where no tokenizer was given."""

    def __init__(self, counter: Counter | None, sampling: Sampling) -> None:
        self._counter, self._sampling = counter, sampling
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._routes: dict[str, int] = {}
        self._parameters: Tally[tuple[str, str]] = Tally()
        self._languages: Tally[str] = Tally()
        self._prefixes: list[tuple[int, int, float]] = []
        self._samples: list[Sample] = []
        self._raw: list[bytes] = []
        self._flawed: list[tuple[str, int, int]] = []
        self._ids = IdCheck()
        self._models: Tally[str] = Tally()
        self._adapters: Tally[str] = Tally()
        self._waiting: list[tuple[str, int, str]] = []
        self._waiting_size = 0
        self._counted: dict[str, list[tuple[int, int]]] = {"counted_in": [], "counted_out": []}

    def add(self, fields: Fields, file: int, line: int, *, early: bool = False) -> None:
        """Observe one normalised record. Raises InputError if the tokenizer is not the log's."""
        media = sum(MEDIA[kind] for kind in fields.get("media") or ())
        if media:
            fields = _load_alone(fields)
        messages, answer_text = fields.get("messages") or (), fields.get("completion") or ""
        prompt_ids, output_ids = fields.get("prompt_token_ids"), fields.get("output_token_ids")
        params = fields["params"]
        luck = _luck(file, line)
        # Short-circuit: the parts of a prompt are walked once.
        size, spaces, wide, turns = _sizes(messages)
        flags = self._flags(fields, answer_text, turns) | media
        code, copied = self._judge(fields, messages, answer_text)
        weight_share = max(self._sampling.count_share, self._sampling.early_share if early else 0.0)
        row = len(self._rows)
        self._count(row, fields, messages, answer_text, luck < weight_share)
        if luck < self._sampling.ids_share:
            self._sample(fields, messages, answer_text, code, file, line)
        self._parameters.update(shown_parameters(params))
        self._raw.append(fields.get("raw") or b"")
        if fields.get("model"):
            self._models[fields["model"]] += 1
        if fields.get("adapter"):
            self._adapters[fields["adapter"]] += 1
        whole, before = self._chain(row, messages, prompt_ids, fields.get("prefix_blocks"))
        usage, timing = fields["usage"], fields.get("timing") or {}
        self._rows.append(
            (
                _or(usage["prompt_tokens"], -1),
                _or(usage["completion_tokens"], -1),
                len(prompt_ids) if prompt_ids else -1,
                len(output_ids) if output_ids else -1,
                -1,
                -1,
                size,
                spaces,
                wide,
                len(messages),
                len(answer_text),
                answer_text.count(" "),
                0 if answer_text.isascii() else len(answer_text.encode("utf-8", "replace")) - len(answer_text),
                code,
                self._routes.setdefault(fields.get("route") or "", len(self._routes)),
                flags,
                copied,
                _hash(fields.get("id")),
                _hash(fields.get("conversation")),
                whole,
                before,
                timing.get("start_unix_s", np.nan),
                _or(timing.get("latency_s"), np.nan),
                luck < weight_share,
                1.0 / weight_share if weight_share else 0.0,
                _or(usage.get("cached_tokens"), -1),
                line,
                file,
            )
        )

    def take(self) -> Batch:
        """The rows so far, as columns; starts over."""
        arrays = list(zip(*self._rows, strict=True)) or [()] * len(_COLUMNS)
        columns = {name: np.array(values, dtype=kind) for (name, kind), values in zip(_COLUMNS, arrays, strict=True)}
        self._settle()
        for column, pairs in self._counted.items():
            if pairs:
                rows, tokens = zip(*pairs, strict=True)
                columns[column][list(rows)] = tokens
        owners, hashes, shares = zip(*self._prefixes, strict=True) if self._prefixes else ((), (), ())
        prefixes = (np.array(owners, np.int64), np.array(hashes, np.uint64), np.array(shares, np.float64))
        raw = self._raw if any(self._raw) else []
        batch = Batch(
            columns,
            list(self._routes),
            self._parameters,
            self._languages,
            prefixes,
            self._samples,
            raw,
            self._flawed,
            self._ids,
            self._models,
            self._adapters,
        )
        self._clear()
        return batch

    def _flags(self, fields: Fields, answer_text: str, turns: bool) -> int:
        params = fields["params"]
        flags = TURNS if turns else 0
        if params.get("tools") or answer_text.startswith('{"name":'):
            flags |= TOOL
        if structured(params):
            flags |= STRUCTURED
        if answer_text:
            flags |= ANSWER | (LOOP if loops(answer_text) else 0)
        if fields.get("messages"):
            flags |= TEXT
        if fields.get("output_token_ids") or fields.get("prompt_token_ids"):
            flags |= IDS
        return flags

    def _judge(self, fields: Fields, messages: Any, answer_text: str) -> tuple[int, float]:
        named = fields.get("content_class")
        if named:
            return _CLASS_CODE.get(named, _CLASS_CODE["other"]), np.nan
        if not messages and not answer_text:
            return _CLASS_CODE["other"], np.nan
        seen = shown(messages, answer_text, fields["params"])
        spoken = language(seen.user) if seen.user else None
        if spoken:
            self._languages[spoken] += 1
        copied = copy_rate(answer_text, seen.user) if answer_text and seen.user else None
        code = _CLASS_CODE[classify_shown(seen, spoken, copied)]
        return code, np.nan if copied is None else copied

    def _count(self, row: int, fields: Fields, messages: Any, answer_text: str, chosen: bool) -> None:
        """Note what the tokenizer should count of this row."""
        counter, usage = self._counter, fields["usage"]
        if counter is None:
            return
        chosen = chosen or self._sampling.exact
        if chosen and usage["prompt_tokens"] is None and not fields.get("prompt_token_ids") and messages:
            self._await("counted_in", row, counter.render(messages, fields["params"].get("tools")))
        wanted = answer_text and (chosen or len(answer_text) <= SHORT)
        if wanted and usage["completion_tokens"] is None and not fields.get("output_token_ids"):
            self._await("counted_out", row, answer_text)

    def _await(self, column: str, row: int, text: str) -> None:
        self._waiting.append((column, row, text))
        self._waiting_size += len(text)
        if self._waiting_size > TOGETHER:
            self._settle()

    def _settle(self) -> None:
        """Count all texts that wait, in one go."""
        if self._counter is not None and self._waiting:
            counts = self._counter.count_all([text for _, _, text in self._waiting])
            for (column, row, _), tokens in zip(self._waiting, counts, strict=True):
                self._counted[column].append((row, tokens))
        self._waiting, self._waiting_size = [], 0

    def _sample(self, fields: Fields, messages: Any, answer_text: str, code: int, file: int, line: int) -> None:
        """Token ids for replay and histograms: the log's own, else by the tokenizer, else hashed words."""
        counter, prompt, output = self._counter, fields.get("prompt_token_ids"), fields.get("output_token_ids")
        if counter is not None:
            if (prompt or output) and not self._ids.look(counter, fields):
                self._flawed.append((FOREIGN_IDS, file, line))
                prompt = output = None
            prompt = prompt or (
                counter.encode(counter.render(messages, fields["params"].get("tools"))) if messages else None
            )
            output = output or (counter.encode(answer_text) if answer_text else None)
        if prompt is None and output is None:
            if messages or answer_text:
                prompt_words = _words(" ".join(map(content, messages)))
                self._samples.append(Sample(code, line, prompt_words, _words(answer_text), words=True))
            return
        prompt_ids, output_ids = (np.array(ids, np.int32) if ids else _EMPTY for ids in (prompt, output))
        looped = loops(answer_text) if answer_text else loops_in_ids(output_ids)
        self._samples.append(Sample(code, line, prompt_ids, output_ids, route=fields.get("route") or "", looped=looped))

    def _chain(self, row: int, messages: Any, ids: Any, blocks: Any) -> tuple[int, int]:
        """Prefix hashes of a prompt, each with the share of the prompt it covers. Returns (whole prompt, earlier turn)."""
        if blocks:
            self._prefixes += ((row, _hash(str(block)), (at + 1) / len(blocks)) for at, block in enumerate(blocks))
            return 0, 0
        if ids and not messages:
            return self._id_chain(row, ids), 0
        if not messages:
            return 0, 0
        state, done, marks = blake2b(digest_size=8), 0, []
        for message in messages:
            text = content(message)
            state.update(f"{message.get('role')}\0{text}\0".encode("utf-8", "replace"))
            done += len(text) + 1
            marks.append((int.from_bytes(state.digest(), "little"), done))
        self._prefixes += ((row, mark, part / done) for mark, part in marks)
        earlier = marks[-3][0] if len(marks) > 2 and messages[-2].get("role") == "assistant" else 0
        return marks[-1][0], earlier

    def _id_chain(self, row: int, ids: list[int]) -> int:
        raw, step, state = np.array(ids, np.int32).tobytes(), 4 * BLOCK_TOKENS, blake2b(digest_size=8)
        mark = 0
        for at in range(0, len(raw) - step + 1, step):
            state.update(raw[at : at + step])
            mark = int.from_bytes(state.digest(), "little")
            self._prefixes.append((row, mark, (at + step) / len(raw)))
        return mark


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("usage_in", np.int64),
    ("usage_out", np.int64),
    ("ids_in", np.int64),
    ("ids_out", np.int64),
    ("counted_in", np.int64),
    ("counted_out", np.int64),
    ("chars_in", np.int64),
    ("spaces_in", np.int64),
    ("wide_in", np.int64),
    ("messages", np.int64),
    ("chars_out", np.int64),
    ("spaces_out", np.int64),
    ("wide_out", np.int64),
    ("code", np.int8),
    ("route", np.int32),
    ("flags", np.int16),
    ("copied", np.float32),
    ("id", np.uint64),
    ("conversation", np.uint64),
    ("whole", np.uint64),
    ("earlier", np.uint64),
    ("start", np.float64),
    ("latency", np.float64),
    ("chosen", np.bool_),
    ("weight", np.float64),
    ("cached", np.int64),
    ("line", np.int64),
    ("file", np.int32),
)


def _load_alone(fields: Fields) -> Fields:
    """What counts of a request with media: that it came, and how long it took."""
    return {key: fields.get(key) for key in ("id", "timing", "raw")} | {"params": {}, "usage": dict(NONE)}


def loops(answer_text: str) -> bool:
    """Whether an answer ends in a loop: its last words stand at least four times in its tail."""
    tail = answer_text[-600:]
    return len(answer_text) >= 96 and tail.count(answer_text[-24:]) >= 4 and bool(answer_text[-24:].strip())


def loops_in_ids(ids: NDArray[np.int32]) -> bool:
    """The same of token ids, where the log has no text: the last eight stand at least four times in the last 200."""
    if len(ids) < 32:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(ids[-200:], 8)
    return int((windows == ids[-8:]).all(axis=1).sum()) >= 4


def _sizes(messages: Any) -> tuple[int, int, int, bool]:
    """Characters, spaces, non-ASCII characters, and whether an assistant spoke before."""
    size = spaces = wide = 0
    turns = False
    for message in messages:
        text = message.get("content")
        if type(text) is not str or "tool_calls" in message:
            text = content(message)
        size += len(text)
        spaces += text.count(" ")
        if not text.isascii():
            wide += len(text.encode("utf-8", "replace")) - len(text)
        turns = turns or message.get("role") == "assistant"
    return size, spaces, wide, turns


def _words(text: str) -> NDArray[np.int32]:
    return np.array(
        [zlib.crc32(word.encode("utf-8", "replace")) & 0x7FFFFFFF for word in text.split()[:1000]], np.int32
    )


def _hash(value: str | None) -> int:
    if not value:
        return 0
    return int.from_bytes(blake2b(value.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _luck(file: int, line: int) -> float:
    """A number in [0, 1) that depends on the place alone."""
    mixed = (line * 0x9E3779B97F4A7C15 + file * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    mixed = (mixed * 0xD6E8FEB86659FD93) & 0xFFFFFFFFFFFFFFFF
    return (mixed >> 11) / (1 << 53)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
