"""Who may act: a token from a file, compared in constant time; then a signed cookie and a word that forms must bring back."""

from __future__ import annotations

import hmac
import secrets
import stat
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError

LEAST_TOKEN = 16
ATTEMPTS = "10/minute"
SESSION_S = 8 * 3600


def read_token(path: Path) -> str:
    """The token in a file that only its owner can read. Raises InputError."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the token file {path.name} cannot be read ({type(error).__name__})", "give --token-file FILE"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"others can read the token file {path.name}", f"chmod 600 {path.name}")
    if len(text) < LEAST_TOKEN:
        raise InputError(
            f"the token has fewer than {LEAST_TOKEN} characters",
            "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return text


class Gate:
    """Lets in who knows the token, with few attempts a minute for each address."""

    def __init__(self, token: str | None) -> None:
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._token = token
        self._limiter, self._rate = MovingWindowRateLimiter(MemoryStorage()), parse(ATTEMPTS)

    @property
    def closed(self) -> bool:
        """Without a token no act is possible."""
        return self._token is None

    def attempt(self, given: str, address: str, session: dict[str, Any]) -> str | None:
        """None: let in, and `session` says so. Otherwise why not."""
        if self._token is None:
            return "this page only shows: it was started without --token-file"
        if not self._limiter.hit(self._rate, address):
            return "too many attempts: wait a minute"
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return "that is not the token"
        session.clear()
        session.update(operator=True, csrf=secrets.token_urlsafe(24))
        return None

    def may_act(self, session: dict[str, Any]) -> bool:
        """Whether this session was let in."""
        return not self.closed and bool(session.get("operator"))

    def sent_by_us(self, session: dict[str, Any], given: str) -> bool:
        """Whether a form brings back the word that our page gave to this session."""
        return hmac.compare_digest(str(session.get("csrf") or secrets.token_hex(8)).encode(), given.encode())
