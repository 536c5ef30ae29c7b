"""What was promoted is what was compared, and can be taken back, whatever it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from promotions import NGRAM, Promotion

from draftsmith.contract.errors import RefusedError
from draftsmith.loop import promotion
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
