"""The whole loop once on the real engine, the real model and the real trainer, as short as it can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from draftsmith.api.demos import MODEL

SHORT = (
    "trainer.epochs=2",
    "trainer.batch_tokens=1024",
    "trainer.min_position0=0.05",
    "compare.prompts=6",
    "compare.blocks=1",
    "compare.restart_every=0",
    "compare.general_prompts=2",
    "compare.thresholds.max_blocks=1",
    "compare.tuning_prompts=4",
)


@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_a_short_loop_ends_with_a_verdict_evidence_and_nothing_running(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    target = os.environ.get("DRAFTSMITH_TARGET")
    if target:
        folder.mkdir()
        (folder / MODEL).symlink_to(target)
    settings = [f"--set={setting}" for setting in SHORT]
    command = [sys.executable, "-m", "draftsmith", "demo", str(folder), "--requests", "90", "--json", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    overview = json.loads(done.stdout)
    assert [row["state"] for row in overview["phases"]] == ["done"] * len(overview["phases"])
    verdict = overview["verdict"]
    assert verdict["tier"] == "draft"  # one block is no verdict, whatever it shows
    assert verdict["acceptance_length"]["eagle3-k3"] > 1.1  # a wiring fault leaves it at 1.0

    bundle = Path(overview["report"]).parent
    verify = subprocess.run(
        [sys.executable, "-m", "draftsmith", "verify", str(bundle), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verify.returncode == 0, verify.stderr
    assert json.loads(verify.stdout)["verdict_matches"] is True
    assert not list((Path(overview["folder"]) / "phases" / "capture").glob("states/*.safetensors"))
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
