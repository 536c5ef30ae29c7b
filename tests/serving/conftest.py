"""Nothing of the machine's own settings reaches these tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DRAFTSMITH_CAPTURE_")]:
        monkeypatch.delenv(name)
