"""Certificates are loaded once, however often a server is asked."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from draftsmith.engines.process import healthy
from draftsmith.kit.certificates import trusted


def test_a_server_that_is_asked_again_and_again_costs_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = list[str](), ssl.create_default_context

    def counted(*arguments: Any, **named: Any) -> ssl.SSLContext:
        loads.append("load")
        return load(*arguments, **named)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    trusted.cache_clear()
    assert [healthy("http://127.0.0.1:9") for _ in range(3)] == [False] * 3
    assert loads == ["load"]
    assert trusted().verify_mode is ssl.CERT_REQUIRED
