"""Children die with their parent, and a crash leaves nothing that the next sweep does not find."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from draftsmith.kit import processes

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)
FAMILY = (
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)",
)


def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait for another process: its progress cannot be simulated."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def running(pid: int, argv: tuple[str, ...]) -> bool:
    """Whether the program runs under its keeper."""
    return any(tuple(child.cmdline()) == argv for child in psutil.Process(pid).children())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for path, record in processes.records(tmp_path / "registry"):
        processes.stop(processes.Process(record, path), grace_s=0)


def launch(place: Path, argv: tuple[str, ...], **options: object) -> processes.Process:
    return processes.start(argv, registry=place / "registry", label="test", log=place / "logs" / "child.log", **options)  # type: ignore[arg-type]


def test_a_child_is_recorded_logged_privately_and_stopped(place: Path) -> None:
    child = launch(place, (sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(600)"))
    until(lambda: "hello" in child.log.read_text())
    [(path, record)] = processes.records(place / "registry")
    assert record.pid == child.pid == record.pgid == os.getsid(child.pid)
    assert record.create_time == pytest.approx(psutil.Process(child.pid).create_time())
    assert child.log.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0

    assert processes.stop(child) == -signal.SIGTERM
    assert gone(child.pid)
    assert processes.records(place / "registry") == []
    assert processes.stop(child) == -signal.SIGTERM, "stopping twice is harmless"


def test_a_child_that_ignores_sigterm_is_killed(place: Path) -> None:
    child = launch(place, STUBBORN)
    until(lambda: "deaf" in child.log.read_text())
    assert processes.stop(child, grace_s=0.1) == -signal.SIGKILL


def test_grandchildren_end_too_even_after_their_parent_was_killed(place: Path) -> None:
    child = launch(place, FAMILY)
    until(lambda: child.log.read_text().strip())
    grandchild = int(child.log.read_text())
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: child.exit_code() is not None)
    assert not gone(grandchild)
    processes.stop(child)
    assert gone(grandchild)


def test_a_program_that_does_not_exist_is_named_in_the_log(place: Path) -> None:
    child = launch(place, ("/no/such/program",))
    until(lambda: child.exit_code() is not None)
    assert child.exit_code() == 127
    assert "cannot run /no/such/program: No such file" in child.log.read_text()


OWNER = """
import sys, time
from pathlib import Path
from draftsmith.kit import processes
place = Path(sys.argv[1])
detached = sys.argv[2] == "detached"
family = sys.argv[3:]
grace = 0.2 if sys.argv[2] == "short" else 60
log = place / "child.log"
child = processes.start(family, registry=place / "registry", label="x", log=log, detached=detached, grace_s=grace)
print(child.pid, flush=True)
time.sleep(600)
"""


def own(place: Path, kind: str, argv: tuple[str, ...]) -> tuple[subprocess.Popen[str], int]:
    """Another Draftsmith that starts `argv`; returns it and the child's pid."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(place), kind, *argv], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    until(lambda: running(pid, argv))
    return owner, pid


def test_a_child_dies_when_its_owner_is_killed(place: Path) -> None:
    owner, pid = own(place, "attached", SLEEPER)
    owner.kill()
    owner.communicate()
    until(lambda: gone(pid))


def test_a_child_that_swallows_sigterm_dies_with_its_owner_all_the_same(place: Path) -> None:
    owner, pid = own(place, "short", STUBBORN)
    until(lambda: "deaf" in (place / "child.log").read_text())
    owner.kill()
    owner.communicate()
    until(lambda: gone(pid))
    assert processes.sweep(place / "registry") == []


def test_a_killed_keeper_takes_its_program_along(place: Path) -> None:
    child = launch(place, STUBBORN)
    until(lambda: "deaf" in child.log.read_text())
    [program] = psutil.Process(child.pid).children()
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: gone(program.pid))
    assert child.exit_code() == -signal.SIGKILL


def test_a_killed_program_takes_what_it_started_along_and_its_end_is_told(place: Path) -> None:
    child = launch(place, FAMILY)
    until(lambda: child.log.read_text().strip())
    grandchild = int(child.log.read_text())
    [program] = psutil.Process(child.pid).children()
    os.kill(program.pid, signal.SIGKILL)
    until(lambda: child.exit_code() is not None)
    assert child.exit_code() == -signal.SIGKILL
    assert gone(grandchild)


def test_what_survives_a_killed_owner_is_swept(place: Path) -> None:
    owner, pid = own(place, "attached", STUBBORN)
    until(lambda: "deaf" in (place / "child.log").read_text())
    assert processes.sweep(place / "registry") == [], "its owner lives: it is left alone"
    owner.kill()
    owner.communicate()
    assert not gone(pid)
    [swept] = processes.sweep(place / "registry", grace_s=0.1)
    assert swept.pid == pid
    assert gone(pid)
    assert processes.records(place / "registry") == []


def test_a_detached_child_outlives_its_owner_and_the_sweep(place: Path) -> None:
    owner, pid = own(place, "detached", SLEEPER)
    owner.kill()
    owner.communicate()
    assert processes.sweep(place / "registry") == []
    [(path, record)] = processes.records(place / "registry")
    again = processes.Process(record, path)
    assert again.exit_code() is None
    assert processes.stop(again) == processes.UNKNOWN_EXIT
    assert gone(pid)


def test_an_owner_killed_between_intent_and_start_leaves_a_child_that_is_found(place: Path) -> None:
    child = launch(place, SLEEPER)
    until(lambda: running(child.pid, SLEEPER))
    intent = replace(child.record, pid=None, pgid=None, create_time=None, owner_pid=2**22 + 1, owner_create_time=1.0)
    child.path.write_text(json.dumps(asdict(intent)))
    assert [record.token for record in processes.sweep(place / "registry")] == [child.record.token]
    assert gone(child.pid)


def test_stopping_a_job_stops_what_it_started_in_sessions_of_their_own(place: Path) -> None:
    job = launch(place / "outer", (sys.executable, "-c", OWNER, str(place), "detached", *STUBBORN))
    until(lambda: (place / "child.log").exists() and "deaf" in (place / "child.log").read_text())
    inner = int(job.log.read_text())
    assert os.getsid(inner) != os.getsid(job.pid)
    processes.stop(job, grace_s=0.1)
    assert gone(inner)


def test_a_reused_pid_is_never_touched(place: Path) -> None:
    bystander = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        child = launch(place, SLEEPER)
        processes.stop(child)
        earlier = psutil.Process(bystander.pid).create_time() - 60
        stale = replace(child.record, pid=bystander.pid, create_time=earlier, owner_pid=2**22 + 1)
        child.path.write_text(json.dumps(asdict(stale)))
        assert processes.sweep(place / "registry") == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_children_started_from_a_short_lived_thread_keep_running(place: Path) -> None:
    started: list[processes.Process] = []
    thread = threading.Thread(target=lambda: started.append(launch(place, FAMILY)))
    thread.start()
    thread.join()
    until(lambda: started[0].log.read_text().strip())
    assert started[0].exit_code() is None


def test_foreign_files_in_the_registry_name_nothing(place: Path) -> None:
    registry = place / "registry"
    registry.mkdir()
    (registry / "a.json").write_text("[1, 2]")
    (registry / "b.json").write_text('{"pid": 1}')
    (registry / "c.json").write_text("{")
    assert processes.records(registry) == []
    assert processes.sweep(registry) == []


@pytest.mark.parametrize("token", ["", "0", "a" * 31, "A" * 32, "g" * 32, None, 7, "a" * 32 + "\n"])
def test_a_record_whose_token_is_not_one_of_ours_names_nobody(token: object, tmp_path: Path) -> None:
    """An empty token would be found in the environment of every process of this user."""
    record = {
        "token": token, "label": "x", "argv0": "x", "log": "", "owner_pid": 1, "owner_create_time": 0.0,
        "pid": 999999, "pgid": 999999, "create_time": 1.0,
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(record))
    assert processes.records(tmp_path) == []
    assert processes.sweep(tmp_path, grace_s=0) == []
