"""A reader who follows a link arrives somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import LINK, ROOT, anchors, name, pages, prose


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_inside_the_project_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, anchor = link.partition("#")
        goal = (page.parent / place).resolve() if place else page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


def test_every_page_of_docs_is_in_its_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {
        (index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))
    }
    missing = [
        name(page) for page in pages() if page.is_relative_to(ROOT / "docs") and page != index and page not in listed
    ]
    assert not missing
