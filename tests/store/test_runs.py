"""A run that cannot be read stands in nobody's way, and is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftsmith.contract.errors import InputError
from draftsmith.loop.reuse import take_over
from draftsmith.store import runs
from draftsmith.store.runs import Run, RunRecord, Store

BROKEN = {
    "torn": '{"run_id": "b-torn", "key',
    "newer": json.dumps({"run_id": "b-newer", "key": "k", "target": "t", "profile": [], "config": {}, "canary": 1}),
    "of another kind": "[1, 2]",
    "empty": "",
    "deep": "[" * 100_000,
    "no text": "\\ud800",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path)
    for name in ("a", "c"):
        found.create(RunRecord(run_id=name, key=name, target="t", profile=(), config={}, created_unix_s=1.0))
    return found


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_run_is_skipped_and_named(how: str, store: Store) -> None:
    broken = store.root / "b"
    broken.mkdir()
    (broken / "run.json").write_text(BROKEN[how])
    before = (broken / "run.json").read_bytes()
    assert [run.folder.name for run in store.runs()] == ["a", "c"]
    assert store.unreadable() == ["b"]
    assert store.get(None).folder.name == "c"
    assert store.find("a") is not None
    with pytest.raises(InputError, match=r"b/run\.json cannot be read"):
        _ = store.get("b").record
    assert (broken / "run.json").read_bytes() == before


def test_a_workspace_with_nothing_but_damage_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs" / "b").mkdir(parents=True)
    (tmp_path / "runs" / "b" / "run.json").write_text("")
    with pytest.raises(InputError, match="skipped: b"):
        Store(tmp_path).get(None)


def test_a_journal_of_a_newer_version_is_named_and_nothing_is_taken_over_from_it(store: Store) -> None:
    event = {"number": 1, "at_unix_s": 1.0, "kind": "swapped", "phase": None, "data": {}}
    (store.root / "a" / "journal" / "000001.json").write_text(json.dumps(event))
    with pytest.raises(InputError, match=r"journal/000001\.json cannot be read"):
        Run(store.root / "a").events()
    assert take_over(store.get("c"), "profile", "x") is None


def test_each_record_is_read_once_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for number in range(5):
        store.create(
            RunRecord(
                run_id=f"r{number}", key=f"k{number}", target="/m", profile=(), config={}, created_unix_s=9.0 - number
            )
        )
    read: list[str] = []
    real = runs.read_json
    monkeypatch.setattr(runs, "read_json", lambda path: read.append(path.parent.name) or real(path))
    assert [run.folder.name for run in store.runs()] == ["r4", "r3", "r2", "r1", "r0"]
    assert store.get(None).folder.name == "r0"
    found = store.find("k3")
    assert found is not None
    assert found.folder.name == "r3"
    assert sorted(read) == sorted(3 * ["r0", "r1", "r2", "r3", "r4"])
