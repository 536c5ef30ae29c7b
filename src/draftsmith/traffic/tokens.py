"""Counting tokens: exactly, and fast enough for whole logs.

A byte-level tokenizer cuts text into words before it merges bytes, and every published word pattern cuts between a
non-space and a space. So the count of a text is the sum over its pieces cut there, and pieces repeat: a bounded table of
piece -> count answers most of them. Whether a given tokenizer keeps that promise is checked on real text first; one that
does not is asked directly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError

# Finest first. Fine: also before a newline after a letter or digit, and before the last space of a run of white
# space if a letter or an opening mark follows (some tokenizers cut digits off first, and the space stays with its run).
_BOUNDARIES = (
    re.compile(r"(?<=\S)(?= )|(?<=[^\W_])(?=\n)|(?<=\s)(?= [A-Za-z\u00c0-\u024f(\[{\"'#.])"),
    re.compile(r"(?<=\S)(?= )"),
)
_TRIALS = 64
_RECHECK = 512
# White space before a space. Rare kinds are left to the spot checks.
_SPACE_AFTER_SPACE = tuple(f"{one} " for one in " \n\t\r\f\v\u00a0\u2009\u202f\u3000")
_TABLE_LIMIT = 200_000
_PIECE_LIMIT = 64
_PROBE = (
    " lead  a  b\n    c 12 34,5  .\n\n x\ty_\n z:\n  é ñ\n 汉字 漢字\n\n\nend don't  I'll — (a)\n\t b\r\n  c trail  "
)

Messages = Sequence[dict[str, Any]]


@dataclass
class Counter:
    """Counts tokens of texts with one tokenizer, in one process."""

    tokenizer: Any
    name: str
    vocab_size: int
    template: Any = None
    _table: dict[str, int] = field(default_factory=dict)
    _spaced: dict[str, int] = field(default_factory=dict)
    _level: int = 0
    _trials: int = 0

    def count(self, text: str) -> int:
        """Tokens of `text`, special tokens inside it included, none added."""
        if self._level >= len(_BOUNDARIES):
            return self._whole(text)
        self._trials += 1
        if self._trials <= _TRIALS or self._trials % _RECHECK == 0:
            return self._try(text)
        return self._pieces(text)

    def _whole(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def _pieces(self, text: str) -> int:
        if any(pair in text for pair in _SPACE_AFTER_SPACE):
            return self._sum(_BOUNDARIES[self._level].split(text), self._table, "")
        # Prose: every space follows a non-space, so cutting at spaces is the same cut, and far cheaper than the pattern.
        first, *words = text.split(" ")
        return self._sum([first], self._table, "") + self._sum(words, self._spaced, " ")

    def _sum(self, pieces: list[str], table: dict[str, int], before: str) -> int:
        """Tokens of all pieces, each with `before` in front of it; `table` holds those that came already."""
        counts = list(map(table.get, pieces))
        if None not in counts:
            return sum(counts)  # type: ignore[arg-type]
        if len(table) > _TABLE_LIMIT:
            table.clear()
        new = [piece for piece, known in zip(pieces, counts, strict=True) if known is None]
        asked = [before + piece for piece in new] if before else new
        found = [len(one) for one in self.tokenizer.encode_batch_fast(asked, add_special_tokens=False)]
        table.update((piece, size) for piece, size in zip(new, found, strict=True) if len(piece) <= _PIECE_LIMIT)
        return sum(found) + sum(filter(None, counts))

    def _try(self, text: str) -> int:
        """Both ways on the first texts, on a probe of odd ones, and on some later ones; a boundary that is wrong once is not used again."""
        whole = self._whole(text)
        while self._level < len(_BOUNDARIES):
            right = self._pieces(text) == whole and (self._trials > 1 or self._pieces(_PROBE) == self._whole(_PROBE))
            if right:
                break
            self._level += 1
            self._table.clear()
            self._spaced.clear()
        return whole

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, none added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def render(self, messages: Messages) -> str:
        """The prompt as the chat template writes it; the contents joined by newlines where there is no template."""
        if self.template is not None:
            try:
                return str(self.template.render(messages=list(messages), add_generation_prompt=True))
            except Exception:  # a template may raise anything on shapes it does not know
                self.template = None
        return "\n".join(content(message) for message in messages)


def content(message: dict[str, Any]) -> str:
    """The text of one message, parts joined; empty if it has none."""
    said = message.get("content")
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "\n".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in said)
    return ""


def load_counter(path: Path) -> Counter:
    """Read tokenizer.json from a file or its folder, with the chat template beside it. Raises InputError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError:
        raise InputError(
            f"no tokenizer at {file.name!r}", "give --tokenizer a tokenizer.json or a folder with one"
        ) from None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(raw.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise InputError(
            f"{file.name} is not a tokenizer: {error}", "give a tokenizer.json of Hugging Face kind"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    name = f"{file.parent.name or file.name} sha256:{hashlib.sha256(raw).hexdigest()[:16]}"
    template = _template(file.parent)
    described = name if template is not None else f"{name} (no chat template)"
    return Counter(tokenizer, described, tokenizer.get_vocab_size(with_added_tokens=True), template)


def _template(folder: Path) -> Any:
    """The chat template, compiled in a sandbox; None if there is none that compiles."""
    source, special = _template_source(folder)
    if source is None:
        return None
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> str:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "2025-01-01", **special}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    try:
        return environment.from_string(source)
    except TemplateError:
        return None


def _template_source(folder: Path) -> tuple[str | None, dict[str, str]]:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    special = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        special[key] = value.get("content", "") if isinstance(value, dict) else (value or "")
    source = settings.get("chat_template")
    if isinstance(source, list):
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    beside = folder / "chat_template.jinja"
    if source is None and beside.exists():
        source = beside.read_text(encoding="utf-8")
    return source, special


def check_ids(counter: Counter, ids: Sequence[int], said: str | None, seen: list[bool]) -> None:
    """Refuse a tokenizer that did not make the log's own ids. `seen` collects agreement over records.

    Raises InputError if an id lies outside the vocabulary, or if decoded answers keep disagreeing with the logged text.
    """
    advice = "give --tokenizer the served model's own tokenizer.json"
    if ids and max(ids) >= counter.vocab_size:
        raise InputError(
            f"the log holds token id {max(ids)}, but the tokenizer knows only {counter.vocab_size}: it is another model's",
            advice,
        )
    if said is None or not ids or len(seen) >= 50:
        return
    decoded = counter.tokenizer.decode(list(ids), skip_special_tokens=True)
    seen.append(_close(decoded.strip(), said.strip()))
    if len(seen) >= 5 and sum(seen) < 0.5 * len(seen):
        raise InputError("the tokenizer decodes the log's token ids to other text: it is another model's", advice)


def _close(decoded: str, said: str) -> bool:
    """Equal, or one inside the other: stop strings and reasoning parts may be cut from the logged text."""
    return decoded == said or (bool(said) and (said in decoded or decoded[:40] == said[:40]))
