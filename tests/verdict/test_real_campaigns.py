"""The benchmark of real campaigns writes plans that the comparison's job can read; the engine itself is not started here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from draftsmith.contract.jobs import ComparePlan
from draftsmith.kit.files import read_json


@pytest.fixture
def campaigns(bench: ModuleType) -> ModuleType:
    """It lies beside the other benchmark, whose folder is on the path."""
    return importlib.import_module("campaigns")


@pytest.mark.parametrize("campaign", ["aa", "win", "ngram"])
def test_the_plan_of_a_campaign_is_one_that_the_job_reads(
    campaigns: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, campaign: str
) -> None:
    (tmp_path / "target").mkdir()
    prompts = tmp_path / "prompts.jsonl"
    row = {"messages": [{"role": "user", "content": "{}"}], "max_tokens": 8}
    prompts.write_text("".join(json.dumps(row).replace("{}", f"book for {n}") + "\n" for n in range(80)))
    written: list[Path] = []
    monkeypatch.setattr(campaigns, "run", lambda trick, options: written.append(campaigns.prepare(trick, options)) or 0)
    given = ["--target", str(tmp_path / "target"), "--prompts", str(prompts), "--out", str(tmp_path / "out")]
    assert campaigns.main([campaign, *given, "--draft", str(tmp_path / "draft")]) == 0
    plan = ComparePlan.model_validate(read_json(written[0] / "plan.json"))
    assert len(plan.arms) >= 2
    assert Path(plan.prompts["own"]).is_file()
