"""Training over several ranks: one of them is the job, the others help it and leave its files alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loop_world import World

pytestmark = pytest.mark.story


def files(folder: Path) -> dict[str, tuple[int, int]]:
    found = [path for path in folder.rglob("*") if path.is_file() and "rank-0001" not in path.parts]
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_a_further_rank_trains_with_the_others_and_reports_in_a_folder_of_its_own(tmp_path: Path) -> None:
    world = World(tmp_path / "world", requests=40)
    world.call("train")
    folder = world.folder() / "phases" / "train"
    torchrun = {"TORCHELASTIC_RUN_ID": "7", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "draftsmith.work.train", str(folder / "plan.json")]
    own = folder / "rank-0001"

    subprocess.run(command, env=world.environment(torchrun), check=True, cwd=folder)
    assert json.loads((own / "result.json").read_text())["figures"] == {"rank": 1}
    assert not (own / "train.log").exists(), "rank 0 has trained: nobody would answer"

    (folder / "trained.json").unlink()
    before = files(folder)
    subprocess.run(command, env=world.environment(torchrun), check=True, cwd=folder)
    assert json.loads((own / "result.json").read_text())["figures"] == {"rank": 1}
    assert (own / "train.log").exists(), "the training step ran"
    assert files(folder) == before, "result, draft, metrics and checkpoints are rank 0's"
