"""Configurations of published models: read beside the repository where they lie, never kept in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = Path(os.environ.get("DRAFTSMITH_PUBLISHED") or ROOT.parent / "shared" / "targets")
NAMES = sorted(path.name for path in TARGETS.iterdir()) if TARGETS.is_dir() else []


def published(name: str) -> dict[str, Any]:
    """config.json of a published model; skips where the collection is not beside the repository."""
    path = TARGETS / name / "config.json"
    if not path.is_file():
        pytest.skip("the collection of published configurations is not beside this repository")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
