"""The benchmark of docs/gate.md, in small: the same worlds, fewer campaigns, and the page itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import pytest
from campaign import World, plan_of

from draftsmith.contract.measure import Arm

ROOT = Path(__file__).parents[2]


def world(bench: ModuleType, name: str) -> object:
    return next(w for w in (*bench.A_A, *bench.TRUE) if w.name == name)


@pytest.mark.parametrize(
    "name",
    [
        "A/A, quiet (2 %)",
        "A/A, prompts differ 30 %",
        "A/A, 1 start in 2 is 1.65x slower",
        "A/A, starts differ 40 %",
        "A/A, neighbour hits the baseline's first pass only",
        "A/A, one start for all, 1 in 2 is 1.65x slower",
        "5 % slower, 2 % noise",
        "Simpson: short answers 1.6x faster, long 5 % slower",
    ],
)
def test_what_is_no_faster_is_hardly_ever_promoted(bench: ModuleType, name: str) -> None:
    tally = bench.run(world(bench, name), 20, seed=3)
    assert tally.promoted <= 1, tally


@pytest.mark.parametrize("name", ["2x, 2 % noise", "2x, 30 % noise", "1.5x, 2 % noise"])
def test_large_gains_are_found(bench: ModuleType, name: str) -> None:
    tally = bench.run(world(bench, name), 10, seed=3)
    assert tally.promoted >= 9, tally


def test_the_rules_beside_the_gate_do_promote_equal_drafts(bench: ModuleType) -> None:
    tally = bench.run(world(bench, "A/A, prompts differ 30 %"), 30, seed=3, rivals=30)
    assert tally.first + tally.peeking + tally.sequences > 0


def test_recorded_campaigns_drive_the_simulated_ones(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noise goes from raw trials of equal servers into the file, and from there into the worlds."""
    equal = [
        Arm(name="standing", role="standing"),
        Arm(name="again", role="other"),
        Arm(name="no-spec", role="no_spec"),
    ]
    folders = []
    for number in range(3):
        plan = plan_of().model_copy(update={"arms": tuple(equal)})
        speeds = {"standing": 0.045, "again": 0.045, "no-spec": 0.045}
        measured = World(plan, speeds, aa=True, restarts=False, seed=number)
        folder = tmp_path / f"aa-{number}"
        folder.mkdir()
        (folder / "plan.json").write_text(measured.plan.model_dump_json())
        (folder / "samples.jsonl").write_text("".join(t.model_dump_json() + "\n" for t in measured.trials(5)))
        folders.append(str(folder))
    out = tmp_path / "aa.json"
    assert bench.main(["--record", str(out), *folders]) == 0
    campaigns = json.loads(out.read_text())["campaigns"]
    assert [c["name"] for c in campaigns] == ["aa-0", "aa-1", "aa-2"]
    assert all(len(c["levels"]) == 5 for c in campaigns)
    assert {p["block"] for c in campaigns for p in c["pairs"]} == {0, 1, 2, 3, 4}
    noise = bench.Recorded.read(out)
    assert math.isclose(noise.scaled(0.02).total_sd, 0.02)
    bench.main(["--recorded", str(out), "--campaigns", "2", "--rivals", "0", "--only", "2x"])
    assert "2x, noise of aa" in capsys.readouterr().out
