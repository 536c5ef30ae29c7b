"""Whether a logged answer and its token ids are of one model: does the text stand in what the ids decode to?

Servers change an answer on its way: parsers take out `<think>`, the markup of tool calls and of harmony's channels, and write calls
as JSON whatever the model wrote (JSON, XML, Python); stop strings are cut. So the text is taken apart first (reasoning, text, names
and values of calls), only letters and digits are compared, and small differences are no disagreement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

COMPARED = 4000
"""Characters of an answer that are looked for at most."""
ENOUGH = 0.9
_REST = re.compile(r"[\W_]+")

Decode = Callable[[Sequence[int], bool], str]
"""Text of token ids; the second argument says whether special tokens are left out."""


def agrees(
    completion: str | None, answer: Mapping[str, Any] | None, ids: Sequence[int] | None, decode: Decode
) -> bool | None:
    """Whether the text of an answer is the text of its ids; None if there is nothing to compare.

    `answer` holds the parts (`text`, `reasoning`, `calls`, `refusal`) where the log keeps them apart.
    """
    if not ids:
        return None
    pieces = list(_pieces(completion or "", answer))
    wanted = sum(len(forms[0]) for forms in pieces)
    if not wanted:
        return None
    for leave_out in (True, False):
        whole = squeezed(decode(ids, leave_out))
        matched = sum(len(forms[0]) for forms in pieces if any(form in whole for form in forms))
        if matched >= ENOUGH * wanted:
            return True
    return False


def squeezed(text: str) -> str:
    """Letters and digits alone, in one case."""
    return _REST.sub("", text).casefold()


def _pieces(completion: str, answer: Mapping[str, Any] | None) -> Iterator[tuple[str, ...]]:
    """What must stand in the decoded text, each in every form that it may have there."""
    left = COMPARED
    for forms in _all_pieces(completion, answer):
        short = tuple(form[:left] for form in forms if form)
        if short:
            yield short
            left -= len(short[0])
        if left <= 0:
            return


def _all_pieces(completion: str, answer: Mapping[str, Any] | None) -> Iterator[tuple[str, ...]]:
    if answer:
        calls: list[Any] = [
            {"name": call.get("name"), "arguments": _parsed(call.get("arguments"))}
            for call in answer.get("calls") or ()
        ]
        texts = [answer.get(key) for key in ("reasoning", "text", "refusal")]
    else:
        text, calls = _parted(completion)
        texts = [text]
    for content in texts:
        for line in re.split(r"[\n\ufffd]", content or ""):
            yield (squeezed(line),)
    for value in calls:
        for leaf in _leaves(value, 0):
            # Inside the JSON that a model writes, a text may be escaped in one of two ways.
            escaped = _dumped(leaf)
            yield squeezed(leaf), squeezed(escaped), squeezed(json.dumps(leaf)[1:-1])


def _dumped(text: str) -> str:
    try:
        return orjson.dumps(text).decode()[1:-1]
    except TypeError:  # half of a surrogate pair
        return text


def _parsed(text: Any) -> Any:
    try:
        return orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        return text


def _parted(completion: str) -> tuple[str, list[Any]]:
    """The text of an answer, and the tool calls that a recorder wrote as JSON in its last line."""
    head, _, last = completion.rpartition("\n")
    if last[:1] in ("{", "["):
        value = _parsed(last)
        calls = value if isinstance(value, list) else [value]
        if calls and all(isinstance(call, dict) and "name" in call and len(call) <= 3 for call in calls):
            return head, [
                {"name": call["name"], "arguments": call.get("arguments", call.get("parameters"))} for call in calls
            ]
    return completion, []


def _leaves(value: Any, depth: int) -> Iterator[str]:
    """Names and values inside a call. The words `name` and `arguments` themselves stand in few models' markup."""
    if depth > 20:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if depth > 0 and isinstance(key, str):
                yield key
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield f"{value:g}" if isinstance(value, float) else str(value)
