"""What was promoted is what was compared, and can be taken back, whatever it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.job import JobResult
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import write_json
from draftsmith.loop import promotion
from draftsmith.phases.base import PhaseContext
from draftsmith.serving.local import LocalServing
from draftsmith.store.runs import RunRecord, Store
from draftsmith.trainers.lint_files import weights_sha256

NGRAM = {"method": "ngram", "num_speculative_tokens": 3}


class Promotion:
    """A run whose comparison was won by `winner`, against `standing`."""

    def __init__(
        self,
        folder: Path,
        standing: dict[str, Any] | None,
        winner: dict[str, Any] | None,
        sha256: str | None = None,
        *,
        run_id: str = "r-1",
        target: str = "t",
        deploy: str | None = None,
        outcome: str = "WIN",
    ) -> None:
        decision = Decision(
            outcome=outcome, tier="verdict", reason="faster", winner="new", primary_point="c1", pairs=(), arms=(),
            plan_sha256="p", samples_sha256="s",
        )  # fmt: skip
        verdict = write_json(folder / f"verdict-{run_id}.json", decision)
        config = Config.model_validate({"serving": {"standing_config": standing, "deploy": deploy}})
        self.run = Store(folder).create(RunRecord(run_id=run_id, key=run_id, target=target, profile=(), config={}))
        outputs = {"verdict": str(verdict), "winner_config": winner, "winner_sha256": sha256}
        self.context = PhaseContext(
            run_id=run_id, folder=self.run.folder, workspace=folder, config=config,
            target=TargetFacts.model_construct(path=target), sources=(), standing=standing, layer_ids=(), versions={},
            results={"profile": JobResult(ok=True), "compare": JobResult(ok=True, outputs=outputs)},
        )  # fmt: skip
        self.serving = LocalServing(config.serving, folder)

    def promote(self) -> None:
        promotion.promote(self.run, self.context, self.serving)


def test_turning_speculation_off_can_be_rolled_back(tmp_path: Path) -> None:
    promoting = Promotion(tmp_path, NGRAM, None)
    promoting.promote()
    assert promoting.serving.current() is None
    assert promotion.rollback(tmp_path, promoting.serving).standing_config == NGRAM
    assert promoting.serving.current() == NGRAM


def test_a_draft_changed_since_it_was_compared_is_not_promoted(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"compared")
    config = {"method": "eagle3", "model": str(draft), "num_speculative_tokens": 3}
    promoting = Promotion(tmp_path, None, config, weights_sha256(draft))
    (draft / "model.safetensors").write_bytes(b"another")
    with pytest.raises(RefusedError, match="changed since the comparison"):
        promoting.promote()
    assert promoting.serving.current() is None
    (draft / "model.safetensors").write_bytes(b"compared")
    promoting.promote()
    assert (promoting.serving.current() or {})["method"] == "eagle3"
