"""Drafts that are only named (`compare.drafts`) are served like others, so they pass lint like others, before anything else happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import draft_tensors, write_checkpoint, write_target

from draftsmith.api.runs import RunRequest, open_loop
from draftsmith.contract.config import Config
from draftsmith.contract.errors import RefusedError
from draftsmith.loop.base import Quiet


@pytest.mark.parametrize("name", ["evil.py", "x.pkl", "auto_map"])
def test_a_run_refuses_a_named_draft_that_does_not_pass_lint(name: str, tmp_path: Path) -> None:
    log, target, draft = tmp_path / "log.jsonl", write_target(tmp_path / "target"), tmp_path / "draft"
    log.write_text('{"prompt_tokens": 5, "completion_tokens": 6}\n')
    more = {"auto_map": {"AutoModel": "evil.Model"}} if name == "auto_map" else {"auto_map": None}
    write_checkpoint(draft, tensors=draft_tensors(), **more)
    for made in (
        "config.py",
        "optimizer_state_dict.pt",
        "train_command.txt",
    ):  # what a trainer leaves is refused as well
        (draft / made).unlink()
    if name != "auto_map":
        (draft / name).write_bytes(b"\x80\x04cos\nsystem\n")
    config = Config.model_validate(
        {"target": str(target), "workspace": str(tmp_path / "w"), "compare": {"drafts": [str(draft)]}}
    )
    with pytest.raises(RefusedError) as refused:
        open_loop(RunRequest(config, (str(log),)), Quiet())
    assert "does not pass lint" in refused.value.message
    assert name in refused.value.message
    assert not (tmp_path / "w").exists()
