"""`--log-format json`: everything that is told on the way is one JSON object a line on standard error, with its run's id."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from draftsmith.cli import main
from draftsmith.cli.output import Mode, RunConsole, fail, say
from draftsmith.contract.errors import InputError
from draftsmith.contract.job import JobProgress
from draftsmith.kit import logs
from draftsmith.phases.base import Gate


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    before = Mode.json, Mode.json_log
    Mode.json, Mode.json_log = False, True
    yield
    Mode.json, Mode.json_log = before


def read(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_is_told_in_lines_that_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    console = RunConsole(ask=False)
    with logs.of_run("tiny-0001"):
        console.note("run      tiny-0001")
        console.phase_started("corpus", "build the corpus", None)
        seen = JobProgress(stage="reading", done=3, total=10, unit="rows", started_unix_s=1.0, updated_unix_s=2.0)
        console.progress("corpus", seen)
        console.phase_ended("corpus", Gate(False, "too few rows", ("40 needed",)), 1.5)
    say("after")
    out, err = capsys.readouterr()
    assert out == ""
    told = read(err)
    assert [one["event"] for one in told] == ["said", "phase_started", "progress", "phase_ended", "said"]
    assert [one["run_id"] for one in told] == ["tiny-0001"] * 4 + [None]
    assert (told[2]["done"], told[2]["total"], told[2]["phase"]) == (3, 10, "corpus")
    assert (told[3]["level"], told[3]["passed"], told[3]["details"]) == ("warning", False, ["40 needed"])
    assert all(one["time"].endswith("Z") for one in told)


def test_names_with_newlines_stay_in_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    say('x"\n{"level": "error"}\x1b[31m')
    fail(InputError("no run 'a\nb'", "name another"))
    told = read(capsys.readouterr().err)
    assert [one["level"] for one in told] == ["info", "error"]
    assert told[1]["exit_code"] == 2


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_command_takes_it(by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Mode.json_log = False
    words = ["--log-format", "json"] if by == "option" else []
    if by == "environment":
        monkeypatch.setenv("DRAFTSMITH_LOG_FORMAT", "json")
    monkeypatch.setattr(sys, "argv", ["draftsmith", *words, "lake", "nonsense"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    [told] = read(capsys.readouterr().err)
    assert (told["event"], told["kind"]) == ("failed", "InputError")
