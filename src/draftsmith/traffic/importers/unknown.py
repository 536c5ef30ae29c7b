"""What is said of a value that no importer knows: names of fields, the nearest format, and a mapping to start from. Never values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from draftsmith.traffic.importers.base import embedded

MAX_NAMES = 24
_NAME = re.compile(r"[A-Za-z_@$][\w@$\-]{0,39}(?:\.[\w\-]{1,40}){0,4}")
_GUESSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "prompt",
        (
            "messages",
            "prompt",
            "request",
            "input",
            "inputs",
            "question",
            "query",
            "instruction",
            "text",
            "user",
            "asked",
        ),
    ),
    (
        "answer",
        ("completion", "response", "answer", "output", "outputs", "reply", "result", "generated", "assistant", "said"),
    ),
    (
        "prompt_tokens",
        ("prompt_tokens", "input_tokens", "tokens_in", "prompt_length", "in", "isl", "input_length", "n_prompt"),
    ),
    (
        "completion_tokens",
        ("completion_tokens", "output_tokens", "tokens_out", "output_length", "out", "osl", "generated_tokens"),
    ),
    ("start", ("timestamp", "start_time", "start", "created_at", "created", "time", "ts", "date", "started_at")),
    ("latency_s", ("latency_s", "latency", "duration", "elapsed", "seconds", "took")),
    ("model", ("model", "model_name", "model_id", "engine", "deployment")),
    ("id", ("id", "request_id", "uuid", "trace_id")),
)


def field_names(value: Any) -> tuple[str, ...]:
    """Paths of the fields of an object, down to five levels. A key that looks like no name is not shown."""
    names: list[str] = []
    _walk(value, "", names, 0)
    return tuple(names[:MAX_NAMES])


def _walk(value: Any, path: str, names: list[str], depth: int) -> None:
    if isinstance(value, str) and value.lstrip()[:1] == "{" and len(value) < 1 << 20:
        value = embedded(value)
    if not isinstance(value, dict) or depth > 4:
        return
    for key, inner in list(value.items())[:40]:
        if len(names) >= MAX_NAMES or not isinstance(key, str) or not _NAME.fullmatch(key):
            continue
        name = f'{path}["{key}"]' if "." in key else f"{path}.{key}" if path else key
        names.append(name)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict) and "role" not in inner[0]:
            _walk(inner[0], f"{name}[0]", names, depth + 1)
        else:
            _walk(inner, name, names, depth + 1)


def starting_map(names: Sequence[str]) -> str:
    """A mapping file with guesses from the names of the fields; what is not guessed is left as a comment."""
    lines, left = _rows(names)
    for key, likely in _GUESSES:
        guessed = _guess(left, likely)
        if guessed:
            left.remove(guessed)
            lines.append(f"{key} = '{guessed}'")
        elif key in ("prompt", "answer"):
            lines.append(f"# {key} = '...'")
    return "\n".join(lines)


def _rows(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The line that names the list of records, where most of the fields stand in one, and the fields from there on."""
    lists = Counter(name.partition("[0].")[0] for name in names if "[0]." in name)
    path, hits = lists.most_common(1)[0] if lists else ("", 0)
    if hits * 2 <= len(names):
        return [], list(names)
    return [f"rows = '{path}'"], [name.removeprefix(f"{path}[0].") for name in names if name.startswith(f"{path}[0].")]


def _guess(names: Sequence[str], likely: Sequence[str]) -> str | None:
    for word in likely:
        for name in names:
            if name.rpartition(".")[2].lower() == word:
                return name
    for word in likely:
        for name in names:
            if len(word) > 3 and word in name.rpartition(".")[2].lower():
                return name
    return None
