"""What holds for child processes of this machine alone."""

from __future__ import annotations

import json
import time

import psutil
import pytest
from fake_clock import FakeClock
from places import FAMILY, OK, WRITE, LocalPlace, gone, until

from draftsmith.backends.local import LocalBackend
from draftsmith.contract.errors import BackendError
from draftsmith.contract.job import JobStatus

STUBBORN = (
    "import signal, time; from pathlib import Path\n"
    "def stop(*_): Path('asked').touch()\n"
    "signal.signal(signal.SIGTERM, stop); Path('starts').write_text('x')\n"
    "while not Path('finish').exists(): time.sleep(0.01)\n" + OK
)


def test_a_job_is_asked_to_stop_when_draftsmith_is_killed(local: LocalPlace) -> None:
    submitter, _ = local.submit_elsewhere(local.spec("r1.work", STUBBORN))
    local.started("r1.work")
    local.kill(submitter)

    until(local.file("r1.work", "asked").exists)
    local.file("r1.work", "finish").touch()


def test_a_job_that_outlives_a_killed_draftsmith_is_adopted_and_may_still_succeed(local: LocalPlace) -> None:
    submitter, handle = local.submit_elsewhere(local.spec("r1.work", STUBBORN))
    local.started("r1.work")
    local.kill(submitter)
    until(local.file("r1.work", "asked").exists)

    assert local.backend.find("r1.work") == handle
    assert local.backend.submit(local.spec("r1.work", STUBBORN)) == handle
    local.file("r1.work", "finish").touch()
    assert local.end_of(handle) == JobStatus(state="SUCCEEDED")


def test_an_adopted_job_can_be_cancelled(local: LocalPlace) -> None:
    submitter, handle = local.submit_elsewhere(local.spec("r1.work", STUBBORN))
    local.started("r1.work")
    local.kill(submitter)
    backend = LocalBackend(local.root, grace_s=0.2)

    backend.cancel(handle)

    assert backend.poll([handle])[handle].state == "CANCELLED"


def test_what_a_job_leaves_running_is_stopped_before_its_end_is_told(local: LocalPlace) -> None:
    handle = local.run("r1.family", FAMILY.rsplit("\n", 1)[0] + "\n" + OK)

    assert local.end_of(handle).state == "SUCCEEDED"
    assert gone(int(local.file("r1.family", "child").read_text()))


def test_a_job_past_its_time_limit_is_stopped(local: LocalPlace) -> None:
    clock = FakeClock(now=time.time())
    backend = LocalBackend(local.root, clock=clock, grace_s=5)
    handle = backend.submit(local.spec("r1.family", FAMILY, time_limit_s=60))
    child = local.file("r1.family", "child")
    until(lambda: child.exists() and child.read_text().endswith(" "))
    assert backend.poll([handle])[handle].state == "RUNNING"

    clock.advance(61)

    assert backend.poll([handle])[handle].state == "FAILED"
    assert backend.poll([handle])[handle].detail == "stopped at its time limit of 60 s"
    assert gone(int(child.read_text()))


def test_the_exit_code_is_remembered_after_a_restart(local: LocalPlace) -> None:
    handle = local.run("r1.crash", "raise SystemExit(7)")
    local.end_of(handle)

    assert local.open().poll([handle])[handle] == local.backend.poll([handle])[handle]
    assert local.open().poll([handle])[handle].exit_code == 7


def test_a_signal_is_named(local: LocalPlace) -> None:
    handle = local.run("r1.killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert local.end_of(handle).exit_code == -9
    assert "SIGKILL (often: out of memory)" in local.end_of(handle).detail


def test_a_program_that_does_not_exist_says_so(local: LocalPlace) -> None:
    handle = local.backend.submit(local.spec("r1.none", "").model_copy(update={"argv": ("/no/such/program",)}))

    assert local.end_of(handle).exit_code == 127
    assert "/no/such/program" in local.file("r1.none", "stderr.log").read_text()


def test_a_disk_that_cannot_be_written_starts_nothing(local: LocalPlace) -> None:
    (local.root / "runs").write_text("a file, not a folder")

    with pytest.raises(BackendError, match="could not be started"):
        local.run("r1.work", OK)
    assert not [p for p in psutil.Process().children() if "r1.work" in " ".join(p.cmdline())]


def test_a_start_cut_short_by_a_crash_is_cleared_away(local: LocalPlace) -> None:
    """The process was started, its record never completed: only the token in its environment tells."""
    first = local.run("r1.work", STUBBORN)
    local.started("r1.work")
    record = local.root / "processes" / f"{first.split('@')[0]}.json"
    pid = json.loads(record.read_text())["pid"]
    record.write_text(record.read_text().replace('"create_time"', '"was"').replace('"pid"', '"once"'))
    local.forget_handle("r1.work")
    backend = LocalBackend(local.root, grace_s=0.2)

    assert backend.find("r1.work") is None
    second = backend.submit(local.spec("r1.work", WRITE + "write(ok=True)"))

    assert second != first
    assert not record.exists()
    assert gone(pid)


def test_polling_many_finished_jobs_costs_no_process(local: LocalPlace) -> None:
    handles = [local.run(f"r{n}.work", "pass") for n in range(3)]
    for handle in handles:
        local.end_of(handle)

    left = [path.name for path in (local.root / "processes").iterdir()]
    assert left == ["commands.jsonl"], "what was started is on record, and nothing lives"
    assert {status.state for status in local.backend.poll(handles).values()} == {"FAILED"}
