"""Content classes by evidence: what the answer is made of, and only then what the prompt asked for.

Order of evidence: tool calls, JSON, fenced code, SQL, shell, source lines, arithmetic; then the relation of the answer to
the prompt (another language, copied, condensed, quoted); then words of the request. Without an answer, the worked examples
in earlier turns stand in for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from draftsmith.contract.access import AccessRecord
from draftsmith.traffic.languages import language
from draftsmith.traffic.phrases import Asked
from draftsmith.traffic.tokens import content

CLASSES = (
    "code",
    "json",
    "tools",
    "sql",
    "shell",
    "math",
    "translate",
    "rewrite",
    "summarise",
    "rag",
    "chat",
    "other",
)
"""Closed list. `other` means that there was nothing to judge by."""

_FENCE = "```"
_LANGUAGE = re.compile(r"[ \t]*([A-Za-z0-9_+#-]*)")
_SQL = re.compile(
    r"\s*(?:SELECT\b.{1,2000}?\bFROM\b|INSERT\s+INTO\b|UPDATE\b.{1,200}?\bSET\b|DELETE\s+FROM\b"
    r"|CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|INDEX)\b|ALTER\s+TABLE\b|WITH\s+\w+\s+AS\s*\()",
    re.IGNORECASE | re.DOTALL,
)
_SHELL_WORDS = (
    "find ls cd cp mv rm mkdir rmdir touch cat head tail grep egrep fgrep zgrep awk gawk sed cut sort uniq wc tr tee xargs chmod chown "
    "chgrp ln du df ps kill killall top tar gzip gunzip zip unzip ssh scp rsync curl wget ping ifconfig ip dig nslookup host hostname "
    "git docker kubectl pip npm apt apt-get yum brew systemctl service sudo echo printf export source which whoami who w id "
    "date cal history diff comm join paste split csplit file stat readlink basename dirname tree mount umount crontab screen "
    "tmux nohup watch seq yes rename md5sum sha256sum openssl base64 column nl rev tac fold fmt env set unset alias "
    "type man time timeout sleep wait true false test read exec eval shopt bind popd pushd dirs updatedb locate ffmpeg "
    "convert java python python3 perl ruby node make cmake gcc bash sh zsh sftp ftp nc netstat ss lsof free uptime uname"
)
_SHELL = re.compile(
    rf"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:sudo )?(?:{'|'.join(map(re.escape, _SHELL_WORDS.split()))})(?=[\s|;&)]|$)"
)
_SHELL_MARK = re.compile(r"(?:^|\s)-{1,2}[A-Za-z]|\||>|&&|/[\w.]+|\$\(|\$\w|\*|~|`")
_CODE_LINE = re.compile(
    r"^\s*(?:(?:async )?def \w+\(|class \w+[:({]|import \w+|from \w[\w.]* import |#include\b|(?:public|private|static|protected) |"
    r"(?:let|const|var) \w+|function\b.*\{|return\b.*|(?:if|for|while|elif|else|try|except|with)\b.*:$|"
    r"(?:if|for|while|else|switch)\b.*\{$|[\w.\[\]]+ (?:=|\+=|-=) .+|[\w.]+\(.*\);?$|[})\]];?,?$|\w+ \w+\(.*\) ?\{|<\w+[^>]*>.*|</\w+>|//|@\w+|print\()"
)
_ARITHMETIC = re.compile(r"\d\s*[-+*/×÷=]\s*\(?[$£€]?\d")
_RESULT = re.compile(r"####\s*-?\d|(?:^|\n)\s*(?:final )?answer\s*(?:is)?\s*[:=]\s*\$?-?[\d.,]+\s*\S{0,12}\s*$")
_NUMBER = re.compile(r"\s*[-$£€]?\d[\d,]*(?:\.\d+)?\s*%?\.?\s*")
_DIGITS = re.compile(r"\d")
_LONG = 600


@dataclass(frozen=True)
class Shown:
    """What a record shows to the classifier. Texts may be empty."""

    system: str
    user: str
    answer: str
    example: str = ""
    tools: bool = False
    structured: bool = False


def classify(record: AccessRecord) -> str:
    """The content class of a record, one of CLASSES."""
    return classify_shown(shown(record.messages or (), record.completion or "", record.params))


def shown(messages: Sequence[dict[str, Any]], answer: str, params: dict[str, Any]) -> Shown:
    """Pick out what the classifier looks at: the system text, the last user text, and one worked answer."""
    system = user = example = ""
    for message in messages:
        role = message.get("role")
        if role == "user":
            user = content(message)
        elif role in ("system", "developer"):
            system = content(message)
        elif role == "assistant" and not example:
            example = content(message)
    structured = params.get("response_format") is not None or any(key.startswith("guided_") for key in params)
    return Shown(system, user, answer, example, bool(params.get("tools")), structured)


def classify_shown(shown: Shown, spoken: str | None = None, copied: float | None = None) -> str:
    """The class of what is shown. The user's language and the copy rate may be given where they are known already."""
    if shown.answer:
        return _by_form(shown.answer, shown) or _by_relation(shown, spoken, copied) or _by_request(shown)
    if shown.example:
        return _by_form(shown.example, shown) or _by_request(shown)
    return _by_request(shown)


def copy_rate(answer: str, prompt: str, probes: int = 8, width: int = 24) -> float:
    """Share of evenly spaced slices of the answer (`width` characters) that stand in the prompt word for word."""
    if len(answer) < width or not prompt:
        return 1.0 if answer and answer in prompt else 0.0
    step = max(1, (len(answer) - width) // probes)
    starts = range(0, len(answer) - width + 1, step)
    return sum(answer[at : at + width] in prompt for at in starts) / len(starts)


def _same_words(answer: str, user: str) -> bool:
    """Whether a short answer is made of the user's words."""
    words = set(answer.lower().split()) if len(answer) < _LONG else set()
    return len(words) >= 5 and len(words & set(user.lower().split())) >= 0.8 * len(words)


def _by_form(answer: str, shown: Shown) -> str | None:
    """Classes that the answer's own structure proves."""
    body = answer.strip()
    first = body[:1]
    if first in "{[" and first:
        form = _json_class(body)
        if form:
            return form
    if _FENCE in body:
        return _fenced(body)
    if shown.tools and body.startswith(("<tool_call>", "<|python_tag|>")):
        return "tools"
    if first.isalpha() and _SQL.match(body):
        return "sql"
    if _is_shell(body):
        return "shell"
    if _is_code(body):
        return "code"
    return _numeric(body, shown)


def _json_class(body: str) -> str | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "json" if body[:1] == "{" and '":' in body[:200] else None
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict):
        return "tools" if "name" in first and ("arguments" in first or "parameters" in first) else "json"
    return None


def _fenced(body: str) -> str | None:
    head, opened, text = body.partition(_FENCE)[2].partition("\n")
    if not opened:
        return "code"
    language = _LANGUAGE.match(head)
    name, inside = language[1].lower() if language else "", text.partition(_FENCE)[0].strip()
    if len(inside) < 0.15 * len(body):
        return None
    if name == "sql" or (not name and _SQL.match(inside)):
        return "sql"
    if name in ("bash", "sh", "shell", "zsh", "console", "powershell"):
        return "shell"
    if name == "json" or (inside[:1] in "{[" and name in ("", "text")):
        return _json_class(inside) or "code"
    return "code"


def _is_shell(body: str) -> bool:
    if len(body) > 600 or body.count("\n") > 6 or not _SHELL.match(body):
        return False
    return len(body) < 25 or bool(_SHELL_MARK.search(body))


def _is_code(body: str) -> bool:
    lines = [line for line in body[:4000].split("\n") if line.strip()][:40]
    if not lines:
        return False
    if len(lines) == 1 and len(lines[0]) > 200:
        return False
    hits = sum(1 for line in lines if _CODE_LINE.match(line[:200]))
    return hits >= (2 if len(lines) > 1 else 1) and hits >= 0.4 * len(lines)


def _numeric(body: str, shown: Shown) -> str | None:
    head = body[:1000]
    if not _DIGITS.search(head):
        return None
    if len(_ARITHMETIC.findall(head)) >= 2:
        return "math"
    tail = body[-200:].lower()
    if any(mark in tail for mark in ("answer", "####")) and _RESULT.search(tail):
        return "math"
    if "\\frac" in head or "\\boxed" in body:
        return "math"
    if _NUMBER.fullmatch(head) and len(_DIGITS.findall(shown.user)) >= 2 and len(shown.user) < 2 * _LONG:
        return "math" if Asked(shown.system, shown.user, 2 * _LONG, 0).for_("math") else None
    return None


def _by_relation(shown: Shown, spoken: str | None, copied: float | None) -> str | None:
    """Classes that show in how the answer relates to the text it was given."""
    user, answer = shown.user, shown.answer
    wording, ratio = Asked(shown.system, shown.user, 400, 200), len(answer) / max(1, len(user))
    copied = copy_rate(answer, user) if copied is None else copied
    if len(answer) > 2 and copied < 0.9 and wording.for_("translate"):
        return "translate"
    if copied == 0 and 0.4 < ratio < 2.5 and len(user) < 8 * _LONG:
        user_language, answer_language = spoken or language(user), language(answer)
        if user_language != answer_language and "unknown" not in (user_language, answer_language):
            return "translate"
    wants_rewrite = wording.for_("rewrite")
    if len(user) > 1.5 * len(answer) and wording.for_("summarise"):
        return "summarise"
    if len(user) > 2 * len(answer) and wording.for_("rag"):
        return "rag"
    if len(user) < 4 * len(answer) and (copied >= 0.5 or (wants_rewrite and copied > 0.05)):
        return "rewrite"
    if len(user) > _LONG and "?" in user[-400:] + user[:200] and copied >= 0.3:
        return "rag"
    if 0.5 < ratio < 1.6 and _same_words(answer, user):
        return "rewrite"
    if wants_rewrite and 0.3 < ratio < 2:
        return "rewrite"
    return None


_ORDER = ("tools", "translate", "sql", "shell", "json", "rag", "summarise", "rewrite", "code", "math")


def _by_request(shown: Shown) -> str:
    """What the words of the request say, for prompts without an answer and answers without form."""
    if shown.answer:
        return "chat"  # an answer without the form that was asked for is prose
    wording = Asked(shown.system, shown.user, 600, 300)
    if not wording:
        return "other"
    if shown.tools:
        return "tools"
    for name in _ORDER:
        if wording.for_(name):
            return name
    return "json" if shown.structured else "chat"
