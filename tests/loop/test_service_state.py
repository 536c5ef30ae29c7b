"""What a workspace serves is switched by one command at a time, and what it remembers is of the run at hand."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from promotions import NGRAM, Promotion

from draftsmith.contract.errors import RefusedError
from draftsmith.loop import promotion
from draftsmith.loop.service import remember_run
from draftsmith.serving.local import LocalServing
from draftsmith.store.state import read_state

OTHER = {"method": "ngram", "num_speculative_tokens": 5}


def events(workspace: Path) -> list[tuple[str | None, str]]:
    state = read_state(workspace)
    return [(entry.run_id, entry.event) for entry in state.history] if state else []


class Slow:
    """A place of serving whose switch takes until `go` is set."""

    def __init__(self, serving: LocalServing) -> None:
        self.serving, self.inside, self.go = serving, threading.Event(), threading.Event()

    def current(self) -> dict[str, Any] | None:
        return self.serving.current()

    def fingerprint(self) -> None:
        return None

    def switch(self, expected: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        self.inside.set()
        self.go.wait(60)
        self.serving.switch(expected, new)


def test_of_two_promotions_at_once_the_second_is_refused_and_none_is_lost(tmp_path: Path) -> None:
    """Both were compared with the same standing configuration; what the second one replaces is no longer it."""
    first, second = Promotion(tmp_path, None, NGRAM), Promotion(tmp_path, None, OTHER, run_id="r-2")
    slow = Slow(first.serving)
    said: list[str] = []

    def promote_second() -> None:
        try:
            second.promote()
        except RefusedError as error:
            said.append(error.message)

    one = threading.Thread(target=lambda: promotion.promote(first.run, first.context, slow))
    two = threading.Thread(target=promote_second)
    one.start()
    assert slow.inside.wait(60)
    two.start()
    slow.go.set()
    one.join(60)
    two.join(60)
    assert said == ["the standing configuration is not the one that was compared"]
    assert first.serving.current() == NGRAM
    assert events(tmp_path) == [("r-1", "promoted")]


def test_a_rollback_does_not_pass_a_promotion_that_is_under_way(tmp_path: Path) -> None:
    first = Promotion(tmp_path, None, NGRAM)
    first.promote()
    slow = Slow(LocalServing(first.context.config.serving, tmp_path))
    second = Promotion(tmp_path, NGRAM, OTHER, run_id="r-2")
    one = threading.Thread(target=lambda: promotion.promote(second.run, second.context, slow))
    one.start()
    assert slow.inside.wait(60)
    undone: list[Any] = []
    two = threading.Thread(target=lambda: undone.append(promotion.rollback(tmp_path, first.serving)))
    two.start()
    slow.go.set()
    one.join(60)
    two.join(60)
    assert events(tmp_path) == [("r-1", "promoted"), ("r-2", "promoted"), ("r-2", "rolled_back")]
    assert first.serving.current() == NGRAM


def test_a_switch_by_other_hands_while_the_disk_was_slow_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoting = Promotion(tmp_path, None, NGRAM)
    sync = os.fsync

    def slow_disk(handle: int) -> None:
        sync(handle)
        (tmp_path / "standing.json").write_text(json.dumps(OTHER))

    with monkeypatch.context() as patch:
        patch.setattr("draftsmith.serving.local.write_atomic", _on_a_slow_disk(slow_disk))
        with pytest.raises(RefusedError, match="not the one that was compared"):
            promoting.promote()
    assert promoting.serving.current() == OTHER
    assert events(tmp_path) == []


def _on_a_slow_disk(sync: Any) -> Any:
    from draftsmith.kit import files

    def write(path: Path, data: str, **keywords: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("draftsmith.kit.files.os.fsync", sync)
            return files.write_atomic(path, data, **keywords)

    return write


def test_the_standing_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "etc" / "real.json", tmp_path / "standing.json"
    real.parent.mkdir()
    real.write_text("null")
    real.chmod(0o644)
    link.symlink_to(real)
    Promotion(tmp_path, None, NGRAM).promote()
    assert link.is_symlink()
    assert json.loads(real.read_text()) == NGRAM
    assert real.stat().st_mode & 0o777 == 0o644


# -- whose state it is -------------------------------------------------------------------------------------------------


def begun(workspace: Path, run_id: str, standing: dict[str, Any] | None, deploy: str | None = None) -> Promotion:
    """A run that has read what serves and has done nothing yet."""
    found = Promotion(workspace, standing, OTHER, run_id=run_id, target=f"/models/{run_id}", deploy=deploy)
    found.run.append("started", standing=standing, new=False)
    remember_run(found.run, found.context)
    return found


def test_the_state_exists_before_the_first_phase_and_is_of_the_present_run(tmp_path: Path) -> None:
    begun(tmp_path, "r-1", None, "one")
    state = read_state(tmp_path)
    assert state is not None
    assert (state.experiment_id, state.target, state.served_deploy) == ("r-1", "/models/r-1", "one")
    begun(tmp_path, "r-2", NGRAM, "two")
    state = read_state(tmp_path)
    assert state is not None
    assert (state.experiment_id, state.target, state.served_deploy) == ("r-2", "/models/r-2", "two")
    assert state.standing_config == NGRAM, "switched by other hands between the runs"
    assert state.history == ()


def test_an_older_run_that_goes_on_does_not_forget_a_later_promotion(tmp_path: Path) -> None:
    older = begun(tmp_path, "r-1", None)
    newer = begun(tmp_path, "r-2", None)
    newer.promote()
    remember_run(older.run, older.context)
    state = read_state(tmp_path)
    assert state is not None
    assert state.experiment_id == "r-1"
    assert state.standing_config == OTHER
    with pytest.raises(RefusedError, match="not the one that was compared"):
        Promotion(tmp_path, None, NGRAM, run_id="r-1").promote()


def test_a_promotion_that_is_repeated_after_others_wrote_is_told_once(tmp_path: Path) -> None:
    promoting = Promotion(tmp_path, None, NGRAM)
    promoting.promote()
    other = Promotion(tmp_path, NGRAM, NGRAM, run_id="r-2", outcome="LOSS")
    other.promote()
    promoting.promote()
    assert events(tmp_path) == [("r-1", "promoted"), ("r-2", "kept")]
