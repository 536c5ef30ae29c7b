"""A campaign at the shapes of a profile, from its settling to the lake: each cell a comparison of its own with its own evidence."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comparison_world import Bench

from draftsmith import api
from draftsmith.api.arms import parse_arms
from draftsmith.contract.campaign import CampaignCell
from draftsmith.contract.errors import EvidenceError, InputError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint
from draftsmith.corpus.cell_prompts import prompts_of
from draftsmith.corpus.prompts import Prompt
from draftsmith.kit.files import write_json
from draftsmith.profiling.shapes import parse_shapes, shapes_profile
from draftsmith.store.runs import RunRecord, Store

SHAPES = "24:6,60:8"
CELLS = ["isl24-osl6", "isl60-osl8"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def bench(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, shared, monkeypatch)
    yield made
    assert made.left_behind() == []


def settings(bench: Bench) -> list[str]:
    """Of a quick comparison: all but the command, its prompts and its folder."""
    words = bench.command()[3:]
    kept = [(a, b) for a, b in itertools.pairwise(words) if a == "--set"]
    return [word for pair in kept for word in pair] + [
        "--set",
        "compare.blocks=2",
        "--workspace",
        str(bench.base / "w"),
    ]


def begin(bench: Bench, *more: str, code: int = 0) -> dict[str, Any]:
    profile = bench.base / "profile.json"
    bench.call(["profile", "--aa-shapes", SHAPES, "--out", str(profile)])
    words = ["campaign", "init", "--experiment-id", "glm-0001", "--focus", "latency", "--profile", str(profile), *more]
    words += ["--prompts", str(bench.prompts), "--target", str(bench.target), "--arm", "off=none", "--arm", "same=none"]
    return bench.call([*words, *settings(bench)], code)


def exporter(trials: list[dict[str, Any]], every: float, host: str) -> str:
    """What an exporter would have printed: DRAM busier than the tensor cores, one GPU at work and one idle."""
    start = min(t["started_unix_s"] for t in trials)
    end = max(t["started_unix_s"] + t["wall_s"] for t in trials)
    lines = []
    for step in range(int((end - start) / every) + 2):
        lines.append(f"# at {start + step * every:.3f}")
        for gpu, dram in (("0", 0.6), ("1", 0.0)):
            labels = f'gpu="{gpu}",UUID="GPU-{gpu}",Hostname="{host}"'
            lines.append("# TYPE DCGM_FI_PROF_DRAM_ACTIVE gauge")
            lines.append(f"DCGM_FI_PROF_DRAM_ACTIVE{{{labels}}} {dram}")
            lines.append(f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{labels}}} {dram / 4}")
            lines.append(f"DCGM_FI_DEV_GPU_TEMP{{{labels}}} 55")
    return "\n".join(lines) + "\n"


@pytest.mark.story
def test_from_the_profiles_shapes_to_the_lake(bench: Bench) -> None:
    settled = begin(bench)
    assert [cell["name"] for cell in settled["cells"]] == CELLS
    assert settled["standing"] == "off"
    home = ["--workspace", str(bench.base / "w")]
    place = bench.base / "w" / "campaigns" / "glm-0001"
    first = bench.call(["cell", "run", *home])
    assert first["outcome"] in ("WIN", "LOSS", "INCONCLUSIVE")
    half = bench.call(["atlas", "aggregate", *home])
    assert [view["state"] for view in half["cells"]] == ["measured", "open"]
    assert half["weighted_speedup"] == {"same": None}, "a mean over part of the traffic would be none of it"
    bench.call(["cell", "run", "--all", *home])
    assert bench.call(["cell", "run", *home], code=2)["error"].startswith("every cell")

    for name, (isl, osl) in zip(CELLS, ((24, 6), (60, 8)), strict=True):
        trials = [json.loads(line) for line in (place / "cells" / name / "samples.jsonl").read_text().splitlines()]
        own = [sample for trial in trials if trial["traffic"] == "own" for sample in trial["samples"]]
        assert {sample["prompt_tokens"] for sample in own} == {isl}, "exactly the shape's length, by the engine's count"
        assert max(sample["output_tokens"] for sample in own) <= osl

    trials = [json.loads(line) for line in (place / "cells" / CELLS[0] / "samples.jsonl").read_text().splitlines()]
    scraped = bench.base / "dcgm.txt"
    scraped.write_text(exporter(trials, 0.002, trials[0]["node"]))
    raised = bench.call(["dcgm", "correlate", "--cell", CELLS[0], "--text", str(scraped), *home])
    assert raised["rigor"].startswith("L3")
    assert raised["counters"]["gpus"] == 1, "the idle GPU is another's"
    rows = raised["counters"]["rows"]
    assert [row["dram_active"] for row in rows] == pytest.approx([0.6] * len(rows))
    assert rows

    atlas = bench.call(["atlas", "aggregate", *home])
    assert [view["rigor"][:2] for view in atlas["cells"]] == ["L3", "L1"]
    assert atlas["cells"][0]["manifest_sha256"] == raised["manifest_sha256"]
    assert 0.3 < atlas["weighted_speedup"]["same"] < 3
    for view in atlas["cells"]:
        bundle = next(place.glob(f"cells/{view['cell']['name']}/bundle/*/*"))
        assert api.verify(bundle).ok
        assert "- campaign: glm-0001" in (bundle / "SOURCE.md").read_text()
        assert "campaign=glm-0001" in (bundle / "summary.md").read_text()

    lake = f"file://{bench.base}/lake"
    sent = bench.call_list(["publish", str(place), "--to", lake, *home])
    assert len(sent) == 2
    page = bench.call(["report", "render", *home])["report"]
    text = Path(page).read_text()
    assert all(name in text for name in CELLS)
    assert "rigor L3" in text
    for file in ("SOURCE.md", "summary.md"):
        said = (place / file).read_text()
        assert "campaign=glm-0001" in said
        assert sent[0]["address"] in said
    rows = api.ask_lake(lake, "SELECT campaign, cell, rigor FROM campaigns ORDER BY cell").rows
    assert rows == (("glm-0001", CELLS[0], "L3"), ("glm-0001", CELLS[1], "L1"))
    bent_and_torn(place, api.Config(workspace=str(bench.base / "w")))


def bent_and_torn(place: Path, config: api.Config) -> None:
    summary = next(place.glob("cells/*/bundle/*/*/summary.md"))
    summary.chmod(0o600)
    summary.write_text("faster")
    with pytest.raises(EvidenceError, match=r"summary\.md was altered"):
        api.atlas_aggregate(config)
    (place / "campaign.json").write_text("{")
    with pytest.raises(InputError, match="torn, or of another version"):
        api.atlas_aggregate(config)


def test_a_campaign_is_settled_once(bench: Bench) -> None:
    begin(bench)
    begin(bench)
    other = begin(bench, "--concurrency", "2", code=2)
    assert "was begun with others (cells)" in other["error"]


def test_a_cell_that_the_target_cannot_hold_is_refused_before_anything(bench: Bench) -> None:
    profile = bench.base / "long.json"
    bench.call(["profile", "--aa-shapes", "1000:100", "--out", str(profile)])
    words = ["campaign", "init", "--experiment-id", "x", "--profile", str(profile), "--prompts", str(bench.prompts)]
    words += ["--target", str(bench.target), "--arm", "a=none", "--arm", "b=none", *settings(bench)]
    told = bench.call(words, code=2)
    assert "the target holds 1,024 tokens" in told["error"]
    assert not (bench.base / "w" / "campaigns").exists()


@pytest.mark.parametrize("name", ["../out", "a/b", "", "-x", "a\nb", "x" * 200])
def test_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    config = api.Config(workspace=str(tmp_path / "w"))
    with pytest.raises(InputError, match="cannot name a campaign"):
        api.campaign_init(config, api.CampaignRequest(experiment_id=name))
    if name:
        with pytest.raises(InputError, match="no campaign"):
            api.find_campaign(config, name)


def test_what_is_missing_is_said_with_the_option_that_gives_it(tmp_path: Path) -> None:
    config = api.Config(workspace=str(tmp_path / "w"))
    with pytest.raises(InputError, match="no arms are given") as refused:
        api.campaign_init(config, api.CampaignRequest(experiment_id="a"))
    assert "--arm" in refused.value.next_step
    with pytest.raises(InputError, match="no profile given"):
        api.campaign_init(config, api.CampaignRequest(experiment_id="a", arms=("a=none", "b=none")))
    with pytest.raises(InputError, match="has no campaign"):
        api.atlas_aggregate(config)


def source(name: str, length: int) -> Prompt:
    start = sum(map(ord, name)) * 1000
    return Prompt(prompt_id=name, content_class="c", prompt_token_ids=list(range(start, start + length)), max_tokens=1)


def test_prompts_of_a_length_end_as_real_ones_do() -> None:
    pool = [source("a", 10), source("b", 30), source("c", 5)]
    cell = CampaignCell(name="x", isl=12, osl=4, weight=1, concurrency=(1,))
    made = prompts_of(cell, pool, 10)
    assert [one.prompt_id for one in made] == ["a@12", "c@12", "b@12"], "nearest first"
    assert all(len(one.prompt_token_ids or ()) == 12 and one.max_tokens == 4 for one in made)
    for one, own in zip(made, (pool[0], pool[2], pool[1]), strict=True):
        ends = min(12, len(own.prompt_token_ids or ()))
        assert (one.prompt_token_ids or [])[-ends:] == (own.prompt_token_ids or [])[-ends:]
    assert len(prompts_of(cell.model_copy(update={"isl": 400}), pool, 2)) == 2
    with pytest.raises(InputError, match="no prompt has token ids"):
        prompts_of(cell, [Prompt(prompt_id="t", content_class="c", messages=[], max_tokens=1)], 3)


def test_after_a_run_its_id_is_enough(tmp_path: Path) -> None:
    """Arms with the places of their drafts, the length that was chosen, the run's profile and its held-out prompts."""
    draft = {"method": "eagle3", "model": "/drafts/one", "num_speculative_tokens": 3}
    arms = [
        Arm(name="standing", role="standing", spec_config={"method": "mtp", "num_speculative_tokens": 3}),
        Arm(name="no-spec", role="no_spec"),
        *(
            Arm(name=f"eagle3-k{k}", role="candidate", spec_config=draft | {"num_speculative_tokens": k})
            for k in (2, 3)
        ),
    ]
    record = RunRecord(run_id="tiny-0001", key="k", target="/m", profile=(), config={}, created_unix_s=1.0)
    run = Store(tmp_path / "w").create(record)
    compare = run.phase_dir("compare")
    plan = ComparePlan(config=api.Config(), target="/m", registry="r", arms=tuple(arms), baseline="standing", points=())
    write_json(compare / "plan.json", plan)
    point = OperatingPoint(name="c1", concurrency=1)
    kept = tuple(arm for arm in arms if arm.name != "eagle3-k2")
    frozen = ComparisonPlan(arms=kept, baseline="standing", points=(point,), prompts_sha256="0", n_prompts=1)
    write_json(compare / "plan-frozen.json", frozen)
    (compare / "prompts-own.jsonl").write_text("{}\n")
    write_json(run.phase_dir("profile") / "workload-profile.json", shapes_profile(parse_shapes("24:6,60:8"), None))
    config = api.Config(workspace=str(tmp_path / "w"))
    found = api.campaign_init(config, api.CampaignRequest(experiment_id="tiny-0001", focus="throughput"))
    assert (found.record.standing, found.record.candidates) == ("standing", ("eagle3-k3",))
    assert [cell.concurrency for cell in found.record.cells] == [(8,), (8,)]
    assert found.record.prompts == str(compare / "prompts-own.jsonl")
    again = parse_arms(list(found.record.arms), [], config, standing="standing", candidates=["eagle3-k3"])
    assert [(arm.name, arm.role, arm.spec_config) for arm in again] == [(a.name, a.role, a.spec_config) for a in kept]
    (compare / "prompts-own.jsonl").unlink()  # zero retention
    with pytest.raises(InputError, match="holds no prompts") as gone:
        api.campaign_init(config, api.CampaignRequest(experiment_id="tiny-0001"))
    assert "--prompts" in gone.value.next_step
