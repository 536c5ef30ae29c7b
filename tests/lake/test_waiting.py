"""A lake that is away, full or forbidden: what could not be sent waits, is sent later, and fails nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lake_world import bundle

from draftsmith import api
from draftsmith.api import shipping
from draftsmith.kit.files import write_json
from draftsmith.lake import put
from draftsmith.store.runs import RunRecord, Store


def finished(workspace: Path, run_id: str, blocks: int = 4) -> Path:
    """A run whose bundle is written."""
    record = RunRecord(run_id=run_id, key=run_id, target="/m", profile=(), config={}, created_unix_s=float(run_id))
    run = Store(workspace).create(record)
    bundle(run.folder / "bundle", run_id, blocks=blocks)
    return run.folder


def config(tmp_path: Path, **lake: object) -> api.Config:
    settings = {f"lake.{key}": value for key, value in lake.items()}
    return api.configure(workspace=tmp_path / "w", settings={"lake.url": f"file://{tmp_path}/lake", **settings})


def said(folder: Path) -> list[str]:
    return [one["state"] for one in json.loads((folder / "shipped.json").read_text())["shipments"]]


def test_what_could_not_be_sent_waits_and_is_sent_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [finished(tmp_path / "w", f"000{n}") for n in (1, 2)]
    write, full = put.write_table, OSError(28, "No space left on device")

    def refuses(*_: object) -> None:
        raise full

    monkeypatch.setattr(put, "write_table", refuses)
    first = api.ship_waiting(config(tmp_path))
    assert [(one.state, "is full" in str(one.why)) for one in first] == [("waiting", True)]
    assert said(folders[0]) == ["waiting"]
    assert not (folders[1] / "shipped.json").exists(), "one is enough to know that it is full"
    monkeypatch.setattr(put, "write_table", write)
    assert [one.state for one in api.ship_waiting(config(tmp_path))] == ["published", "published"]
    assert said(folders[0]) == ["published"]
    assert api.ship_waiting(config(tmp_path)) == (), "nothing waits any more"
    assert api.ask_lake(f"file://{tmp_path}/lake", "SELECT count(*) FROM campaigns").rows == ((2,),)


def test_strict_notes_a_draft_as_refused_and_asks_no_more(tmp_path: Path) -> None:
    folder = finished(tmp_path / "w", "0001", blocks=2)
    [one] = api.ship_waiting(config(tmp_path, strict=True))
    assert (one.state, "tier draft" in str(one.why)) == ("refused", True)
    assert api.ship_waiting(config(tmp_path, strict=True)) == ()
    assert said(folder) == ["refused"]
    assert not (tmp_path / "lake").exists()


def test_a_torn_note_and_a_bent_bundle_stand_in_nobodys_way(tmp_path: Path) -> None:
    bent, good = finished(tmp_path / "w", "0001"), finished(tmp_path / "w", "0002")
    (good / "shipped.json").write_text('{"shipm')
    summary = next(bent.glob("bundle/*/*/summary.md"))
    summary.chmod(0o600)
    summary.write_text("better")
    states = [one.state for one in api.ship_waiting(config(tmp_path))]
    assert states == ["refused", "published"], "what does not verify is not published, and holds nothing up"


def test_without_a_url_nothing_is_published(tmp_path: Path) -> None:
    folder = finished(tmp_path / "w", "0001")
    assert api.ship_waiting(api.Config(workspace=str(tmp_path / "w"))) == ()
    assert shipping.shipments(folder) == ()


def test_published_by_hand_is_remembered_too(tmp_path: Path) -> None:
    folder = finished(tmp_path / "w", "0001")
    sent = api.ship(folder, f"file://{tmp_path}/lake")
    assert shipping.addresses_of(folder) == (sent.address,)
    assert api.ship_waiting(config(tmp_path)) == ()
    write_json(folder / "shipped.json", {"shipments": []})
    assert [one.state for one in api.ship_waiting(config(tmp_path))] == ["published"], "again, which changes nothing"
