"""What an older version left still resumes, verifies and rolls back.

old_workspace.zip was made by version 0.1.0 as it was before the application layer, with the stand-ins for engine and
trainer: a run whose comparison is finished, the evidence it published, and the state after a promotion. `{base}` stands for
the operator's folder. Weights and rows are left out: nothing that follows a comparison reads them.
"""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path

import pytest
from loop_world import World

from draftsmith.api.settings import source_id
from draftsmith.cli import main
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.loop import promotion
from draftsmith.serving.local import LocalServing
from draftsmith.store.evidence import verify_bundle
from draftsmith.store.state import read_state
from draftsmith.trainers.target import read_target

OLD = Path(__file__).with_name("old_workspace.zip")


def unpack(part: str, to: Path, base: Path) -> Path:
    """The files below `part`, with the operator's folder in place of `{base}`."""
    with zipfile.ZipFile(OLD) as kept:
        for name in kept.namelist():
            if name.startswith(part):
                place = to / name.removeprefix(part).lstrip("/") if part.endswith("/") else to / name
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                place.write_bytes(kept.read(name).replace(b"{base}", str(base).encode()))
    return to


def old_key(world: World) -> str:
    """How that version named a request: by the target, the traffic, and the settings that its file holds, as JSON."""
    settings = {name: value for name, value in tomllib.loads(world.file.read_text()).items() if value != {}}
    settings["engine"]["start_timeout_s"] = float(settings["engine"]["start_timeout_s"])
    sources = digest({str(world.log): source_id(str(world.log)), "options": {}})
    return digest({"target": read_target(world.target).sha256, "sources": sources, "config": settings})


def test_a_run_that_an_older_version_began_is_gone_on_with(world: World) -> None:
    unpack("workspace/", world.workspace, world.base)
    unpack("draftsmith.toml", world.base, world.base)
    record = world.folder() / "run.json"
    value = json.loads(record.read_text())
    record.write_text(json.dumps(value | {"key": old_key(world)}))
    before = world.counted()
    assert before["phase_done", "compare"] == 1
    assert before["phase_done", "promote"] == 0

    world.run()
    after = world.counted()
    assert len(world.runs()) == 1, "the same request is the same run"
    done = ("profile", "corpus", "capture", "train", "compare")
    assert [after["submitted", phase] for phase in done] == [1] * 5, "nothing that was finished is done again"
    assert after["finished", "publish"] == 1
    assert [entry["event"] for entry in world.state()["history"]] == ["kept"]
    [manifest] = world.folder().glob("bundle/*/*/MANIFEST.json")
    assert verify_bundle(manifest.parent).ok


def test_evidence_of_an_older_version_verifies_and_a_changed_byte_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = unpack("bundle/", tmp_path / "bundle", tmp_path)
    monkeypatch.setattr("sys.argv", ["draftsmith", "verify", str(bundle)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code, capsys.readouterr()
    samples = bundle / "samples.jsonl"
    samples.write_bytes(samples.read_bytes().replace(b'"output_tokens":16', b'"output_tokens":17', 1))
    assert not verify_bundle(bundle).ok


def test_a_promotion_of_an_older_version_is_rolled_back(tmp_path: Path) -> None:
    workspace = unpack("promoted/", tmp_path / "workspace", tmp_path)
    serving = LocalServing(Config().serving, workspace)
    assert (serving.current() or {})["method"] == "eagle3"
    promotion.rollback(workspace, serving)
    assert serving.current() is None
    state = read_state(workspace)
    assert state is not None
    assert [entry.event for entry in state.history] == ["promoted", "rolled_back"]
    assert state.champion_draft is None
