"""A run that never came to a comparison has a report all the same, and it says what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loop_world import Travelled

from draftsmith import api
from draftsmith.contract.errors import InputError
from draftsmith.store.runs import RunRecord, Store


def test_what_there_is_is_shown_and_what_is_missing_is_named(travelled: Travelled) -> None:
    world = travelled.to("compare")
    found = json.loads(world.call("report", "--json").stdout)
    assert found["missing"] == ["compare", "promote"]
    page = Path(found["report"]).read_text()
    assert "80 requests" in page, "the profile"
    assert "Training" in page
    assert "No verdict" in (Path(found["report"]).parent / "summary.md").read_text()
    verified = json.loads(world.call_plain("verify", str(Path(found["report"]).parent), "--json", code=8).stdout)
    assert verified["ok"] is True
    said = world.call("report").stdout
    assert "not included, because not done: compare, promote" in said
    before = world.counted()
    world.run()
    assert world.counted()["submitted", "publish"] == 1, "the report of then is not taken for the evidence of now"
    assert before["submitted", "publish"] == 0
    assert json.loads(world.call("report", "--json").stdout)["missing"] == []


def test_a_report_of_the_traffic_alone(travelled: Travelled) -> None:
    world = travelled.to("capture")
    found = json.loads(world.call("report", "--json").stdout)
    assert found["missing"] == ["capture", "train", "compare", "promote"]
    assert "80 requests" in Path(found["report"]).read_text()


def test_a_run_without_any_finished_phase_has_nothing_to_report(tmp_path: Path) -> None:
    run = Store(tmp_path).create(RunRecord(run_id="r-1", key="k", target="t", profile=(), config={}))
    run.append("started", standing=None)
    with pytest.raises(InputError, match="nothing to report yet"):
        api.report(api.configure(workspace=tmp_path))
