"""Modules that take seconds to import: only the worker that runs their tests pays, not everyone who collects the files."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import pytest


class Lazy:
    """A module that is imported when it is first used."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(
            ("_", "pytest")
        ):  # pytest looks for marks and fixtures in whatever a file of tests holds
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.name), attribute)


def lazily(name: str) -> Any:
    """The module on first use. Where its package is not installed, the file of tests that asks is skipped."""
    package = name.partition(".")[0]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
    return Lazy(name)
