"""The page on the profile names every format, and what each cannot give."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.importers import CATALOG

PAGE = (Path(__file__).parents[2] / "docs" / "profile.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CATALOG)
def test_every_format_has_its_row(name: str) -> None:
    (row,) = [line for line in PAGE.split("\n") if line.startswith(f"| `{name}` |")]
    assert row.endswith(f"| {', '.join(CATALOG[name].lacks) or '-'} |")


def test_every_class_is_named() -> None:
    assert f"`{' '.join(CLASSES)}`" in PAGE
