"""The two scripts for a host without a network, with one small wheel instead of the engine."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.story

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "gpu"


def wheel(folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(folder / "packed_here-1.0-py3-none-any.whl", "w") as made:
        made.writestr("packed_here.py", "WORD = 'installed'\n")
        made.writestr("packed_here-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed-here\nVersion: 1.0\n")
        made.writestr(
            "packed_here-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr("packed_here-1.0.dist-info/RECORD", "")


def call(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["pack.sh", "run.sh"])
def test_the_shell_can_read_it(name: str) -> None:
    assert call("bash", "-n", DEPLOY / name).returncode == 0


def test_a_missing_folder_or_model_is_told(tmp_path: Path) -> None:
    assert "pack.sh DEST" in call("bash", DEPLOY / "pack.sh").stderr
    wrong = call("bash", DEPLOY / "pack.sh", tmp_path, "--model", tmp_path)
    assert (wrong.returncode, "no config.json" in wrong.stderr) == (2, True)
    assert "no part-00" in call("bash", shutil.copy(DEPLOY / "run.sh", tmp_path)).stderr


def python_with_pip() -> str | None:
    """The host's Python is expected to have pip; the one of this test need not."""
    candidates = [sys.executable, shutil.which("python3"), "/usr/bin/python3"]
    return next((str(p) for p in candidates if p and not call(p, "-m", "pip", "--version").returncode), None)


TOOLS = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
"""uv and pip of the environment that the tests run in come first."""


@pytest.mark.skipif(shutil.which("uv", path=TOOLS) is None, reason="uv resolves for the other machine")
def test_what_was_packed_runs_on_a_host_without_a_network(tmp_path: Path) -> None:
    python = python_with_pip()
    if python is None:
        pytest.skip("no Python with pip here")
    wheel(tmp_path / "wheels")
    (tmp_path / "wanted.txt").write_text("packed-here\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    offline = {"PATH": TOOLS, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "UV_NO_INDEX": "1",
               "UV_FIND_LINKS": str(tmp_path / "wheels")}  # fmt: skip
    parts = tmp_path / "parts"
    arguments = ("--requirements", tmp_path / "wanted.txt", "--model", tmp_path / "model", "--part-mib", "1")
    packed = call("bash", DEPLOY / "pack.sh", parts, *arguments, **offline)
    assert packed.returncode == 0, packed.stderr
    assert len(list(parts.glob("part-*"))) > 1, "no part is larger than asked"
    joined = b"".join(part.read_bytes() for part in sorted(parts.glob("part-*")))
    with tarfile.open(fileobj=io.BytesIO(joined)) as archive:
        sums = archive.extractfile("./SHA256SUMS")
        assert sums is not None
        assert b"SHA256SUMS" not in sums.read(), "no file can hold its own hash"

    home = tmp_path / "home"
    look = "import packed_here, draftsmith; print(packed_here.WORD, draftsmith.__file__)"
    run = (parts / "run.sh", "--shell", sys.executable, "-c", look)
    first = call("bash", *run, HOME_DIR=str(home), PYTHON=python, PYTHONPATH="")
    assert first.stdout.split()[0] == "installed", first.stderr
    assert str(home) in first.stdout, "it is the packed Draftsmith that runs"
    assert (home / "model" / "config.json").exists()

    (parts / "part-00").write_bytes(b"cut off")
    assert call("bash", *run, HOME_DIR=str(home), PYTHON=python).returncode == 0, "it is installed already"
    broken = call("bash", *run, HOME_DIR=str(tmp_path / "other"), PYTHON=python)
    assert broken.returncode == 1
    assert "copy the parts again" in broken.stderr or "do not join" in broken.stderr
    assert not (tmp_path / "other").exists(), "an installation is complete or not there"


PACKED = ["--target", "/packed/model"]


@pytest.mark.parametrize(
    ("given", "toml", "added"),
    [
        ([], "", PACKED),
        (["run", "--profile", "log.jsonl"], "", PACKED),
        (["corpus", "-p", "log.jsonl"], "[trainer]\nepochs = 2\n", PACKED),
        (["run", "--target", "mine"], "", []),
        (["run", "--target=mine"], "", []),
        (["run", "-t", "mine"], "", []),
        (["run", "-tmine"], "", []),
        (["doctor", "-c", "mine.toml"], "", []),
        (["doctor", "--config=mine.toml"], "", []),
        (["run"], 'target = "mine"\n', []),
        (["status"], "", []),
    ],
    ids=str,
)
def test_the_packed_model_is_the_target_where_nobody_names_one(
    given: list[str], toml: str, added: list[str], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    shown = tmp_path / "python"
    shown.write_text('#!/bin/sh\n[ "$1" = -c ] || printf "%s\\n" "$@"\n')
    shown.chmod(0o700)
    if toml:
        (tmp_path / "draftsmith.toml").write_text(toml)
    environment = {
        **os.environ,
        "HOME_DIR": str(tmp_path / "home"),
        "PYTHON": str(shown),
        "DRAFTSMITH_TARGET": PACKED[1],
    }
    done = subprocess.run(
        ["bash", str(DEPLOY / "run.sh"), *given], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:-1] == ["-m", "draftsmith", *(given or ["doctor"]), *added], done.stderr
