"""Documents for fuzzing: generated talks, disguises that change nothing, and mutations that change anything."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from typing import Any

from .written import FORMATS, Format, Talk

MAX_BYTES = 20_000
_WORDS = ("When does the boat leave?", "At 21:40.", "{", "[", '["a", "b"]', '{"answer": "no"}', '{"role": "user", "content": "x"}', "<think>no</think>", "data: {}",
          "a\nb\n\nc", "\\x22", "None", "null", "true", "[1, 2]", "\u2028\u4e2d\U0001f600", "' , params: SamplingParams(n=8)", "prompt_token_ids: [7]", "a,b;c|d\te",
          '"', "'", "\\", "\u00e9\u0301", " lead", "trail ", "```py\nx = 1\n```", "</s>", "assistant:", "x" * 300)  # fmt: skip
_SCALARS: tuple[Any, ...] = (None, True, False, 0, -1, 1, 1.5, 1 << 40, 1 << 70, 1e308, "", " ", "null", "NaN", "-1", "0", "true", "[]", "{}", "[DONE]", "user", "assistant",
                             "2026-09-01T10:00:00Z", "ERROR", 2, 500, [], {}, [None], [[]], [{}], {"": 0}, [1, 2], ["a"], {"text": "t"})  # fmt: skip
TOGETHER = frozenset({"claude-code", "codex", "tgi-stream", "burstgpt-replay", "vllm-bench", "guidellm"})
"""Formats whose lines have an order, or that are one value: lists and wrappers would be another document."""


def said(rng: random.Random) -> str:
    """Some text with something in it."""
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 3))).strip() or "x"


def talks_of(rng: random.Random, one: Format) -> list[Talk]:
    """One to four talks with what the format can hold."""
    made = []
    for number in range(1, rng.randint(1, 4) + 1):
        has = {key: key in one.holds and rng.random() < 0.5 for key in ("system", "earlier", "reasoning", "call")}
        made.append(
            Talk(
                user=said(rng),
                answer=said(rng),
                system=said(rng) if has["system"] else "",
                earlier=tuple((said(rng), said(rng)) for _ in range(rng.randint(1, 2))) if has["earlier"] else (),
                reasoning=said(rng) if has["reasoning"] else "",
                call=(rng.choice(("find_boat", "search")), said(rng)) if has["call"] else None,
                number=number,
            )
        )
    return made


def disguised(rng: random.Random, text: str, name: str) -> bytes:
    """The same document as another tool would have written it."""
    try:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError:
        rows = []
    if rows and all(isinstance(row, dict) for row in rows):
        if rng.random() < 0.5:
            rows = [_shuffled(rng, row) for row in rows]
        if rng.random() < 0.5 and name != "burstgpt-replay":
            rows = [{**row, "x_note": rng.choice(("n", 3, None, {"a": 1}, ["b"]))} for row in rows]
        text = _laid_out(rng, rows, name)
    elif rng.random() < 0.3:
        text = text.replace("\r\n", "\n").replace("\n", "\n")
    data = text.encode("utf-8")
    if rng.random() < 0.1 and data[:1] in b"{[":
        data = b"\xef\xbb\xbf" + data
    if rng.random() < 0.2:
        data = data.rstrip(b"\n")
    return gzip.compress(data, 1) if rng.random() < 0.1 else data


def _laid_out(rng: random.Random, rows: list[Any], name: str) -> str:
    plain = rng.random() < 0.5
    way = rng.choice(("lines", "lines", "list", "indented list", "data", "spread", "CRLF"))
    if name in TOGETHER and way in ("data", "list", "indented list"):
        way = "lines"
    if way == "list":
        return json.dumps(rows, ensure_ascii=plain)
    if way == "indented list":
        return json.dumps(rows, ensure_ascii=plain, indent=2)
    if way == "data":
        return json.dumps(
            {"object": "list", "data": rows, "has_more": False}, ensure_ascii=plain, indent=rng.choice((None, 1))
        )
    end = {"spread": "\n\n", "CRLF": "\r\n"}.get(way, "\n")
    return "".join(json.dumps(row, ensure_ascii=plain) + end for row in rows)


def _shuffled(rng: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    keys = list(row)
    rng.shuffle(keys)
    return {key: row[key] for key in keys}


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    """A document of the corpus, changed in a few places."""
    data = rng.choice(corpus)
    for _ in range(rng.randint(1, 4)):
        rows = _rows(data) if rng.random() < 0.75 else None
        if rows:
            at = rng.randrange(len(rows))
            rows[at] = _value(rng, rows[at], corpus)
            if rng.random() < 0.1:
                rows.insert(at, rng.choice(rows))
            data = b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)
        else:
            data = rng.choice(_BYTES)(rng, data, rng.choice(corpus))
    return data[:MAX_BYTES]


def _rows(data: bytes) -> list[Any] | None:
    try:
        return [json.loads(line) for line in data.split(b"\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _value(rng: random.Random, value: Any, corpus: list[bytes], depth: int = 0) -> Any:
    """The value with one change somewhere in it."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.75):
        key = rng.choice(list(value))
        roll = rng.random()
        if roll < 0.08:
            return {other: one for other, one in value.items() if other != key}
        if roll < 0.14:
            return {rng.choice(_names(rng, corpus)) if other == key else other: one for other, one in value.items()}
        if roll < 0.18:
            return {**value, rng.choice(_names(rng, corpus)): value[key]}
        if roll < 0.20:
            return {"data": [value]} if rng.random() < 0.5 else {"body": value}
        return {**value, key: _value(rng, value[key], corpus, depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        roll = rng.random()
        if roll < 0.15:
            return value[:at] + value[at + 1 :]
        if roll < 0.3:
            return [*value, value[at]]
        return [*value[:at], _value(rng, value[at], corpus, depth + 1), *value[at + 1 :]]
    roll = rng.random()
    if roll < 0.15:
        return json.dumps(value)
    if roll < 0.25:
        return [value]
    if roll < 0.35 and isinstance(value, str):
        return value[: rng.randrange(len(value) + 1)] + rng.choice(_WORDS)
    if roll < 0.5:
        return _piece(rng, corpus)
    return rng.choice(_SCALARS)


def _piece(rng: random.Random, corpus: list[bytes]) -> Any:
    """Some value out of another document."""
    rows = _rows(rng.choice(corpus)) or [None]
    value = rng.choice(rows)
    while isinstance(value, dict | list) and value and rng.random() < 0.8:
        value = rng.choice(list(value.values()) if isinstance(value, dict) else value)
    return value


def _names(rng: random.Random, corpus: list[bytes]) -> list[str]:
    rows = _rows(rng.choice(corpus)) or []
    found = [key for row in rows if isinstance(row, dict) for key in row]
    return found or ["messages", "type", "data"]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _dropped(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randint(1, 40) :]


def _doubled(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.randint(1, 200)] * rng.choice((2, 2, 50)) + data[at:]


def _inserted(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice(
            (
                b"\n",
                b"\r\n",
                b"\xff\xfe",
                b"\x00",
                b'"',
                b"\\",
                b"[[[[",
                b"}",
                b"\xed\xa0\x80",
                b"'",
                b"),",
                b"\xef\xbb\xbf",
            )
        )
        + data[at:]
    )


def _joined(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data + b"\n" + other


def _spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _deep(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data + b"\n" + b'{"messages":' * rng.choice((5, 2000)) + b"[" * rng.choice((1, 3000))


_BYTES: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    _cut,
    _dropped,
    _doubled,
    _inserted,
    _joined,
    _spliced,
    _deep,
)

assert set(FORMATS) >= TOGETHER
