"""What the words of a request ask for. Used where the answer itself does not tell."""

from __future__ import annotations

import re
from functools import lru_cache

_ASKS: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    # name: (words of which one must be there, the pattern that then decides); both on lower-case text
    "tools": (
        ("tool", "function call"),
        re.compile(r"\btool_calls?\b|\bcalls? tools?\b|\bfunction call|\btools?:\s*\["),
    ),
    "translate": (("translat",), re.compile(r"\btranslat(?:e|ion)\b")),
    "sql": (("sql", "table"), re.compile(r"\bsql\b|\bquery the (?:table|database)\b|\btable: \w+\(")),
    "shell": (
        ("command", "script", "liner", "one bash"),
        re.compile(r"\b(?:bash|shell|terminal|command[- ]line|unix|linux) (?:command|script|one-?liner)|\bone bash\b"),
    ),
    "json": (
        ("json",),
        re.compile(
            r"\bjson\b.{0,80}\b(?:only|keys?|format|object|schema)\b"
            r"|\b(?:reply|respond|return|answer|output)\b.{0,40}\bjson\b"
        ),
    ),
    "summarise": (
        ("summar", "tl;dr", "tldr", " sentences", "key points"),
        re.compile(
            r"\bsummar(?:y|ise|ize)\b|\btl;?dr\b|\bin (?:one|two|three|\d)(?: or (?:two|three))? sentences\b|\bkey points\b"
        ),
    ),
    "rewrite": (
        ("rewrite", "rephrase", "paraphrase", "proofread", "edit", "clean up", "correct", "split", "simplify"),
        re.compile(
            r"\b(?:rewrite|rephrase|paraphrase|proofread|edit(?:ed|or)?|clean up|correct|split|simplify)\b.{0,60}"
            r"\b(?:text|sentences?|paragraph|question|grammar|email|following)\b|\breturn only the edited\b"
        ),
    ),
    "code": (
        ("```", "function", "code", "coding", "program", "script", "class", "method", "regex"),
        re.compile(
            r"```|\bcoding assistant\b|\b(?:write|implement|complete|create|fix|refactor|debug)\b.{0,60}"
            r"\b(?:function|code|program|script|class|method|regex)\b|\b(?:python|javascript|typescript|java|c\+\+|rust|golang|html"
            r"|css)\b.{0,40}\b(?:function|code|program|script|class)\b"
        ),
    ),
    "rag": (
        ("passage", "context", "document", "article", "excerpt", "the text"),
        re.compile(
            r"\b(?:passage|context|document|article|excerpt)s?\b.{0,80}\b(?:question|answer|below|above|following)\b"
            r"|\banswer\b.{0,40}\bfrom the (?:passage|context|document|text)|(?:^|\n)(?:passage|context|documents?)\s*:"
        ),
    ),
    "math": (
        ("math", "solve", "calculat", "how many", "how much", "equation", "probability", "integral"),
        re.compile(
            r"\bmath|\bsolve\b|\bcalculate\b|\bhow (?:many|much)\b.*\d|\bequation\b|\bprobability\b|\bintegral\b"
        ),
    ),
}


class Asked:
    """What a request says, in lower case; each question is answered once, and system prompts are remembered."""

    def __init__(self, system: str, user: str, head: int, tail: int) -> None:
        self._system = system
        self._user = (user if len(user) <= head + tail else f"{user[:head]}\n{user[-tail:]}").lower()

    def __bool__(self) -> bool:
        return bool(self._system.strip() or self._user.strip())

    def for_(self, name: str) -> bool:
        """Whether the request asks for that class."""
        return _says(name, self._user) or (bool(self._system) and _system_says(name, self._system))


def _says(name: str, lowered: str) -> bool:
    words, pattern = _ASKS[name]
    return any(word in lowered for word in words) and bool(pattern.search(lowered))


@lru_cache(4096)
def _system_says(name: str, system: str) -> bool:
    return _says(name, system[:4000].lower())
