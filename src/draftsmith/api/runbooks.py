"""The runbooks that come with Draftsmith: what an alert means and what to do, found by words."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError, PrerequisiteError

MOST = 5
TITLE_WEIGHT = 5.0
WORD = re.compile(r"[a-z0-9]+")


class Runbook(Frozen):
    """One page: the alert that it belongs to, and its text. `score` is relative to the best match."""

    name: str
    title: str
    text: str
    score: float = 1.0


def search_runbooks(query: str, most: int = MOST) -> tuple[Runbook, ...]:
    """The pages that hold words of `query`, best first; rare words count more, and words of the title most.

    Raises InputError for a query without a word, PrerequisiteError if the pages are not installed.
    """
    words = set(_words(query))
    if not words:
        raise InputError("a search needs a word", "give an alert's name or a question")
    pages = _pages()
    bags = [(Counter(_words(page.text)), set(_words(page.title))) for page in pages]
    rarity = {word: math.log(1 + len(pages) / (1 + sum(word in bag for bag, _ in bags))) for word in words}
    result = []
    for page, (bag, title) in zip(pages, bags, strict=True):
        score = sum(
            rarity[word] * (1 + math.log(bag[word]) + (TITLE_WEIGHT if word in title else 0))
            for word in words
            if bag[word]
        )
        if score > 0:
            result.append((score, page))
    result.sort(key=lambda item: (-item[0], item[1].name))
    return tuple(page.model_copy(update={"score": round(score / result[0][0], 3)}) for score, page in result[:most])


@cache
def _pages() -> tuple[Runbook, ...]:
    package = Path(__file__).parents[1] / "runbooks"
    folder = package if package.is_dir() else Path(__file__).parents[3] / "docs" / "runbooks"
    pages = []
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        pages.append(Runbook(name=path.stem, title=text.splitlines()[0].lstrip("# "), text=text))
    if not pages:
        raise PrerequisiteError(
            "the runbooks are not installed", "install draftsmith from its wheel, or from a checkout"
        )
    return tuple(pages)


def _words(text: str) -> list[str]:
    """In lower case, and the parts of a CamelCase name too."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return WORD.findall(parted.lower()) + ([text.lower()] if parted != text and " " not in text else [])
