"""Earlier answers as a draft without training: the file that a speculative config names as its corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import InputError


class EarlierAnswers(NamedTuple):
    """`documents`: texts in the order of the file. `asked`: the messages that they answer, canonical, where the file has them."""

    documents: tuple[str, ...]
    asked: frozenset[str]


def earlier_answers(file: Path) -> EarlierAnswers:
    """Read JSON lines: each a string, or a record of an access log (`completion`). Raises InputError with the line."""
    if not file.is_file():
        raise InputError(f"the corpus {file.name} does not exist", "give the file of earlier answers, or an access log")
    documents: list[str] = []
    texts: set[str] = set()
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        text, messages = _entry(line)
        if text is None:
            raise InputError(
                f"{file.name} line {number} is no answer",
                "each line is one JSON string, or a record with `completion`: `draftsmith records LOG` writes such records of any log",
            )
        documents += [text] if text else []
        texts |= {canonical(messages)} if messages else set()
    if not documents:
        raise InputError(f"{file.name} holds no answer", "give a log with answers")
    return EarlierAnswers(tuple(documents), frozenset(texts))


def _entry(line: bytes) -> tuple[str | None, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return None, None
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict):
        return None, None
    text = value.get("completion")
    return (text if isinstance(text, str) else "" if value.get("error") else None), value.get("messages")
