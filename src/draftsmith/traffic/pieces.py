"""Counting the tokens of many texts exactly, without encoding what was counted before.

A tokenizer cuts text twice before it merges anything: at its special tokens, and into words. So the count of a text is the
sum over its parts between special tokens, and the count of a part is the sum over pieces cut where every published word
pattern cuts: between a non-space and a space. Parts repeat (system prompts, earlier turns) and pieces repeat (words), so
bounded tables answer most of them; what is new in a batch is encoded in one call. Whether a given tokenizer keeps these
promises is checked on real text, at first and from time to time; one that does not is asked for whole texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

# Finest first. Fine: also before a newline after a letter or digit, and before the last space of a run of white
# space if a letter or an opening mark follows (some tokenizers cut digits off first, and the space stays with its run).
_FINE = re.compile(r"(?<=\S)(?= )|(?<=[^\W_])(?=\n)|(?<=\s)(?= [A-Za-z\u00c0-\u024f(\[{\"'#.])")
_COARSE = re.compile(r"(?<=\S)(?= )")
# Inside a piece that is new: identifiers, hashes and numbers are new as a whole, but their runs of letters or digits are not.
_INNER = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])|(?<=[A-Za-z0-9])(?=[!-/:-@\[-`{-~])")
_LEVELS = (
    (True, _FINE, _INNER),
    (True, _FINE, None),
    (True, _COARSE, None),
    (False, _FINE, _INNER),
    (False, _FINE, None),
    (False, _COARSE, None),
)
"""(cut at special tokens, pattern of the cuts between them, of the cuts inside new pieces), tried in this order."""
_TRIALS = 64  # texts at the start whose sum is compared with the tokenizer's own count
_RECHECK = 512  # after that every 512th text: a rare cut that differs is found in a long log
# White space before a space. Rare kinds are left to the spot checks.
_ASCII_PAIRS = tuple(f"{item} " for item in " \n\t\r\f\v")
_WIDE_PAIRS = tuple(f"{item} " for item in "\u00a0\u2009\u202f\u3000")
_TABLE_LIMIT = 200_000  # pieces of one table; a full one starts over
_PIECE_LIMIT = 64  # characters; longer pieces (base64, URLs) do not come twice
_PARTS_LIMIT = 2_000_000  # characters of one generation: bounds memory, and long system prompts still stay
_PROBE = (
    " lead  a  b\n    c 12 34,5  .\n\n x\ty_\n z:\n  é ñ\n 汉字 漢字\n\n\nend don't  I'll — (a)\n\t b\r\n  c trail  "
)


class _Table(dict[str, int]):
    """Piece -> tokens; `before` stands in front of every piece. One that is not there counts nothing and goes to `missed`."""

    def __init__(self, before: str) -> None:
        super().__init__()
        self.before = before
        self.missed: list[str] = []
        self._older: dict[str, int] = {}

    def __missing__(self, piece: str) -> int:
        known = self._older.get(piece)
        if known is None:
            self.missed.append(piece)
            return 0
        self[piece] = known
        return known

    def learn(self, result: dict[str, int]) -> None:
        """Keep short pieces. A table that is full starts over, but what it held stays within reach."""
        self.update((piece, size) for piece, size in result.items() if len(piece) <= _PIECE_LIMIT)
        if len(self) > _TABLE_LIMIT:
            self._older = dict(self)
            self.clear()

    def forget(self) -> None:
        """Start over with nothing."""
        self.clear()
        self._older, self.missed = {}, []


class _Parts:
    """Counts of the parts met last, as many as fit in two generations of a fixed number of characters."""

    def __init__(self) -> None:
        self._now: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._size = 0

    def get(self, part: str) -> int | None:
        """The count of a part met lately, else None."""
        known = self._now.get(part)
        if known is None and (known := self._older.get(part)) is not None:
            self.keep(part, known)
        return known

    def keep(self, part: str, tokens: int) -> None:
        """Remember a part."""
        if self._size > _PARTS_LIMIT:
            self._older, self._now, self._size = self._now, {}, 0
        self._now[part] = tokens
        self._size += len(part)

    def forget(self) -> None:
        """Start over with nothing."""
        self._now, self._older, self._size = {}, {}, 0


class PieceCounter:
    """Token counts of texts with one tokenizer, special tokens inside them included, none added."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._specials = special_tokens(tokenizer)
        self._level, self._seen = 0, 0
        self._parts, self._first, self._spaced = _Parts(), _Table(""), _Table(" ")
        self._inner: dict[str, int] = {}

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, exactly as the tokenizer would count them one by one."""
        if not texts or self._level >= len(_LEVELS):
            return self._whole(texts)
        # Checked before the tables are used, so that a tokenizer that breaks the promise never gives a wrong count.
        trusted = {at: self._whole([texts[at]])[0] for at in range(len(texts)) if self._is_trial(self._seen + at)}
        first = self._seen == 0
        self._seen += len(texts)
        while self._level < len(_LEVELS):
            sums = self._sums(texts)
            if all(sums[at] == count for at, count in trusted.items()) and (not first or self._knows_odd_text()):
                return sums
            # The promise of this level does not hold: forget every count made under it and try the next, coarser one.
            self._level += 1
            for table in (self._parts, self._first, self._spaced):
                table.forget()
            self._inner.clear()
        return self._whole(texts)

    @staticmethod
    def _is_trial(number: int) -> bool:
        return number < _TRIALS or number % _RECHECK == 0

    def _knows_odd_text(self) -> bool:
        return self._sums([_PROBE]) == self._whole([_PROBE])

    def _whole(self, texts: Sequence[str]) -> list[int]:
        return list(map(len, self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)))

    def _sums(self, texts: Sequence[str]) -> list[int]:
        specials = self._specials if _LEVELS[self._level][0] else None
        split = [specials.split(text) for text in texts] if specials else [[text] for text in texts]
        counts = {part: self._parts.get(part) for part in chain.from_iterable(split)}
        self._add_up([part for part, known in counts.items() if known is None], counts)
        # Between two parts stands one special token, which is one token of its own.
        return [sum(map(counts.__getitem__, parts)) + len(parts) - 1 for parts in split]  # type: ignore[arg-type]

    def _add_up(self, parts: list[str], counts: dict[str, int | None]) -> None:
        """Count new parts, all different, into `counts`."""
        unknown: list[tuple[str, list[str], list[str]]] = []
        for part in parts:
            counts[part] = self._known(part)
            if self._first.missed or self._spaced.missed:
                unknown.append((part, self._first.missed, self._spaced.missed))
                self._first.missed, self._spaced.missed = [], []
        first = self._learn(self._first, [item for _, item, _ in unknown])
        spaced = self._learn(self._spaced, [item for _, _, item in unknown])
        for part, firsts, rest in unknown:
            counts[part] += sum(map(first.__getitem__, firsts)) + sum(map(spaced.__getitem__, rest))  # type: ignore[operator]
        for part in parts:
            self._parts.keep(part, counts[part])  # type: ignore[arg-type]

    def _learn(self, table: _Table, missed: list[list[str]]) -> dict[str, int]:
        """Count what was missed, each piece once."""
        pieces = list(dict.fromkeys(chain.from_iterable(missed)))
        result = dict(zip(pieces, self._sizes([table.before + piece for piece in pieces]), strict=True))
        table.learn(result)
        return result

    def _sizes(self, pieces: list[str]) -> list[int]:
        """Tokens of new pieces, by their inner parts where the tokenizer cuts there too."""
        pattern, known = _LEVELS[self._level][2], self._inner
        if pattern is None:
            return self._whole(pieces)
        split = list(map(pattern.split, pieces))
        new = list({part for parts in split for part in parts if part not in known})
        known.update(zip(new, self._whole(new), strict=True))
        sizes = [sum(map(known.__getitem__, parts)) for parts in split]
        if len(known) > _TABLE_LIMIT:
            known.clear()
        for part in new:
            if len(part) > _PIECE_LIMIT:
                known.pop(part, None)
        return sizes

    def _known(self, part: str) -> int:
        """Tokens of the pieces of a part that are in the tables."""
        if any(pair in part for pair in _ASCII_PAIRS) or (
            not part.isascii() and any(pair in part for pair in _WIDE_PAIRS)
        ):
            return sum(map(self._first.__getitem__, _LEVELS[self._level][1].split(part)))
        # Prose: every space follows a non-space, so cutting at spaces is the same cut, and far cheaper than the pattern.
        first, *words = part.split(" ")
        return self._first[first] + sum(map(self._spaced.__getitem__, words))


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern that cuts text where the tokenizer cuts out its added tokens; None if there are no added tokens, or if any strips whitespace, is single-word, or is matched after normalisation."""
    added = list(tokenizer.get_added_tokens_decoder().values())
    for item in added:
        # These take white space with them, ask for a word's end, or are looked for in a changed text.
        if item.lstrip or item.rstrip or item.single_word or (item.normalized and tokenizer.normalizer is not None):
            return None
    names = sorted((entry.content for entry in added if entry.content), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None
