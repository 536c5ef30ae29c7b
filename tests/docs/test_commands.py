"""What the documents tell a reader to type is what the program accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from doc_pages import HEADING, ROOT, Shown, commands, name, pages

from draftsmith.cli.app import app
from draftsmith.cli.output import Mode

SHOWN = [shown for page in pages() for shown in commands(page, "draftsmith")]
PAGE = ROOT / "docs" / "commands.md"


@pytest.fixture(scope="module")
def program() -> Any:
    return typer.main.get_command(app)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = Mode.json
    yield
    Mode.json = before  # parsing `--json` sets it


def test_documents_show_commands() -> None:
    assert len(SHOWN) > 20


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_command_exists_and_takes_these_options(program: Any, shown: Shown) -> None:
    first, *rest = shown.words
    if first.startswith("-"):
        known = {option for parameter in program.params for option in parameter.opts}
        assert first in known | {"--help", "-h"}
        return
    assert first in program.commands
    command = program.commands[first]
    if shown.whole:
        command.make_context(first, list(rest))  # parses and checks, runs nothing
        return
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    assert used <= known | {"--help", "-h"}


def test_every_command_has_its_section_with_an_example(program: Any) -> None:
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    with_example = {
        section.split("\n", 1)[0].strip(" `")
        for section in sections
        if re.search(r"^```sh\ndraftsmith", section, re.MULTILINE)
    }
    assert set(program.commands) <= with_example
    assert not [shown for shown in commands(PAGE, "draftsmith") if shown.words[0] not in program.commands]


def test_sections_follow_the_order_of_help(program: Any) -> None:
    headings = [heading.strip("`") for heading in HEADING.findall(PAGE.read_text(encoding="utf-8"))]
    assert [heading for heading in headings if heading in program.commands] == list(program.commands)


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    missing = []
    for page in pages():
        for shown in commands(page, "make"):
            asked = [word for word in shown.words if re.fullmatch(r"[a-z]+", word)]
            missing += [f"{name(page)}: make {target}" for target in asked if target not in targets]
    assert not missing
