"""`--log-format json`: everything that is told on the way is one JSON object a line on standard error, with its run's id."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from draftsmith.cli import main
from draftsmith.cli.output import Mode, RunConsole, fail, say, show
from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError
from draftsmith.contract.job import JobProgress
from draftsmith.contract.jobs import PhaseResult
from draftsmith.kit import logs
from draftsmith.lake.query import Answer
from draftsmith.phases.base import Gate
from draftsmith.work.job import Job, run_job


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


def test_a_result_is_json_whatever_it_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mode, "json", True)
    row = (math.nan, math.inf, b"\x00\xff", datetime.timedelta(days=1), decimal.Decimal("1.5"), "\u00e9\u202e")
    for value in (Answer(sql="x", columns=(), rows=(row,)), {"rows": [row]}):
        show(value)
        told = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
        assert told["rows"][0] == [None, None, "AP8=", "P1D", "1.5", "\u00e9\u202e"]


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
    monkeypatch.setenv(logs.FORMAT, "json" if by == "environment" else "text")
    monkeypatch.setattr(sys, "argv", ["draftsmith", *words, "lake", "nonsense"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    [told] = read(capsys.readouterr().err)
    assert (told["event"], told["kind"]) == ("failed", "InputError")
    assert logs.of_job("tiny-0001") == {"DRAFTSMITH_RUN_ID": "tiny-0001", "DRAFTSMITH_LOG_FORMAT": "json"}


class Nothing(Frozen):
    """A plan without a wish."""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_job_writes_its_log_the_same_way(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs.FORMAT, form)
    monkeypatch.setattr("draftsmith.work.job.signal.signal", lambda *_: None)
    (tmp_path / "plan.json").write_text("{}")

    def body(job: Job[Nothing]) -> PhaseResult:
        job.progress("reading", 0, 10, "rows")
        job.progress("reading", 10, 10, "rows")
        job.say("half of them are short")
        raise ZeroDivisionError("a line\nand another")

    with logs.of_run("tiny-0001"):
        assert run_job(body, Nothing, ["job", str(tmp_path / "plan.json")]) == 1
    err = capsys.readouterr().err
    if form == "text":
        assert err.startswith("Traceback")
        return
    told = read(err)
    assert [one["event"] for one in told] == ["stage", "said", "traceback", "failed"]
    assert {one["run_id"] for one in told} == {"tiny-0001"}
    assert "ZeroDivisionError" in told[2]["traceback"]
    assert (told[3]["kind"], told[3]["next_step"]) == ("DraftsmithError", "see stderr.log of the job")
