"""A job that is told to stop stops, whatever it is in the middle of."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import RunInterruptedError
from draftsmith.contract.jobs import PhaseResult
from draftsmith.kit.files import read_json
from draftsmith.work.job import Job, run_job


class Nothing(Frozen):
    """A plan without anything in it."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_between_two_steps_of_the_event_loop_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    """asyncio catches what a callback raises, writes a line, and goes on."""
    went_on = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        await asyncio.sleep(0.05)
        went_on.append(True)

    def body(job: Job[Nothing]) -> PhaseResult:
        asyncio.run(work())
        return PhaseResult()

    (tmp_path / "plan.json").write_text("{}")
    assert run_job(body, Nothing, ["job", str(tmp_path / "plan.json")]) == RunInterruptedError.exit_code
    assert not went_on
    result = read_json(tmp_path / "result.json")
    assert (result["ok"], result["error_kind"]) == (False, "RunInterruptedError")
    assert "run the same command again" in result["next_step"]
