"""What a machine says of its load, and what it cannot say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from draftsmith.kit import load


def test_the_run_queue_and_the_stalls_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("1.52 0.98 0.71 3/412 17345\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text(
        "some avg10=12.05 avg60=3.20 avg300=0.71 total=48211374\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert load.running(tmp_path) == 3
    assert load.stalled_s("cpu", tmp_path) == 48.211374
    assert load.stalled_s("memory", tmp_path) is None


def test_what_cannot_be_read_is_unknown_and_not_zero(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("nonsense\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text("some avg10=0\n")
    assert load.running(tmp_path) is None
    assert load.stalled_s("cpu", tmp_path) is None
    assert load.read(None).ours_s is None


def test_a_process_that_ended_counts_no_more() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        process = psutil.Process(ended.pid)
        ended.wait()
    assert load.read([process]).ours_s == 0
    assert (load.read([psutil.Process()]).ours_s or 0) > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_what_runs_on_other_cores_does_not_count() -> None:
    here, there = sorted(os.sched_getaffinity(0))[:2]
    spinning = "import os, sys, time; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spinning, str(there)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        process = psutil.Process(other.pid)
        assert load.allowed([process]) == {there}
        before = load.read([process]), load.read([process], frozenset({here})), load.read([process], frozenset({there}))
        used, began = 0.0, before[0].ours_s or 0.0
        while used < 0.5:
            used = (load.read([process]).ours_s or 0.0) - began
        after = load.read([process]), load.read([process], frozenset({here})), load.read([process], frozenset({there}))
        other.kill()
    everywhere, on_ours, on_theirs = (late.busy_s - early.busy_s for early, late in zip(before, after, strict=True))
    assert on_theirs >= 0.4
    assert everywhere == pytest.approx(on_ours + on_theirs, abs=0.3)


def test_cores_of_no_process_are_those_of_this_one() -> None:
    assert load.allowed([]) == os.sched_getaffinity(0)


def test_the_server_behind_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = load.listening(port)
    assert found is not None
    assert found[0].pid == psutil.Process().pid
    assert load.listening(port) is None
