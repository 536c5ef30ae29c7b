"""Imports point down only: the contracts of pyproject.toml hold, and they can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent


def lint(config: Path) -> int:
    return lint_imports(config_filename=str(config), no_cache=True)


def test_imports_point_down_only_and_the_control_plane_stays_light(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert lint(ROOT / "pyproject.toml") == 0, capsys.readouterr().out


def test_the_contract_names_every_package_there_is() -> None:
    named = set(re.findall(r"draftsmith\.(\w+)", (ROOT / "pyproject.toml").read_text().split("[tool.importlinter]")[1]))
    there = {path.parent.name for path in (ROOT / "src" / "draftsmith").glob("*/__init__.py")}
    assert there <= named


def test_an_import_that_points_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "upside"
    for name in ("low", "high"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "low" / "deep.py").write_text("from upside import high\n")
    contract = (
        '\n[[tool.importlinter.contracts]]\nname = "n"\ntype = "layers"\nlayers = ["upside.high", "upside.low"]\n'
    )
    (tmp_path / "pyproject.toml").write_text(f'[tool.importlinter]\nroot_package = "upside"\n{contract}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lint(tmp_path / "pyproject.toml") == 1
