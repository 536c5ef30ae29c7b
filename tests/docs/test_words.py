"""Plain words: what an operator reads uses the field's terms. The phrases below were riddles to readers, and do not come back."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_pages import ROOT, name, pages, prose

import draftsmith
from draftsmith.cli.app import app
from draftsmith.contract.base import Frozen

RIDDLES = re.compile(
    r"at most so many|\bso many times\b|\bafter so long\b|\bfor so long\b|\bso long before\b|in vain|gone on with|goes on where"
    r"|\bvouch for|by then is given up|\btaken for\b|\b(is|are) told\b|\btheirs\b",
    re.IGNORECASE,
)
# Pages that argue, record, or are written by a program, rather than tell an operator what to do.
ESSAYS = ("docs/decisions/", "docs/results.md", "docs/targets.md", "CHANGELOG.md")


def settings() -> Iterator[tuple[str, str]]:
    """(place, sentence) of every described field of a value on disk or in a file of settings."""
    for package in ("contract", "backends", "serving"):
        for found in pkgutil.walk_packages([str(Path(draftsmith.__file__).parent / package)], f"draftsmith.{package}."):
            importlib.import_module(found.name)
    todo = [Frozen]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        for key, field in kind.model_fields.items():
            if field.description and kind.__module__.startswith("draftsmith."):
                yield f"{kind.__module__}.{kind.__name__}.{key}", field.description


def helps() -> Iterator[tuple[str, str]]:
    """(command, text) of everything that --help prints."""
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        yield str(command.name), command.help or ""
        for parameter in command.params:
            yield f"{command.name} {parameter.name}", getattr(parameter, "help", None) or ""


def riddles(texts: Iterator[tuple[str, str]]) -> list[str]:
    return [f"{place}: {found[0]}" for place, text in texts for found in RIDDLES.finditer(text)]


def test_settings_say_it_plainly() -> None:
    assert len(list(settings())) > 200
    assert not riddles(settings())


def test_help_says_it_plainly() -> None:
    assert len(list(helps())) > 100
    assert not riddles(helps())


@pytest.mark.parametrize("page", [page for page in pages() if not name(page).startswith(ESSAYS)], ids=name)
def test_pages_say_it_plainly(page: Path) -> None:
    assert not riddles(iter([(name(page), prose(page.read_text(encoding="utf-8")))]))


def test_docstrings_say_it_plainly() -> None:
    def docstrings() -> Iterator[tuple[str, str]]:
        for path in sorted((ROOT / "src").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield str(path.relative_to(ROOT)), ast.get_docstring(node) or ""

    assert len(list(docstrings())) > 3000
    assert not riddles(docstrings())


def test_a_riddle_is_found() -> None:
    assert riddles(iter([("here", "at most so many requests; default: all")]))
    assert (ROOT / "docs" / "glossary.md").exists()


RIDDLE_NAMES = frozenset(
    [
        "found",
        "told",
        "asked",
        "heard",
        "said",
        "one",
        "some",
        "those",
        "what",
        "mine",
        "ours",
        "theirs",
        "hers",
        "stood",
        "who",
        "whose",
        "here",
        "there",
        "gone",
    ]
)


def riddle_names(source: str) -> list[str]:
    """`line: name` of each variable and parameter that does not say what it holds. Fields of values are not looked at."""
    tree = ast.parse(source)
    fields = {id(line.target) for kind in ast.walk(tree) if isinstance(kind, ast.ClassDef) for line in kind.body
              if isinstance(line, ast.AnnAssign)}  # fmt: skip
    stored = [
        (node.lineno, node.arg if isinstance(node, ast.arg) else node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields)
    ]
    return [f"{line}: {name}" for line, name in stored if name in RIDDLE_NAMES]


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_variables_say_what_they_hold(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 10
    assert [
        f"{path.relative_to(ROOT)}:{name}" for path in files for name in riddle_names(path.read_text("utf-8"))
    ] == []


@pytest.mark.parametrize("source", ["found = 1", "def f(told): ...", "[one for one in ()]", "lambda what: 0"])
def test_a_name_that_says_nothing_is_found(source: str) -> None:
    assert riddle_names(source)
    assert not riddle_names("class Line:\n    told: bool\n")
