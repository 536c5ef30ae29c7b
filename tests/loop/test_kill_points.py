"""kill -9 at a hundred moments: the same command again comes to the same end, and nothing is lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kill_points.py")
POINTS = {"profile": 8, "corpus": 12, "promote": 40, "rollback": 16, "publish": 20, "verify": 6, "decide": 4}


@pytest.mark.parametrize("story", POINTS)
def test_killed_anywhere_the_end_is_the_same(story: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), story, str(POINTS[story])],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"], "it was killed somewhere"
    for point, found in told["killed"].items():
        assert found["code"] == 0, f"killed at touch {point}, it does not go on: {done.stderr}"
        assert found["end"] == told["undisturbed"], f"killed at touch {point} of {told['touches']}"
        if story in ("publish", "verify"):
            assert found["between"] == [True], "there is a bundle at any moment, and it verifies"
