"""The screen of `draftsmith top`: what it shows, on a terminal and without one, and that names are text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner
from watched import add_run, config, controlled, served, under_way

from draftsmith.api.watching import watch
from draftsmith.cli.app import app
from draftsmith.cli.output import Mode
from draftsmith.cli.top import screen


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    before = Mode.json
    yield
    Mode.json = before


def drawn(*places: Path, width: int = 120) -> str:
    console = Console(width=width, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen([one.model(shown=1) for one in watch(config(places[0]), [str(place) for place in places])]))
    console.file.close()
    return console.export_text()


def test_the_screen_shows_state_figures_progress_and_events(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    served(place)
    under_way(place)
    controlled(place)
    shown = drawn(place)
    for words in (
        "stopped",
        "eagle3",
        "acceptance length 2.60",
        "20.0 ms per token",
        "train: training, 2m00s left",
        "for a yes: promote",
        "found standing",
    ):
        assert words in shown, words


def test_names_are_text_and_a_narrow_terminal_is_enough(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    served(place, target="/models/[red]x[bold]")
    add_run(place, "r1", created=1.0)
    controlled(place, why="[bold]very[/bold] [/nothing]")
    shown = drawn(place, width=60)
    assert "[red]x[bold]" in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_without_a_terminal_it_is_printed_once_and_as_json(tmp_path: Path) -> None:
    place = tmp_path / "tiny"
    add_run(place, "r1")
    shown = CliRunner().invoke(app, ["top", "--workspace", str(place)])
    assert shown.exit_code == 0
    assert "WIN (tier verdict) 1.210x" in shown.stdout
    value = json.loads(CliRunner().invoke(app, ["top", "--workspace", str(place), "--json"]).stdout)
    assert value[0]["runs"][0]["verdict"]["outcome"] == "WIN"
