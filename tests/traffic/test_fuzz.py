"""What fuzzing found stays found: the seeds of earlier runs, and a short run over every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import fuzzing, promises
from .written import FORMATS


def test_every_seed_is_read_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for data in fuzzing.seeds():
        path.write_bytes(data)
        promises.check_hostile(data, promises.outcome(path))


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    run = fuzzing.Run(tmp_path, seed=3)
    run.start()
    for number in range(120):
        run.step(number)
    assert run.faults == {}
    assert run.documents.total() == 120
    assert len(run.seen) > len(FORMATS)


def test_a_fault_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a reader that loses a record is seen, and the document that showed it is kept."""
    whole = promises.read_records
    monkeypatch.setattr(promises, "read_records", lambda *given, **more: list(whole(*given, **more))[1:])
    run = fuzzing.Run(tmp_path, seed=3)
    run.start()
    for number in range(20):
        run.step(number)
    assert any("another number of records" in name for name in run.faults)
    assert (tmp_path / "fault-001.bin").exists()
