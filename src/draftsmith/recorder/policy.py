"""Who may be recorded: API keys by hash, headers, and fields of the request. Every voice can say no; unknown means no.

The policy file has one line a key: the SHA-256 of the key in hex, `yes` or `no`, and, if wanted, the name of a route that
the requests of this key are filed under. `#` begins a comment. Keys themselves are never written anywhere.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPT_OUT_HEADER = b"x-draftsmith-capture"
OPT_OUT_FIELD = "draftsmith_capture"
YES = frozenset({b"1", b"true", b"yes", b"on"})
LOOK_AGAIN_S = 2.0
LINE = re.compile(r"([0-9a-f]{64})\s+(yes|no)(?:\s+([\w.:/-]{1,64}))?", re.ASCII)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """Whether a request may be recorded as far as its headers say, and the route it belongs to."""

    allowed: bool
    route: str | None = None


NO, YES_ANSWER = Answer(False), Answer(True)


class KeyPolicy:
    """The policy file, read again when it changes. If it is missing or broken, no request is recorded, and `problem` says why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._known: dict[str, Answer] = {}
        self._stamp: tuple[int, int] | None = None
        self._looked = float("-inf")

    def ask(self, key: bytes | None) -> Answer:
        """The policy of this key. A request without a key has the empty key."""
        now = time.monotonic()
        if now - self._looked >= LOOK_AGAIN_S:
            self._looked = now
            self._refresh()
        return self._known.get(hashlib.sha256(key or b"").hexdigest(), NO)

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._known, self._stamp = parse(self.path.read_text(encoding="utf-8")), stamp
            self.problem = None
        except (OSError, ValueError) as error:
            self._known, self._stamp = {}, None
            self.problem = (
                f"the key policy cannot be used ({error if type(error) is ValueError else type(error).__name__})"
            )


def parse(text: str) -> dict[str, Answer]:
    """Hash of a key -> answer. A key that is named twice needs a yes each time. Raises ValueError naming the line."""
    known: dict[str, Answer] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = LINE.fullmatch(content)
        if match is None:
            raise ValueError(f"line {number} is not `<sha256> yes|no [route]`")
        key, word, route = match.groups()
        if known.get(key) != NO:
            known[key] = Answer(True, route) if word == "yes" else NO
    return known


def by_headers(headers: Headers, policy: KeyPolicy | None) -> Answer:
    """Judge a request before anything of it is copied. Several keys must all be allowed."""
    keys: list[bytes] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == OPT_OUT_HEADER and value.strip().lower() not in YES:
            return NO
        if lowered == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            keys.append(rest.strip() if scheme.lower() == b"bearer" else value.strip())
        elif lowered in (b"x-api-key", b"api-key"):
            keys.append(value.strip())
    if policy is None:
        return YES_ANSWER
    answers = [policy.ask(key) for key in keys] or [policy.ask(None)]
    return answers[0] if all(answer.allowed for answer in answers) else NO


def by_body(body: dict[str, Any]) -> bool:
    """Whether the request itself lets it be recorded: `store` is not false, `draftsmith_capture` is not withheld."""
    if body.get("store") not in (None, True):
        return False
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) and OPT_OUT_FIELD in str(metadata):
        return False  # the request mentions it in a form that is not understood
    values = [place[OPT_OUT_FIELD] for place in (body, metadata) if isinstance(place, dict) and OPT_OUT_FIELD in place]
    return all(value is True or str(value).strip().lower().encode() in YES for value in values)
