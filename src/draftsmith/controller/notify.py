"""Telling people of what matters: verdicts, switches, fallbacks, stuck states. Through apprise, which knows the addresses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from draftsmith.contract.control import ControlEvent
from draftsmith.contract.errors import PrerequisiteError

ACTS = frozenset({"conclude", "propose", "shift", "take_back", "promote", "fall_back", "restore", "settle", "hot_swap"})
STATES = frozenset({"stuck"})
Send = Callable[[str, str], None]


def is_news(event: ControlEvent) -> bool:
    """Whether an event is one for people who do not read journals."""
    if event.kind == "effect":
        return event.data.get("act", {}).get("kind") in ACTS
    if event.kind == "state":
        return event.data.get("state") in STATES or event.data.get("about") in ("gpu hours", "runs")
    return event.kind == "failed"


class Notifier:
    """Sends in a thread of its own, one after the other: a slow or dead receiver stops nothing here."""

    def __init__(self, name: str, addresses: tuple[str, ...], send: Send | None = None) -> None:
        """`name`: the served model, as the title. Raises PrerequisiteError if apprise is missing, or an address is none."""
        self._title = f"Draftsmith: {name}"
        self._send = send or (_apprise(addresses) if addresses else None)
        self._thread: threading.Thread | None = None
        self._waiting: list[str] = []
        self._lock = threading.Lock()

    def tell(self, event: ControlEvent) -> None:
        """Send a sentence, if it is news. Never raises, never waits; of a long backlog the oldest is dropped."""
        if self._send is None or not is_news(event):
            return
        with self._lock:
            self._waiting = [*self._waiting, event.sentence][-50:]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                sentence = self._waiting.pop(0)
            try:
                if self._send is not None:
                    self._send(self._title, sentence)
            except Exception:  # noqa: S112 - a receiver that is away is no reason to stop, and its error may hold a key
                continue


def _apprise(addresses: tuple[str, ...]) -> Send:
    try:
        import apprise
    except ImportError:
        raise PrerequisiteError(
            "controller.notify is set and apprise is not installed", "pip install 'draftsmith[notify]'"
        ) from None
    sender: Any = apprise.Apprise()
    for number, address in enumerate(addresses, start=1):
        if not sender.add(address):
            raise PrerequisiteError(
                f"address {number} of controller.notify is none that apprise knows", "see the documentation of apprise"
            )

    def send(title: str, text: str) -> None:
        sender.notify(title=title, body=text)

    return send
