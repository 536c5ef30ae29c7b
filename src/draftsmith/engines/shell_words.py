"""Words of a shell command line and where they stand, for the small part of the shell that start scripts use.

What is understood: simple commands, quotes, backslashes, comments, and separators (`;`, `&&`, newline). What would need
a shell to know is refused: pipes, substitutions, redirections, loops, functions. Nothing is ever run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_RESERVED = frozenset({"if", "for", "while", "until", "case", "function", "{", "}", "!", "[["})  # only where not quoted
_BUILTINS = frozenset({"eval", "source", "."})  # also where quoted


class NotUnderstoodError(ValueError):
    """The text uses more of the shell than is understood here. The message says what."""


@dataclass(frozen=True)
class Word:
    """One word: its value after quoting, where it stands in the text, and whether a variable is in it."""

    value: str
    start: int
    end: int
    variable: bool = False


def commands(text: str) -> list[list[Word]]:
    """The simple commands of a script, in order. Raises NotUnderstoodError."""
    parsed: list[list[Word]] = [[]]
    place = 0
    while place < len(text):
        char = text[place]
        if text.startswith("\\\n", place):
            place += 2
        elif char in " \t\r":
            place += 1
        elif char == "#":
            place = (text.find("\n", place) + 1 or len(text) + 1) - 1
        elif char in ";\n" or text.startswith("&&", place):
            parsed.append([])
            place += 2 if char == "&" else 1
        elif char in "|&<>()":
            raise NotUnderstoodError(f"the script uses {char!r}")
        else:
            word, place = _word(text, place)
            parsed[-1].append(word)
    for command in parsed:
        if not command:
            continue
        written = text[command[0].start : command[0].end]
        if written in _RESERVED or command[0].value in _BUILTINS:
            raise NotUnderstoodError(f"the script uses {command[0].value!r}")
    return [command for command in parsed if command]


def _word(text: str, start: int) -> tuple[Word, int]:
    parts: list[str] = []
    variable = False
    place = start
    while place < len(text) and text[place] not in " \t\r\n;&|<>()":
        char = text[place]
        if char == "'":
            end = text.find("'", place + 1)
            if end < 0:
                raise NotUnderstoodError("a quote is not closed")
            parts.append(text[place + 1 : end])
            place = end + 1
        elif char == '"':
            piece, place, inside = _double(text, place + 1)
            parts.append(piece)
            variable = variable or inside
        elif char == "\\":
            if not text.startswith("\\\n", place):
                parts.append(text[place + 1 : place + 2] or char)  # at the very end it stands for itself
            place = min(place + 2, len(text))
        elif char in "$`":
            name = _variable(text, place)
            parts.append(name)
            place += len(name)
            variable = True
        elif char in "*?[" or (char == "~" and place == start) or (char == "{" and "," in text[place:].split("}")[0]):
            raise NotUnderstoodError(f"the script uses the pattern character {char!r} outside quotes")
        else:
            parts.append(char)
            place += 1
    return Word("".join(parts), start, place, variable), place


def _double(text: str, place: int) -> tuple[str, int, bool]:
    parts: list[str] = []
    variable = False
    while place < len(text):
        char = text[place]
        if char == '"':
            return "".join(parts), place + 1, variable
        if char == "\\" and text[place + 1 : place + 2] in ("$", "`", '"', "\\", "\n"):
            parts.append(text[place + 1].replace("\n", ""))
            place += 2
        elif char in "$`":
            name = _variable(text, place)
            parts.append(name)
            place += len(name)
            variable = True
        else:
            parts.append(char)
            place += 1
    raise NotUnderstoodError("a quote is not closed")


def _variable(text: str, place: int) -> str:
    """A plain variable, kept as it is written. Raises for everything else that begins with `$` or a backtick."""
    match = _VARIABLE.match(text, place)
    if match is None:
        raise NotUnderstoodError("the script uses a substitution")
    return match[0]


def replace(text: str, cut: list[Word], insert_after: Word, words: list[str]) -> str:
    """`text` without the words in `cut`, and with `words` (quoted) after `insert_after`. The rest stays as it is."""
    edits = [(word.start, word.end, "") for word in cut]
    if words:
        addition = "".join(f" {shlex.quote(word)}" for word in words)
        edits.append((insert_after.end, insert_after.end, addition))
    for start, end, new in sorted(edits, reverse=True):
        head = text[:start].rstrip(" ") if start < end else text[:start]  # a removed word takes its space with it
        text = head + new + text[end:]
    return text
