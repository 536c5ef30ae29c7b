"""A killed profile leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from .test_profile import log

SCRIPT = """
import sys
from pathlib import Path

from draftsmith.profiling import scan
from draftsmith.profiling.profile import build_profile

if __name__ == "__main__":
    scan.PARALLEL_FROM = 0
    def told(done, total):
        print("working", flush=True)
        sys.stdin.readline()
    build_profile([sys.argv[1]], tokenizer=Path(sys.argv[2]), workers=2, on_progress=told)
"""


@pytest.mark.story
def test_workers_end_with_a_killed_parent(write: Any, tokenizer: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(write("a.jsonl", log(50))), str(tokenizer)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"working\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        assert workers
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
