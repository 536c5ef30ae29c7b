"""What a configuration names by a path is found by jobs too, which run in folders of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.api.settings import absolute
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    (tmp_path / "general.jsonl").write_text("{}\n")
    return tmp_path


def test_paths_become_absolute_and_a_log_is_known_by_its_content(here: Path) -> None:
    given = Config.model_validate(
        {
            "engine": {"python": "python3"},
            "trainer": {"python": "venv/bin/python", "warm_start": "mine"},
            "compare": {"general_log": "general.jsonl", "drafts": ["mine"]},
        }
    )
    found, identity = absolute(given)
    assert found.compare.general_log == str(here / "general.jsonl")
    assert found.compare.drafts == (str(here / "mine"),)
    assert found.trainer.warm_start == str(here / "mine")
    assert found.trainer.python == str(here / "venv/bin/python"), (
        "as it stands: a link is part of a virtual environment"
    )
    assert found.engine.python == "python3", "a name is looked up, not placed"
    (here / "general.jsonl").write_text('{"other": 1}\n')
    assert absolute(given)[1] != identity


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("compare", {"general_log": "nowhere.jsonl"}),
        ("corpus", {"hard_log": "nowhere.jsonl", "hard_share": 0.2}),
        ("compare", {"drafts": ["nowhere"]}),
        ("trainer", {"warm_start": "nowhere"}),
    ],
)
def test_what_is_not_there_is_named_before_anything_starts(section: str, values: dict[str, Any], here: Path) -> None:
    with pytest.raises(InputError, match=rf"{section}\.\w+: nowhere"):
        absolute(Config.model_validate({section: values}))
