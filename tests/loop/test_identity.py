"""What makes a job the same job: what the operator decided, and not what a later version has to decide as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.config import Config, EngineConfig, TrainerConfig
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.job import JobResult
from draftsmith.phases.base import PhaseContext, RunOptions
from draftsmith.phases.pipeline import JOBS

RESULTS = {
    "profile": JobResult(ok=True, outputs={"profile": "p.json", "profile_sha256": "p"}),
    "corpus": JobResult(ok=True, outputs={"corpus": "c", "states": "s", "rows_sha256": "r"}),
    "capture": JobResult(ok=True, outputs={"states": "s"}),
    "train": JobResult(ok=True, outputs={"draft": "d", "draft_sha256": "w"}),
}
DECIDED = {"corpus": {"max_rows": 100}, "trainer": {"epochs": 4}, "compare": {"thresholds": {"min_gain": 0.05}}}


def inputs(phase: str, config: Config) -> dict[str, Any]:
    context = PhaseContext(
        run_id="r-1", folder=Path("w/runs/r-1"), workspace=Path("w"), config=config,
        target=TargetFacts.model_construct(path="t", sha256="target", weight_bytes=1), sources=("log.jsonl",),
        standing=None, layer_ids=(2, 4, 5), versions={"vllm": "0.32.0"}, results=RESULTS,
        options=RunOptions(sources_sha256="log"),
    )  # fmt: skip
    return JOBS[phase].plan(context).inputs


def test_it_holds_the_target_the_versions_the_inputs_and_what_was_set() -> None:
    common = {"target": "target", "versions": {"vllm": "0.32.0"}}
    config = Config.model_validate(DECIDED)
    assert inputs("profile", config) == common | {"config": {}, "sources": "log", "redact": False}
    assert inputs("corpus", config) == common | {
        "config": {"corpus": {"max_rows": 100}, "engine": {}},
        "profile": "p",
        "sources": "log",
        "layers": [2, 4, 5],
        "draft_vocab": None,
    }
    assert inputs("capture", config) == common | {"config": {"engine": {}}, "rows": "r", "layers": [2, 4, 5]}
    assert inputs("train", config) == common | {
        "config": {"trainer": {"epochs": 4}, "corpus": {"max_rows": 100}, "engine": {}},
        "rows": "r",
        "layers": [2, 4, 5],
        "parent": None,
    }
    assert inputs("compare", config) == common | {
        "config": {"engine": {}, "compare": {"thresholds": {"min_gain": 0.05}}},
        "draft": "w",
        "rows": "r",
        "standing": None,
    }


@pytest.mark.parametrize("phase", ["train", "compare"])
def test_a_setting_that_a_later_version_adds_makes_no_other_job(phase: str) -> None:
    class LaterTrainer(TrainerConfig):
        added: int = 7

    class LaterEngine(EngineConfig):
        added: bool = True

    config = Config.model_validate(DECIDED)
    later = config.model_copy(update={"trainer": LaterTrainer(epochs=4), "engine": LaterEngine()})
    assert inputs(phase, later) == inputs(phase, config)
    used = config.model_copy(update={"trainer": LaterTrainer(epochs=4, added=8), "engine": LaterEngine(added=False)})
    assert inputs(phase, used) != inputs(phase, config)


def test_a_default_that_is_written_out_is_the_same_job_and_another_value_is_not() -> None:
    assert inputs("train", Config.model_validate({"trainer": {"epochs": 6}})) == inputs("train", Config())
    assert inputs("train", Config.model_validate({"trainer": {"epochs": 5}})) != inputs("train", Config())
    assert inputs("train", Config.model_validate({"compare": {"blocks": 5}})) == inputs("train", Config())
