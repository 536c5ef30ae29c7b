"""Takes secrets and the owner's paths out of text that leaves the workspace. Pure, apart from reading the environment once.

Two kinds of evidence, two treatments. Free text (commands, logs, notes) is rewritten by a `Scrubber`. Values that hashes
are taken over (plan, trials) must not change: `Scrubber.finds` says what is wrong, and the writer refuses. `to_names` and
`from_names` turn a machine's paths into names before a plan is frozen, and back when a server is started.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

HIDDEN = "[hidden]"
REQUEST_HIDDEN = "[a request was logged here: left out]"

_KEY = r"(?:api[-_]?keys?|(?:hf|access|auth|refresh|bearer|id|secret)[-_]?tokens?|token|secret(?:[-_]?key)?|passw(?:or)?d|credentials?)"
_NOT_NOTHING = r"(?!(?:None|null|True|False|true|false|\[\]|\[hidden\])(?:[\s,;)}\]]|$))"

# A flag and everything up to the next flag: `--api-key` takes several values. A line of dashes begins once, not at every dash.
_FLAG = re.compile(
    rf"((?<!-)--(?:[\w-]{{0,64}}-)?{_KEY})(=|[ \t]+|[\"'],\s*[\"'])(?!-){_NOT_NOTHING}([^\n-](?:(?![\s\"']-)[^\n])*)",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"\b([A-Z][A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?))([\"']?\s*[:=]\s*)"
    rf"{_NOT_NOTHING}(\"[^\"]*\"|'[^']*'|\S+)"
)
_FIELD = re.compile(
    r"((?<![\w-])[\"']?[\w-]*?(?:api[-_]?keys?|(?:hf|access|auth|refresh|bearer)[-_]token|secret(?:[-_]key)?|passw(?:or)?d)[\"']?\s*[:=]\s*)"
    rf"{_NOT_NOTHING}(\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[^\s,;}}&]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|token)\s+)?[^\s\"',}]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_URL_USER = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s@\"']+@", re.IGNORECASE)
_URL_QUERY = re.compile(r"([?&](?:[\w-]*(?:token|key|secret|signature|sig|password))=)[^&\s\"'#]+", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|AIza[\w-]{30,}|nvapi-[\w-]{20,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# vLLM with request logging on: prompts, or their token ids, follow.
_REQUEST = re.compile(r"(Received request|Generated response) [^\n]*")
_PROMPT = re.compile(
    r"((?<![\w-])[\"']?(?:prompt|completion|messages|prompt_token_ids)[\"']?\s*[:=]\s*)([\"'\[{])[^\n]*"
)
_HOME = re.compile(r"(?<![\w.~-])(?:/home/[^/\s\"':,;)\]}]+|/Users/[^/\s\"':,;)\]}]+|/root(?=[/\s\"':,;)\]}]|$))")
_HOME_WINDOWS = re.compile(r"\b[A-Za-z]:\\+Users\\+[^\\\s\"':,;]+")
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL|PRIVATE_KEY", re.IGNORECASE)
LEAST_SECRET = 8


@dataclass(frozen=True)
class Scrubber:
    """`names`: name -> path prefix, such as {"{workspace}": "/srv/me/.draftsmith"}. `secrets`: values hidden wherever they stand."""

    names: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> Scrubber:
        """With the values of all secret-looking variables of `environ` (None = this process's)."""
        return cls(dict(names or {}), environment_secrets(os.environ if environ is None else environ))

    def text(self, text: str) -> str:
        """`text` without secrets, logged requests and the owner's paths."""
        for value in self.secrets:
            text = text.replace(value, HIDDEN)
        text = _PEM.sub(HIDDEN, text)
        text = _REQUEST.sub(REQUEST_HIDDEN, text)
        text = _PROMPT.sub(rf"\1{HIDDEN}", text)
        text = _FLAG.sub(rf"\1\2{HIDDEN}", text)
        text = _ENVIRONMENT.sub(rf"\1\2{HIDDEN}", text)
        text = _HEADER.sub(rf"\1{HIDDEN}", text)
        text = _FIELD.sub(rf"\1{HIDDEN}", text)
        text = _BEARER.sub(rf"\1{HIDDEN}", text)
        text = _URL_USER.sub(rf"\1{HIDDEN}@", text)
        text = _URL_QUERY.sub(rf"\1{HIDDEN}", text)
        text = _SHAPES.sub(HIDDEN, text)
        text = to_names(text, self.names)
        text = _HOME.sub("~", text)
        return _HOME_WINDOWS.sub("~", text)

    def value(self, value: Any) -> Any:
        """The same for every string inside a JSON value. A value under a secret-looking key is hidden whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(k)): HIDDEN if _is_secret(str(k)) and isinstance(v, str) and v else self.value(v)
                for k, v in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """A command line, word by word: also values that only their flag gives away, however many there are."""
        kept: list[str] = []
        hiding = False
        for word in words:
            if word.startswith("-"):
                hiding = bool(re.fullmatch(rf"--(?:[\w-]*-)?{_KEY}", word, re.IGNORECASE))
                kept.append(self.text(word))
            else:
                kept.append(HIDDEN if hiding else self.text(word))
        return tuple(kept)

    def finds(self, value: Any, where: str = "") -> list[str]:
        """Places (`arms.2.spec_config.model`) whose text may not leave as it is. Says where, never what."""
        if isinstance(value, str):
            return [where or "the text"] if self.text(value) != value else []
        if isinstance(value, Mapping):
            findings = []
            for key, inner in value.items():
                place = f"{where}.{key}" if where else str(key)
                if _is_secret(str(key)) and isinstance(inner, str) and inner:
                    findings.append(place)
                else:
                    findings += self.finds(inner, place)
            return findings
        if isinstance(value, list | tuple):
            whole = " ".join(value) if all(isinstance(item, str) for item in value) else ""
            inside = [place for i, item in enumerate(value) for place in self.finds(item, f"{where}.{i}")]
            return inside or ([where] if whole and self.text(whole) != whole else [])
        return []


def environment_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of variables with a secret-looking name, longest first. Short values, paths and plain words are no secrets."""
    values = {
        value
        for name, value in environ.items()
        if _SECRET_NAME.search(name)
        and len(value) >= LEAST_SECRET
        and not value.startswith(("/", "./", "~"))
        and not (value.isalpha() and value.islower())
    }
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def home() -> dict[str, str]:
    """Name and path of this account's folder; empty where it has none of its own."""
    path = os.path.expanduser("~")
    return {"{home}": path} if path.startswith("/") and path.rstrip("/") else {}


def to_names(value: Any, names: Mapping[str, str]) -> Any:
    """`value` (text or JSON) with every path prefix of `names` replaced by its name, the longest prefix first."""
    ordered = sorted(((p.rstrip("/"), n) for n, p in names.items() if p.rstrip("/")), key=lambda item: -len(item[0]))
    patterns = [(re.compile(rf"(?<![\w.~-]){re.escape(prefix)}(?![\w.-])"), name) for prefix, name in ordered]

    def text(words: str) -> str:
        for pattern, name in patterns:
            words = pattern.sub(name.replace("\\", r"\\"), words)
        return words

    return _walk(value, text)


def from_names(value: Any, names: Mapping[str, str]) -> Any:
    """The inverse of `to_names`: names at the start of a word become this machine's paths again."""

    def text(words: str) -> str:
        for name, prefix in names.items():
            words = words.replace(name, prefix.rstrip("/"))
        return words

    return _walk(value, text)


def without_places(value: Any) -> Any:
    """A JSON value in which an absolute path that has no name is its last part: where it lies is the machine's own affair."""

    def text(words: str) -> str:
        return f"{{elsewhere}}/{words.rstrip('/').rpartition('/')[2]}" if words.startswith("/") else words

    return _walk(value, text)


def _walk(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: _walk(inner, text) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walk(inner, text) for inner in value)
    return value


def _is_secret(key: str) -> bool:
    return (
        re.fullmatch(rf"(?!(?:bos|eos|pad|unk|mask|sep|cls)_)(?:[\w-]*[-_])?{_KEY}|authorization", key, re.IGNORECASE)
        is not None
    )
