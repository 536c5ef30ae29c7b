"""Commands teach, answer scripts with one JSON value, and end with a code that says whose turn it is."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from draftsmith.cli import main
from draftsmith.cli.app import app
from draftsmith.cli.output import Mode

ROOT = Path(__file__).parent.parent.parent
COMMANDS = {str(info.name): info.callback for info in app.registered_commands}
HEAVY = {
    "torch",
    "vllm",
    "transformers",
    "speculators",
    "polars",
    "scipy",
    "matplotlib",
    "datasketch",
    "pandas",
    "datasets",
}


def draftsmith(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "draftsmith", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "120", **env}, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_and_each_of_its_options(name: str) -> None:
    function = COMMANDS[name]
    assert function is not None
    text = inspect.getdoc(function) or ""
    assert len(text) > 40, "one sentence that says what it does and leaves behind"
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter, hint in hints.items():
        if parameter != "return":
            [info] = [m for m in getattr(hint, "__metadata__", ()) if hasattr(m, "help")]
            assert info.help, f"{name} {parameter} has no help"


def test_every_command_is_in_the_documents() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n".join(path.read_text() for path in documents)
    missing = [name for name in COMMANDS if not re.search(rf"draftsmith {name}\b", text)]
    assert missing == []


def test_help_lists_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "draftsmith", "--help"], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}, check=True, timeout=60,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in loaded, "the list was read"
    assert loaded & HEAVY == set()
    for name in COMMANDS:
        assert re.search(rf"^\s+{name}\s", done.stdout, re.MULTILINE), name


SPEAKS_JSON = {"mcp"}  # a server whose every answer is JSON, asked or not


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_loads_nothing_heavy(name: str) -> None:
    from typer.testing import CliRunner

    before = set(sys.modules)
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.stdout or name in SPEAKS_JSON
    assert {module.split(".")[0] for module in set(sys.modules) - before} & HEAVY == set()


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The program in this process, in a folder of its own: what `draftsmith` starts, without the second of a start."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(Mode, "json", False)
        monkeypatch.setattr(sys, "argv", ["draftsmith", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), told.out, told.err)

    return call


# (arguments, exit code, what the message names)
WRONG: list[tuple[list[str], int, str]] = [
    (["run"], 2, "no target is given"),
    (["run", "--target", "nowhere", "--profile", "log.jsonl"], 2, "nowhere is no folder"),
    (["run", "--config", "none.toml"], 2, "none.toml does not exist"),
    (["run", "--set", "compare.blokcs=3"], 2, "did you mean 'blocks'?"),
    (["run", "--set", "engine.host.name=3"], 2, "'host' is not a section"),
    (["status"], 2, "no runs in"),
    (["explain", "some-run"], 2, "no runs in"),
    (["verify", "nothing"], 2, "nothing"),
    (["decide", "nothing"], 2, "nothing"),
    (["profile", "absent.jsonl"], 2, "absent.jsonl"),
    (["profile"], 2, ""),
    (["replay", "absent.jsonl", "--endpoint", "http://127.0.0.1:9"], 2, "absent.jsonl does not exist"),
    (["lint", "absent", "--target", "nowhere"], 2, "nowhere is no folder"),
    (["rollback"], 4, "no promotion to roll back"),
    (["compare", "absent.jsonl", "--arm", "a=none"], 2, "two arms"),
    (["compare", "absent.jsonl", "--arm", "a=none", "--arm", "b={broken"], 2, "neither `none`, a URL nor JSON"),
]


@pytest.mark.parametrize(("arguments", "code", "names"), WRONG, ids=[" ".join(row[0])[:40] for row in WRONG])
def test_a_mistake_is_named_with_the_next_step_and_a_code(
    arguments: list[str], code: int, names: str, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = here(*arguments, "--json")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    value = json.loads(done.stdout)
    assert names in value["error"]
    assert value["next_step"]
    assert value["exit_code"] == code
    assert value["kind"].endswith("Error")
    assert f"error: {value['error']}" in done.stderr
    assert f"next:  {value['next_step']}" in done.stderr


def test_a_mistyped_setting_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "draftsmith.toml").write_text("[trainer]\nepoch = 3\n")
    done = draftsmith("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown key 'trainer.epoch', did you mean 'epochs'?" in done.stderr


def test_the_disk_and_its_permissions_are_named_not_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from draftsmith.cli import from_system

    full = from_system(OSError(28, "No space left on device", "/secret/place/journal"))
    assert (full.exit_code, full.message) == (3, "journal: No space left on device")
    assert "free space" in full.next_step
    assert "accessible" in from_system(PermissionError(13, "Permission denied", "/x/y")).next_step


def test_json_of_a_success_is_one_value_and_the_rest_goes_elsewhere(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    turn = {"prompt_tokens": 40, "completion_tokens": 12, "content_class": "chat"}
    log.write_text("".join(json.dumps(turn) + "\n" for _ in range(5)))
    done = draftsmith("profile", str(log), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_requests"] == 5
    assert (tmp_path / "workload-profile.json").is_file()
    text = draftsmith("profile", str(log), cwd=tmp_path)
    assert "workload-profile.json" in text.stdout


def test_every_command_takes_json() -> None:
    for name, function in COMMANDS.items():
        assert function is not None
        assert "json" in inspect.signature(function).parameters or name in SPEAKS_JSON, name
    assert isinstance(app, typer.Typer)


def test_new_files_in_a_folder_are_another_request(tmp_path: Path) -> None:
    from draftsmith.api.settings import source_id

    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "monday.jsonl").write_text("{}\n")
    first, by_glob = source_id(str(folder)), source_id(str(folder / "*.jsonl"))
    assert source_id(str(folder)) == first
    (folder / "tuesday.jsonl").write_text("{}\n")
    assert source_id(str(folder)) != first
    assert source_id(str(folder / "*.jsonl")) != by_glob
