"""Long work says where it stands: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fake_clock import FakeClock
from rich.console import Console

from draftsmith.cli.output import RunConsole
from draftsmith.cli.progress import Progress
from draftsmith.contract.job import JobProgress

HALF = JobProgress(
    stage="training", done=500, total=1000, unit="steps", note="epoch 1/2", started_unix_s=100.0, updated_unix_s=160.0
)


def screen(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, _environ={"TERM": "xterm"})


def drawn(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_a_bar_with_the_count_and_the_time_that_is_left() -> None:
    console = screen()
    Progress(console)("train", HALF)
    shown = drawn(console)
    assert "train: training 500/1,000 steps (ETA 1m00s): epoch 1/2" in shown
    assert shown.count("━") == 10, "half of twenty columns"
    full = screen()
    Progress(full)("train", HALF.model_copy(update={"done": 1000}))
    assert drawn(full).count("━") == 20
    nothing_to_count = screen()
    Progress(nothing_to_count)("train", JobProgress(stage="loading"))
    assert "━" not in drawn(nothing_to_count)


def test_a_bar_keeps_to_one_line_whatever_the_note_holds() -> None:
    console = screen(60)
    Progress(console)("compare", HALF.model_copy(update={"note": "[red]block[/red] " + "long " * 60}))
    [line] = [line for line in drawn(console).split("\n") if "compare" in line]
    assert "…" in line
    assert "[red]" in drawn(screen_of("compare", "[red]x")), "brackets are text, not colours"


def screen_of(prefix: str, note: str) -> Console:
    console = screen(120)
    Progress(console)(prefix, HALF.model_copy(update={"note": note}))
    return console


def test_what_is_printed_next_finds_the_line_empty(capsys: pytest.CaptureFixture[str]) -> None:
    console = screen()
    speaking = RunConsole(ask=False)
    speaking.progress_line = Progress(console)
    speaking.progress("train", HALF)
    speaking.note("a sentence")
    assert drawn(console).endswith("\x1b[2K"), "the last act was to erase the line"
    assert capsys.readouterr().out == "a sentence\n", "nothing of standard output is taken away"
    assert speaking.progress_line.bar is None


def test_sentences_of_a_job_are_printed_once_each_also_those_between_two_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    speaking = RunConsole(ask=False)
    speaking.progress_line = Progress(screen())
    for said in ("", "one", "one\ntwo\nthree", "one\ntwo\nthree", "of another job"):
        speaking.progress("compare", HALF.model_copy(update={"said": said}))
    assert capsys.readouterr().out.split("\n")[:-1] == [
        f"         {x}" for x in ("one", "two", "three", "of another job")
    ]


def test_elsewhere_a_line_every_ten_seconds_and_at_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    show = Progress(clock=clock)
    show.live = False
    for _ in range(21):
        show("train", HALF)
        clock.advance(1)
    show("train", HALF.model_copy(update={"stage": "checking"}))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4, "at 0, 10 and 20 seconds, and when the stage changed"
    assert lines[-1].startswith("  train: checking")


@pytest.mark.parametrize(("term", "bar"), [("xterm", True), ("dumb", False)])
def test_a_real_terminal_has_its_cursor_back_even_if_the_command_is_killed(
    term: str, bar: bool, tmp_path: Path
) -> None:
    code = (
        "import os, signal\n"
        "from draftsmith.cli.progress import Progress\n"
        "from draftsmith.contract.job import JobProgress\n"
        "Progress()('train', JobProgress(stage='training', done=1, total=2))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=environment, cwd=tmp_path, timeout=60, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "training 1/2" in shown
    assert ("━" in shown) == bar
    assert shown.rfind("\x1b[?25h") >= shown.rfind("\x1b[?25l"), "the cursor is not left hidden"
