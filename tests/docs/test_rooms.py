"""A newcomer finds any room: each package says what is in it, and each word of the glossary has its place in the code."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from doc_pages import ROOT

SOURCE = ROOT / "src" / "draftsmith"
ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_a_room_lists_its_files_with_a_sentence_each(room: Path) -> None:
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"^ *([a-z_0-9]+(?:\.py|/)) +\S", text, re.MULTILINE)
    files = {path.name for path in room.glob("*.py") if not path.name.startswith("__")}
    inner = {f"{path.parent.name}/" for path in room.glob("*/__init__.py")}
    if not listed and len(files | inner) < 4:
        return  # a sentence is enough for a small room
    assert set(listed) - {"__main__.py"} == files | inner
    assert text.split("\n")[0].strip(), "what holds in this room stands above the list"


GLOSSARY = ROOT / "docs" / "glossary.md"


def test_every_word_of_the_glossary_has_its_place() -> None:
    places = re.findall(r"\| `(draftsmith[\w.]+)` \|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(places) > 30
    lost = []
    for place in places:
        head, _, last = place.rpartition(".")
        path = ROOT / "src" / Path(*place.split("."))
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            continue
        if not hasattr(importlib.import_module(head), last):
            lost.append(place)
    assert not lost


def talk(source: str) -> list[str]:
    """What a function of the application layer may not do: print, or change a variable of its module."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Global)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"))
    ]


def test_the_application_layer_prints_nothing_and_keeps_no_globals() -> None:
    files = sorted((SOURCE / "api").rglob("*.py"))
    assert len(files) > 10
    assert {path.name: talk(path.read_text("utf-8")) for path in files if talk(path.read_text("utf-8"))} == {}
    assert talk("print(1)")
    assert talk("def f():\n    global state\n    state = 1")


UNTYPED = re.compile(r"\bplan(\[\"|\.get\()")


@pytest.mark.parametrize("room", ["phases", "loop", "work"])
def test_phases_and_jobs_know_the_fields_of_a_plan(room: str) -> None:
    files = sorted((SOURCE / room).rglob("*.py"))
    assert files
    assert [path.name for path in files if UNTYPED.search(path.read_text("utf-8"))] == []
    assert UNTYPED.search('plan["out"]')
