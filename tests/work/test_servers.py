"""Servers of a job are stopped on every way out, and at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import RunInterruptedError
from draftsmith.work.job import Job
from draftsmith.work.servers import serving


class SlowEngine:
    """A server that takes as long as it is let; `waited` says how its wait ended."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.waited: list[str] = []
        self.ended = threading.Event()

    def wait_ready(self, server: Any, timeout_s: float, on_stage: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        self.waited.append("stopped" if self.stopped.wait(20) else "in vain")
        self.ended.set()

    def stop(self, server: Any) -> None:
        self.stopped.set()


def test_a_job_told_to_stop_while_servers_start_does_not_wait_for_them(tmp_path: Path) -> None:
    def told(number: int, frame: Any) -> None:
        raise RunInterruptedError("told to stop")

    engine: Any = SlowEngine()
    job = Job(tmp_path, Frozen())
    before = signal.signal(signal.SIGUSR1, told)
    try:
        with pytest.raises(RunInterruptedError), serving(job, engine, {"a": SimpleNamespace}, 20.0):  # type: ignore[dict-item]
            pytest.fail("it never becomes ready")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert engine.ended.wait(30)
    assert engine.waited == ["stopped"]
