"""The benchmark of docs/gate.md, in small: the same worlds, fewer campaigns, and the page itself."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
from campaign import World, plan_of

from draftsmith.verdict.decide import decide
from draftsmith.verdict.sequential import BlockLog, Rule, spread

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate_benchmark", ROOT / "benchmarks" / "gate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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
        world = World(plan, speeds, seed=seed)
        trials = world.trials(6)
        decision = decide(plan, trials, world.facts(trials), samples_sha256="x")
        pair = next(p for p in decision.pairs if p.candidate == "tailored")
        logs = [BlockLog(i, math.log(r), (f"a{i}",)) for i, r in enumerate(pair.block_ratios)]
        data = spread(logs)
        assert data
        call = Rule.of(plan.thresholds, share=bench.CANDIDATE_SHARE).settle(data).call
        assert calls[call] == pair.outcome
        seen.add(call)
    assert len(seen) >= 2


def test_recorded_pairs_drive_the_campaigns(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(plan_of(), {"standing": 0.045, "no-spec": 0.06, "tailored": 0.045}, aa=True)
    plan, samples, out = tmp_path / "plan.json", tmp_path / "samples.jsonl", tmp_path / "aa.json"
    plan.write_text(world.plan.model_dump_json())
    samples.write_text("".join(t.model_dump_json() + "\n" for t in world.trials(5)))
    assert bench.main(["--record", str(plan), str(samples), str(out)]) == 0
    pairs = json.loads(out.read_text())["pairs"]
    assert [p["block"] for p in pairs] == [0, 1, 2, 3, 4]
    bench.main(["--recorded", str(out), "--campaigns", "30"])
    assert "5 % faster, recorded" in capsys.readouterr().out


def test_the_page_holds_a_row_for_every_campaign(bench: ModuleType) -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    assert [world.name for world in bench.SCENARIOS if f"| {world.name} |" not in page] == []
