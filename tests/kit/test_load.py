"""What a machine says of its load, and what it cannot say."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil

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


def test_the_server_behind_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = load.listening(port)
    assert found is not None
    assert found[0].pid == psutil.Process().pid
    assert load.listening(port) is None
