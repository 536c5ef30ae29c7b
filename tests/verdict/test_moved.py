"""What moved between two campaigns: nothing between equals, a decline is found, and noise is not called a move."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_world import parts, plan, trial

from draftsmith import api
from draftsmith.contract.errors import EvidenceError, RegressedError
from draftsmith.contract.measure import EngineFacts
from draftsmith.contract.verdict import Interval
from draftsmith.store.evidence import recompute, write_bundle
from draftsmith.verdict.moved import speed_move


def campaign(folder: Path, run_id: str, tailored_tpot: float, version: str = "0.32.0") -> Path:
    frozen = plan()
    trials = [
        trial(frozen, arm, block, tpot, traffic)
        for block in range(4)
        for arm, tpot in (("standing", 0.045), ("tailored", tailored_tpot))
        for traffic in ("own", "general")
    ]
    facts = [
        (t.arm, EngineFacts(start_id=t.engine_start_id, version=version, device="cpu", dtype="bfloat16"))
        for t in trials
        if t.traffic == "own"
    ]
    whole = replace(parts(), run_id=run_id, plan=frozen, trials=trials, facts=facts)
    return write_bundle(folder, replace(whole, decision=recompute(frozen, trials, facts)))


def test_a_campaign_beside_itself_moved_nowhere(tmp_path: Path) -> None:
    first = campaign(tmp_path, "1", 0.0265)
    found = api.baseline_diff(first, first)
    assert {move.direction for move in found.moves} == {"same"}
    assert not found.worse
    assert not found.unlike


def test_a_decline_is_found_and_ends_with_nine(tmp_path: Path) -> None:
    from draftsmith.cli.agents import baseline

    first, second = campaign(tmp_path, "1", 0.0265), campaign(tmp_path, "2", 0.036, version="0.33.0")
    found = api.baseline_diff(first, second)
    assert len(found.worse) == 1
    assert found.worse[0].startswith("speed-up of tailored over standing at c1: 1.6")
    assert "version of tailored: 0.32.0 before, 0.33.0 after" in found.unlike
    assert not api.baseline_diff(second, first).worse
    with pytest.raises(RegressedError) as ended:
        baseline("diff", first, second)
    assert ended.value.exit_code == 9


def test_a_bent_baseline_is_refused(tmp_path: Path) -> None:
    first, second = campaign(tmp_path, "1", 0.0265), campaign(tmp_path, "2", 0.0265)
    (first / "summary.md").chmod(0o600)
    (first / "summary.md").write_text("better")
    with pytest.raises(EvidenceError, match="does not verify"):
        api.baseline_diff(first, second)


def test_noise_is_called_a_move_no_oftener_than_the_confidence_says() -> None:
    chance, called, rounds = random.Random(5), 0, 2000
    for _ in range(rounds):
        sides = []
        for _ in range(2):
            middle = 1.5 * 2.718281828 ** chance.gauss(0, 0.05)
            half = 2.718281828 ** (1.959964 * 0.05)
            sides.append(Interval(value=middle, low=middle / half, high=middle * half, confidence=0.95))
        called += speed_move("x", *sides).direction != "same"
    assert 0.03 < called / rounds < 0.07
