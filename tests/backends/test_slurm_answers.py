"""A cluster that is nothing but its answers: sites without accounting, slow disks, a controller that is away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_clock import FakeClock

from draftsmith.backends.notes import JobNote, Notes
from draftsmith.backends.slurm import SlurmBackend
from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.contract.errors import BackendError, PrerequisiteError
from draftsmith.contract.job import JobSpec, JobStatus

SINFO = (
    "gpu*|up|2-00:00:00|idle|64|515000|gpu:h100:4(S:0-1)|n1\n"
    "gpu*|up|2-00:00:00|mixed|64|515000|gpu:h100:4(S:0-1)|n2\n"
    "cpu|up|infinite|idle*|16|64000|(null)|n3\n"
    "cloud|up|infinite|idle~|96+|128000+|gpu:2|n4\n"
    "old|drain|1:00:00|idle|64|515000|(null)|n5\n"
)


class Scripted(SlurmCommands):
    """Commands that answer from a table; an exception in it is raised."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, str | Exception] = {"squeue": ""}
        self.asked: list[str] = []

    def has(self, name: str) -> bool:
        return name in self.answers

    def missing(self) -> list[str]:
        return [name for name in ("sbatch", "squeue", "scancel", "sinfo") if name not in self.answers]

    def run(self, argv: Sequence[str]) -> str:
        self.asked.append(argv[0])
        answer = self.answers[argv[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Site:
    """A cluster that is nothing but its answers."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root, self.clock, self.commands = root, FakeClock(), Scripted()
        self.options = SlurmOptions.model_validate({"settle_s": 60, **options})
        self.backend = self.open()

    def open(self) -> SlurmBackend:
        return SlurmBackend(self.root, self.options, allow_cluster=True, clock=self.clock, commands=self.commands)

    def job(self, job_id: int = 7, name: str = "r1.train", **note: object) -> str:
        workdir = self.root / "runs" / name
        spec = JobSpec(name=name, argv=("x",), workdir=str(workdir))
        handle = f"{job_id}@{name}"
        Notes(self.root).intend(
            JobNote.model_validate({"spec": spec, "backend": "slurm", "intended_unix_s": 0, "handle": handle, **note})
        )
        return handle

    def write(self, file: str, text: str, name: str = "r1.train") -> None:
        (self.root / "runs" / name / file).write_text(text)

    def queue(self, *rows: str) -> None:
        self.commands.answers["squeue"] = "".join(row + "\n" for row in rows)
        self.clock.advance(self.options.poll_max_s)  # whatever the interval has grown to, the next look asks

    def look(self, handle: str) -> JobStatus:
        return self.backend.poll([handle])[handle]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_preempted_job_goes_back_to_waiting_and_on(site: Site) -> None:
    handle = site.job()
    for row, state in (("RUNNING|None", "RUNNING"), ("PENDING|BeginTime", "PENDING"), ("RUNNING|None", "RUNNING")):
        site.queue(f"7|N/A|{row}|r1.train|draftsmith:r1.train")
        assert site.look(handle).state == state
    site.write("result.json", '{"ok": true}')
    site.queue()
    assert site.look(handle).state == "SUCCEEDED"


def test_a_site_without_accounting_is_asked_once_and_the_job_itself_decides(site: Site) -> None:
    site.commands.answers["sacct"] = BackendError("sacct failed: Slurm accounting storage is disabled")
    failed, quiet = site.job(1, "r1.train"), site.job(2, "r1.compare")
    site.look(quiet)
    site.write("exit_code", "137\n", "r1.train")
    site.look(quiet)

    assert site.look(failed).state == "FAILED"
    assert "SIGKILL" in site.look(failed).detail
    assert site.commands.asked.count("sacct") == 1


def test_accounting_tells_of_a_job_that_left_no_file(site: Site) -> None:
    site.commands.answers["sacct"] = "1|TIMEOUT|0:0\n2|CANCELLED by 1000|0:15\n3|FAILED|2:0\n4|NODE_FAIL|1:0\n"
    handles = [site.job(n, f"r{n}.train") for n in range(1, 5)]

    states = [(status.state, status.exit_code) for status in site.backend.poll(handles).values()]

    assert states == [("FAILED", 0), ("CANCELLED", -15), ("FAILED", 2), ("LOST", 1)]
    assert site.commands.asked == ["squeue", "sacct"]


def test_accounting_that_does_not_answer_is_unknown(site: Site) -> None:
    site.commands.answers["sacct"] = BackendError("sacct failed: Connection refused")

    assert site.look(site.job()).state == "UNKNOWN"


def test_a_result_on_a_slow_disk_is_waited_for_before_a_job_counts_as_lost(site: Site) -> None:
    handle = site.job()
    assert site.look(handle).state == "UNKNOWN"
    site.clock.advance(59)
    assert site.look(handle).state == "UNKNOWN"
    site.clock.advance(2)
    assert site.look(handle).state == "LOST"


def test_a_completed_job_whose_result_is_late_still_runs_and_then_succeeds_or_fails(site: Site) -> None:
    late, never = site.job(7, "r1.train"), site.job(8, "r2.train")
    site.queue("7|N/A|COMPLETED|None|r1.train|", "8|N/A|COMPLETED|None|r2.train|")
    assert {status.state for status in site.backend.poll([late, never]).values()} == {"RUNNING"}
    site.write("result.json", '{"ok": true}', "r1.train")
    site.clock.advance(61)

    assert site.look(late).state == "SUCCEEDED"
    assert site.look(never).state == "FAILED"


def test_a_controller_that_is_away_says_nothing_of_a_job(site: Site) -> None:
    handle = site.job()
    site.queue("7|N/A|RUNNING|None|r1.train|")
    site.commands.answers["squeue"] = BackendError("squeue failed: Unable to contact slurm controller")

    for _ in range(50):
        assert site.look(handle).state == "UNKNOWN"
        site.clock.advance(10)
    assert site.commands.asked.count("squeue") < 15  # 500 s at 5, 10, 20, 40, 60, 60 ... s
    site.queue("7|N/A|RUNNING|None|r1.train|")
    assert site.look(handle).state == "RUNNING"


def test_however_often_it_is_polled_the_scheduler_is_asked_rarely(site: Site) -> None:
    handles = [site.job(n, f"r{n}.train") for n in range(1, 21)]
    site.queue(*(f"{n}|N/A|RUNNING|None|r{n}.train|" for n in range(1, 21)))
    for _ in range(600):
        site.backend.poll(handles)
        site.clock.advance(1)

    assert len(site.commands.asked) <= 17  # ten minutes, from every 5 s to every 60 s


def test_an_end_is_judged_once(site: Site) -> None:
    handle = site.job()
    site.write("result.json", '{"ok": true}')
    site.look(handle)
    asked = len(site.commands.asked)
    site.clock.advance(3600)

    assert site.look(handle).state == "SUCCEEDED"
    assert len(site.commands.asked) == asked


def test_a_submission_that_slurm_answered_oddly_is_adopted_the_next_time(site: Site) -> None:
    spec = JobSpec(name="r1.train", argv=("x",), workdir=str(site.root / "runs" / "r1.train"))
    site.commands.answers |= {"sbatch": "", "sinfo": SINFO, "scancel": ""}
    with pytest.raises(BackendError, match="instead of a job id"):
        site.backend.submit(spec)
    site.write("slurm_job_id", "7\n")
    site.queue("7|N/A|RUNNING|None|r1.train|draftsmith:r1.train")
    submitted = site.commands.asked.count("sbatch")

    assert site.open().submit(spec) == "7@r1.train"
    assert site.commands.asked.count("sbatch") == submitted


def test_missing_commands_are_named_before_anything_is_written(site: Site) -> None:
    spec = JobSpec(name="r1.train", argv=("x",), workdir=str(site.root / "runs" / "r1.train"))

    with pytest.raises(PrerequisiteError, match="sbatch, scancel, sinfo") as raised:
        site.backend.submit(spec)
    assert "login node" in raised.value.next_step
    assert not (site.root / "runs").exists()


def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrerequisiteError, match="sbatch, squeue, scancel, sinfo"):
        SlurmBackend(tmp_path).check(JobSpec(name="r1.train", argv=("x",), workdir=str(tmp_path)))


def test_an_error_never_repeats_what_a_job_printed(site: Site) -> None:
    handle = site.job()
    site.write("result.json", json.dumps({"ok": False, "prompt": "sesame"}))

    assert "sesame" not in site.look(handle).model_dump_json()
