"""What was promoted is what was compared, and can be taken back, whatever it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promotions import NGRAM, Promotion

from draftsmith.contract.base import digest
from draftsmith.contract.errors import RefusedError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Thresholds, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import write_json
from draftsmith.loop import promotion
from draftsmith.store import chain
from draftsmith.store.evidence import recompute
from draftsmith.trainers.lint_files import weights_sha256


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


@pytest.mark.parametrize(("what", "said"), [
    ("verdict", "does not follow from its samples"), ("samples", "the chain is broken"), ("plan", "looser than the defaults"),
])  # fmt: skip
def test_a_record_that_was_bent_promotes_nothing(tmp_path: Path, what: str, said: str) -> None:
    promoting = Promotion(tmp_path, None, NGRAM)
    files = {name: Path(path) for name, path in promoting.files.items()}
    plan = ComparisonPlan.model_validate_json(files["plan"].read_text())
    trials = [Trial.model_validate_json(line) for line in files["samples"].read_text().splitlines()]
    facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in json.loads(files["facts"].read_text())]
    if what == "verdict":
        decision = Decision.model_validate_json(files["verdict"].read_text())
        write_json(files["verdict"], decision.model_copy(update={"reason": "faster, they say"}))
    else:
        if what == "plan":
            plan = plan.model_copy(update={"thresholds": Thresholds(min_gain=0.001)})
            trials = [t.model_copy(update={"plan_sha256": digest(plan)}) for t in trials]
            trials = chain.linked(digest(plan), trials)
        else:
            del trials[3]
        write_json(files["plan"], plan)
        files["samples"].write_text("".join(t.model_dump_json(by_alias=True) + "\n" for t in trials))
        write_json(files["verdict"], recompute(plan, trials, facts))
    _, gate = promotion.promote(promoting.run, promoting.context, promoting.serving)
    assert promoting.serving.current() is None
    assert said in gate.headline
