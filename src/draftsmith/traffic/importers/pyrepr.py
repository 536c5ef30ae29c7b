"""Values as Python prints them in logs, read in linear time: a quoted text is passed over as a whole, whatever it holds."""

from __future__ import annotations

import ast
import re
from typing import Any

_QUOTED = r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\""
_TOKEN = re.compile(
    rf"(?P<quoted>[bru]?(?:{_QUOTED}))|(?P<open>[(\[{{])|(?P<close>[)\]}}])|(?P<comma>,)|(?P<rest>[^'\"()\[\]{{}},]++)|(?P<stray>['\"])",
    re.DOTALL,
)
_QUOTE = re.compile(_QUOTED, re.DOTALL)
_KEY = re.compile(r"\s*(?:(\w{1,60})=|'(\w{1,60})':\s*|\"(\w{1,60})\":\s*)")


def quoted(text: str, at: int) -> tuple[str | None, int]:
    """The quoted text (or None for the word None) that begins at `at`, and where it ends. Raises ValueError if none does."""
    if text.startswith("None", at):
        return None, at + 4
    match = _QUOTE.match(text, at)
    if not match:
        raise ValueError("no quoted text")
    return said(match[0]), match.end()


def said(literal: str) -> str | None:
    """The text of a literal; None if it is no text."""
    value = evaluated(literal)
    return value if isinstance(value, str) else None


def evaluated(literal: str) -> Any:
    """The value of a literal; None if it is none. Halves of surrogate pairs can be written in a log, but are no text: two are joined,
    one is replaced."""
    try:
        value = ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return _sound(value) if "\\u" in literal or "\\U" in literal else value


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return [_sound(item) for item in value] if isinstance(value, list) else value


def inside(text: str, at: int) -> tuple[list[str], int]:
    """The parts between commas in the bracket that opens at `at`, and where it closes. Raises ValueError if it does not."""
    if at >= len(text) or text[at] not in "([{":
        raise ValueError("no bracket")
    parts: list[str] = []
    depth, begin = 0, at + 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            break
        kind = match.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
            if depth == 0:
                return [*parts, text[begin:at]], match.end()
        elif kind == "comma" and depth == 1:
            parts.append(text[begin:at])
            begin = match.end()
        at = match.end()
    raise ValueError("a bracket without an end")


def named(text: str, at: int) -> tuple[dict[str, str], int]:
    """name -> value as written, of `(name=value, ...)` or `{'name': value, ...}` that opens at `at`, and where it closes."""
    parts, end = inside(text, at)
    fields: dict[str, str] = {}
    for part in parts:
        match = _KEY.match(part)
        if match:
            fields[match[1] or match[2] or match[3]] = part[match.end() :].strip()
    return fields, end


_MESSAGE = re.compile(r"role='(\w{1,20})' content=")
_CALLS = re.compile(r" tool_calls=(?=\[)")


def is_message(text: Any) -> bool:
    """Whether a text is a message of Pydantic's as Python prints it."""
    return isinstance(text, str) and _MESSAGE.match(text) is not None


def message(text: str) -> dict[str, Any] | None:
    """The message that is printed so; None if its text cannot be read. The rest of its fields is about the client."""
    begins = _MESSAGE.match(text)
    if not begins:
        return None
    try:
        content, end = quoted(text, begins.end())
    except ValueError:
        return None
    calls = _CALLS.search(text, end)
    if calls is None:
        return {"role": begins[1], "content": content or ""}
    try:
        _, close = inside(text, calls.end())
    except ValueError:
        return None
    return {"role": begins[1], "content": content or "", "tool_calls": evaluated(text[calls.end() : close])}
