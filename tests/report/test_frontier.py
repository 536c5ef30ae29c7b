"""The frontier: levers join it, are refuted by what was measured, are kept over runs, and are ranked by value and cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import demo
import pytest

from draftsmith import api
from draftsmith.api import frontiers
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.frontier import Evidence, Frontier, FrontierLever
from draftsmith.kit.files import write_json
from draftsmith.report.frontier import handoff, lines_of, updated
from draftsmith.report.next_lever import next_levers
from draftsmith.report.parts import ReportParts


def by(run_id: str) -> Evidence:
    return Evidence(run_id=run_id, manifest_sha256="ab" * 32, at_unix_s=1.0)


@pytest.fixture(scope="module")
def whole() -> ReportParts:
    return demo.parts()


@pytest.fixture(scope="module")
def first(whole: ReportParts) -> Frontier:
    return updated(Frontier(), whole, by("run-1"), Config())


def lever(key: str, **changed: Any) -> FrontierLever:
    words = {"title": key, "why": "w", "expected": "e", "gate": "g", "evidence": by("run-0")}
    return FrontierLever(**{"key": key, **words, **changed})


def test_it_holds_what_the_evidence_speaks_for(whole: ReportParts, first: Frontier) -> None:
    assert {one.key for one in first.open} >= {one.key for one in next_levers(whole)}
    timed = {timing.phase: timing.wall_s for timing in whole.timings}
    epochs = next((one for one in first.levers if one.key in ("epochs", "late_positions")), None)
    if epochs is not None and {"train", "compare"} <= set(timed):
        assert epochs.cost_s == timed["train"] + timed["compare"]


def test_value_an_hour_ranks_and_what_is_urgent_comes_first() -> None:
    found = Frontier(
        levers=(
            lever("dear", gain=1.30, cost_s=10 * 3600.0),
            lever("cheap", gain=1.10, cost_s=0.5 * 3600.0),
            lever("knows", gain=None, urgent=True),
            lever("gone", state="refuted", because="slower"),
        )
    )
    assert [one.key for one in found.open] == ["knows", "cheap", "dear"]
    assert "gone" not in " ".join(lines_of(found)[:1])


def test_an_arm_that_lost_is_refuted_with_its_reason_and_evidence(whole: ReportParts, first: Frontier) -> None:
    assert whole.decision is not None
    lost = [pair for pair in whole.decision.pairs if pair.outcome == "LOSS" and pair.point == whole.primary]
    assert lost, "the demo has an arm that loses"
    refuted = {one.key: one for one in first.in_state("refuted")}
    assert set(refuted) == {f"serve:{pair.candidate}" for pair in lost}
    one = refuted[f"serve:{lost[0].candidate}"]
    assert one.because == lost[0].reason
    assert one.refuted_by is not None
    assert one.refuted_by.run_id == "run-1"
    assert lost[0].reason in handoff(first)


def test_a_lever_that_was_tried_and_lost_stays_refuted_over_runs(whole: ReportParts) -> None:
    assert whole.decision is not None
    before = Frontier(levers=(lever("epochs", tried={"trainer.epochs": "6"}, gain=1.2),))
    lost = replace(whole, decision=whole.decision.model_copy(update={"outcome": "LOSS", "reason": "0.97x"}))
    longer = Config.model_validate({"trainer": {"epochs": 12}})
    after = updated(before, lost, by("run-2"), longer)
    [one] = [one for one in after.in_state("refuted") if one.key == "epochs"]
    assert "trainer.epochs 6 to 12" in str(one.because)
    assert "0.97x" in str(one.because)
    again = updated(after, whole, by("run-3"), longer)
    assert "epochs" in {one.key for one in again.in_state("refuted")}, "kept, whatever speaks for it again"
    assert updated(before, lost, by("run-2"), Config()).in_state("refuted") != after.in_state("refuted"), "not tried"


def test_what_newer_evidence_no_longer_shows_is_settled_not_lost(whole: ReportParts) -> None:
    before = Frontier(levers=(lever("wiring", urgent=True),))
    assert "wiring" not in {one.key for one in next_levers(whole)}
    after = updated(before, whole, by("run-2"), Config())
    assert [one.key for one in after.in_state("settled")] == ["wiring"]
    only_profile = ReportParts(profile=demo.profile())
    assert "wiring" in {one.key for one in updated(before, only_profile, by("run-2")).open}, "a profile settles nothing"


def test_an_empty_frontier_names_its_ceiling() -> None:
    assert "the ceiling is not known" in lines_of(Frontier())[0]
    assert "91 % of what memory allows" in lines_of(Frontier(wall="mine reaches 91 % of what memory allows"))[0]


def test_the_last_words_name_unlock_cost_and_gate(first: Frontier) -> None:
    told = lines_of(first)
    assert told[0].startswith("next ")
    assert [line.split(":")[0].strip() for line in told[1:4]] == ["expected unlock", "cost", "gate"]


def test_operators_close_and_open_levers(tmp_path: Path, first: Frontier) -> None:
    config = api.Config(workspace=str(tmp_path))
    write_json(tmp_path / "frontier.json", first)
    key = first.open[0].key
    with pytest.raises(InputError, match="with its reason"):
        api.refute_lever(config, key, " ")
    with pytest.raises(InputError, match="no lever 'nonsense'"):
        api.refute_lever(config, "nonsense", "no")
    api.refute_lever(config, key, "no more\nrows", "run-9")
    assert key not in {one.key for one in api.frontier(config).open}
    assert "run-9" in (tmp_path / "HANDOFF.md").read_text()
    api.reopen_lever(config, key)
    assert key in {one.key for one in api.frontier(config).open}


def test_a_torn_or_newer_file_is_named_and_stops_no_measurement(tmp_path: Path) -> None:
    config = api.Config(workspace=str(tmp_path))
    for text in ("{", '{"schema": "draftsmith_frontier_v9"}'):
        (tmp_path / "frontier.json").write_text(text)
        with pytest.raises(InputError, match="torn, or of another version"):
            api.frontier(config)
        assert frontiers.quietly(lambda: api.frontier(config)) is None
        assert (tmp_path / "frontier.json").read_text() == text
