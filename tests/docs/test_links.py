"""A reader who follows a link arrives somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import INLINE, LINK, ROOT, anchors, name, pages, prose


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


@pytest.mark.parametrize("page", pages(), ids=name)
def test_modules_named_in_a_page_are_there(page: Path) -> None:
    named = re.findall(r"`((?:[\w.]+/)+[\w.]+\.py)(?:::\w+)?`", page.read_text(encoding="utf-8"))
    places = (ROOT, ROOT / "src" / "draftsmith")
    ours = [path for path in named if any((place / path.split("/")[0]).is_dir() for place in places)]
    assert not [path for path in ours if not any((place / path).is_file() for place in places)]


def test_the_guided_tour_is_three_walks_of_less_than_nine_stops_and_each_name_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tour = text.split("## A guided tour")[1].split("\n## ")[0]
    walks = re.split(r"^\*\*", tour, flags=re.MULTILINE)[1:]
    assert len(walks) == 3
    for walk in walks:
        stops = re.findall(r"^\d+\. (.*)$", walk, re.MULTILINE)
        assert 4 < len(stops) < 9
        for stop in stops:
            files = [(ROOT / "docs" / link) for link in LINK.findall(stop)]
            assert files, f"a stop is a place in the code: {stop}"
            code = "\n".join(path.read_text(encoding="utf-8") for path in files)
            names = [word for word in INLINE.findall(stop) if word.isidentifier()]
            assert not [word for word in names if word not in code], stop
