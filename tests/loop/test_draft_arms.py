"""Which arms a draft becomes."""

from __future__ import annotations

import json
from pathlib import Path

from draftsmith.contract.config import Config
from draftsmith.phases.steps import draft_lengths, other_draft


def lengths(**trainer: object) -> tuple[int, ...]:
    return draft_lengths(Config.model_validate({"trainer": trainer, "compare": {"k_values": [2, 3]}}))


def test_a_block_draft_is_tried_with_its_whole_block() -> None:
    assert lengths(method="dflash", block_size=8) == (3, 7)
    assert lengths(method="dflash", block_size=4) == (3,)
    assert lengths(method="eagle3") == (2, 3)


def test_a_further_draft_is_served_as_its_own_files_say(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"speculators_model_type": "dflash", "block_size": 16}))
    assert other_draft(tmp_path, "eagle3", 3) == {"method": "dflash", "num_speculative_tokens": 15}
    (tmp_path / "config.json").write_text(json.dumps({"speculators_model_type": "peagle"}))
    assert other_draft(tmp_path, "eagle3", 3)["parallel_drafting"] is True
    (tmp_path / "draft-manifest.json").write_text(json.dumps({"method": "eagle3"}))
    assert other_draft(tmp_path, "dflash", 3) == {"method": "eagle3", "num_speculative_tokens": 3}
    assert other_draft(tmp_path / "nowhere", "eagle3", 2) == {"method": "eagle3", "num_speculative_tokens": 2}
