"""The benchmark of docs/gate.md, in small: the same worlds, fewer campaigns, and the page itself."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from campaign import World, plan_of

from draftsmith.contract.measure import Arm
from draftsmith.verdict.decide import decide
from draftsmith.verdict.first.floor import noise_floor
from draftsmith.verdict.first.sequential import BlockLog, Rule, spread

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))  # as when it runs as a program: its parts lie beside it
    spec = importlib.util.spec_from_file_location("gate_benchmark", ROOT / "benchmarks" / "gate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def test_every_aim_is_met_on_a_few_campaigns(bench: ModuleType) -> None:
    for world in bench.SCENARIOS:
        if world.aim:
            tally = bench.run(world, 150, seed=3)
            slack = 0.03 if world.aim == "<= 1 %" else 0.0
            assert bench.reached(world, tally) or tally.promoted <= slack, (world.name, tally)


def test_the_rules_that_the_gate_replaces_do_promote_equal_drafts(bench: ModuleType) -> None:
    tally = bench.run(bench.SCENARIOS[0], 300, seed=3)
    assert tally.medians > 0.3
    assert tally.peeking > 0.02
    assert tally.promoted < 0.01


def test_the_benchmark_decides_as_the_gate_does(bench: ModuleType) -> None:
    """Real trials through `decide`, and their block ratios through the benchmark's rule: the same call."""
    calls = {"faster": "WIN", "not_faster": "LOSS", "open": "INCONCLUSIVE"}
    seen = set()
    for seed in range(12):
        plan = plan_of()
        speeds = {"standing": 0.045, "no-spec": 0.06, "tailored": 0.045 / (1.0, 1.05, 1.5)[seed % 3]}
        world = World(plan, speeds, seed=seed, aa=True)
        trials = world.trials(6)
        decision = decide(plan, trials, world.facts(trials), samples_sha256="x")
        pair = next(p for p in decision.pairs if p.candidate == "tailored")
        logs = [BlockLog(i, math.log(r), (f"a{i}",)) for i, r in enumerate(pair.block_ratios)]
        floor = noise_floor(plan, trials, "c1")
        assert floor
        assert floor.usable
        data = spread(logs, equal_sd=floor.between_blocks)
        assert data
        rule = Rule.of(plan.thresholds, share=bench.CANDIDATE_SHARE, claimable=floor.smallest_claimable)
        call = rule.settle(data).call
        assert pair.speedup
        assert pair.speedup.low == pytest.approx(math.exp(rule.settle(data).low), rel=1e-4)
        assert calls[call] == pair.outcome
        seen.add(call)
    assert len(seen) >= 2


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
        world = World(plan, {"standing": 0.045, "again": 0.045, "no-spec": 0.045}, aa=True, restarts=False, seed=number)
        folder = tmp_path / f"aa-{number}"
        folder.mkdir()
        (folder / "plan.json").write_text(world.plan.model_dump_json())
        (folder / "samples.jsonl").write_text("".join(t.model_dump_json() + "\n" for t in world.trials(5)))
        folders.append(str(folder))
    out = tmp_path / "aa.json"
    assert bench.main(["--record", str(out), *folders]) == 0
    campaigns = json.loads(out.read_text())["campaigns"]
    assert [c["name"] for c in campaigns] == ["aa-0", "aa-1", "aa-2"]
    assert all(len(c["levels"]) == 5 for c in campaigns)
    assert {p["block"] for c in campaigns for p in c["pairs"]} == {0, 1, 2, 3, 4}
    noise = bench.Recorded.read(out)
    assert math.isclose(noise.scaled(0.02).total_sd, 0.02)
    bench.main(["--recorded", str(out), "--campaigns", "30"])
    assert "5 % faster, recorded noise scaled to 2 % a block" in capsys.readouterr().out


def test_the_recorded_noise_keeps_the_promise(bench: ModuleType) -> None:
    """The recorded campaigns of this project, in small: no equal arm is promoted, and no slower one."""
    for world in bench.recorded(ROOT / "benchmarks" / "aa-cpu.json"):
        if world.aim in ("0", "<= 1 %"):
            assert bench.run(world, 100, seed=5).promoted <= (0.0 if world.aim == "0" else 0.03), world.name


def test_the_page_holds_a_row_for_every_campaign(bench: ModuleType) -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    worlds = (*bench.SCENARIOS, *bench.recorded(ROOT / "benchmarks" / "aa-cpu.json"))
    assert [world.name for world in worlds if f"| {world.name} |" not in page] == []
