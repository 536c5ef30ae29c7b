"""The page in the controller's process: there while it works, gone with it, and no reason for it to end."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from watched import config, controlled, served

from draftsmith.api.watching import watch
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.web.running import beside


@pytest.fixture
def place(tmp_path: Path) -> Path:
    served(tmp_path / "tiny")
    controlled(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_it_is_there_for_as_long_as_the_controller(place: Path) -> None:
    said: list[str] = []
    with beside(watch(config(place)), "127.0.0.1", 0, None, said.append):
        url = said[0].split()[4].rstrip(",")
        text = httpx.get(f"{url}models/tiny", timeout=20).text
        assert "accepted by position" in text
        assert "81 %" in text
        assert "Drift by window" in text
        assert "outputs are longer" in text
        with httpx.stream("GET", f"{url}events", timeout=20) as events:  # a browser that goes away in the middle
            next(events.iter_lines())
        assert httpx.get(url, timeout=20).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, timeout=5)


def test_a_port_that_is_taken_is_said_before_anything_is_controlled(place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(PrerequisiteError, match="cannot be listened on"),
            beside(watch(config(place)), "127.0.0.1", port, None, print),
        ):
            raise AssertionError
