"""The gate's benchmark as a module: its worlds are the tests' worlds too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="session")
def bench() -> Iterator[ModuleType]:
    # As when it runs as a program, its parts lie beside it.
    sys.path.append(FOLDER)
    yield importlib.import_module("gate")
    sys.path.remove(FOLDER)


@pytest.fixture(scope="session")
def worlds(bench: ModuleType) -> ModuleType:
    return importlib.import_module("gate_worlds")
