"""The loop on a real Slurm, disturbed in every phase: it ends as on this machine, and nothing is submitted twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from places import CI, SRC, until
from tiny_loop import PHASES

pytestmark = pytest.mark.slurm
HERE = Path(__file__).parent

# Counts what is really submitted, and kills Draftsmith before or right after a submission if told so.
SBATCH = """\
#!/bin/sh
case "$*" in *--test-only*) exec {real} "$@";; esac
if [ -e {base}/kill-before ]; then rm {base}/kill-before; kill -9 $PPID; exit 1; fi
echo "$*" >> {base}/submitted
{real} "$@"; code=$?
if [ -e {base}/kill-after ]; then rm {base}/kill-after; kill -9 $PPID; fi
exit $code
"""


def tell(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


class TinyRun:
    """One run of the tiny loop, and the hands that disturb it."""

    def __init__(self, base: Path, slurm_dir: Path, name: str = "tiny") -> None:
        self.base, self.slurm_dir, self.name, self.folder = base, slurm_dir, name, base / "runs" / name
        wrapper = base / "bin" / "sbatch"
        wrapper.parent.mkdir(parents=True)
        self.log = (base / "said").open("w")
        wrapper.write_text(SBATCH.format(real=shutil.which("sbatch"), base=base))
        wrapper.chmod(0o755)
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": f"{SRC}:{HERE}", "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}"}
        command = [sys.executable, str(HERE / "tiny_loop.py"), str(self.base), "slurm", self.name]
        return subprocess.Popen(command, env=env, stdout=self.log, stderr=subprocess.STDOUT)

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in sorted(self.folder.glob("journal/[0-9]*.json"))]
        return [event for event in found if event["kind"] == kind]

    def folders(self, phase: str) -> list[Path]:
        workdir = self.folder / "phases" / phase
        return [workdir / f"shard-000{index}" for index in range(2)] if phase == "capture" else [workdir]

    def starts(self, phase: str) -> str:
        """`x` for each start of the job, of the shard that was started least."""
        files = [folder / "starts" for folder in self.folders(phase)]
        return min((file.read_text() if file.exists() else "" for file in files), key=len)

    def job_id(self, phase: str) -> str:
        note = json.loads((self.folder / "phases" / phase / "job.json").read_text())
        return str(note["handle"]).split("@")[0]

    def in_the_middle(self, phase: str, starts: int = 1) -> None:
        until(lambda: len(self.starts(phase)) >= starts or self.process.poll() is not None)
        assert self.process.poll() is None, (self.base / "said").read_text()
        until(lambda: self.events("submitted") and self.job_id(phase) != "None")

    def let_go(self, phase: str) -> None:
        (self.folder / f"go-{phase}").touch()

    def ended(self) -> int:
        return self.process.wait(120)

    def submissions(self) -> Counter[str]:
        lines = (self.base / "submitted").read_text().split("\n")
        return Counter(Path(line.split()[-1]).parent.name for line in lines if line)

    # -- disturbances, in two halves: what is done to the job of a phase, and where that leads -----------------------

    def scancel(self, phase: str) -> None:
        """Somebody cancels the job: the run stops and says so; the same command begins the phase again."""
        tell("scancel", self.job_id(phase))

    def after_scancel(self, phase: str) -> None:
        assert self.ended() == 130
        assert "cancelled" in (self.base / "said").read_text()
        self.process = self.start()
        self.in_the_middle(phase, 2)

    def requeue(self, phase: str) -> None:
        """As after preemption: the same job is started again by Slurm."""
        tell("scontrol", "requeue", self.job_id(phase))

    def after_requeue(self, phase: str) -> None:
        self.in_the_middle(phase, 2)

    def kill(self, phase: str) -> None:
        """kill -9 of Draftsmith: the job goes on, the same command adopts it."""
        self.process.send_signal(signal.SIGKILL)
        self.ended()
        self.process = self.start()

    def after_kill(self, phase: str) -> None:
        until(lambda: any(event["phase"] == phase for event in self.events("adopted")))

    def restart(self, phase: str) -> None:
        """slurmctld goes away, the job ends meanwhile, slurmctld comes back."""
        tell(str(CI / "slurm.sh"), "stop-controller", str(self.slurm_dir))
        self.let_go(phase)
        done = [folder / "exit_code" for folder in self.folders(phase)]
        until(lambda: all(file.exists() for file in done))
        subprocess.run(
            [str(CI / "slurm.sh"), "start-controller", str(self.slurm_dir)], check=True, stdout=subprocess.DEVNULL
        )

    def after_restart(self, phase: str) -> None:
        until(lambda: any(event["phase"] == phase for event in self.events("phase_done")))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def clear_queue() -> None:
    subprocess.run(["scancel", "--quiet", "--user=root"], check=True)
    until(lambda: not tell("squeue", "-h"))


@pytest.fixture
def tiny(tmp_path: Path, slurm_dir: Path) -> Iterator[TinyRun]:
    made = TinyRun(tmp_path, slurm_dir)
    yield made
    made.close()
    clear_queue()


@pytest.fixture
def four(tmp_path: Path, slurm_dir: Path) -> Iterator[list[TinyRun]]:
    made = [TinyRun(tmp_path / f"tiny-{number}", slurm_dir, f"tiny-{number}") for number in range(4)]
    yield made
    for each in made:
        each.close()
    clear_queue()


DISTURBANCES = ("scancel", "requeue", "kill", "restart")
VALUES = [1, 4, 26, 79, 238, 715]  # each phase makes 3n + 1 of what the one before made; capture adds up two shards


def test_every_disturbance_in_every_phase_leads_to_the_same_end(four: list[TinyRun]) -> None:
    """Four runs side by side. In each phase each of them meets another disturbance, and in the end all met all."""
    cancelled: set[tuple[str, str]] = set()
    for number, phase in enumerate(PHASES):
        meets = {DISTURBANCES[(number + turn) % len(four)]: run for turn, run in enumerate(four)}
        for run in four:
            run.in_the_middle(phase)
        for disturbance in DISTURBANCES:
            getattr(meets[disturbance], disturbance)(phase)
        for disturbance in reversed(DISTURBANCES):
            getattr(meets[disturbance], f"after_{disturbance}")(phase)
        for run in four:
            run.let_go(phase)
        cancelled.add((meets["scancel"].name, phase))

    for run in four:
        assert run.ended() == 0
        results = [event["data"]["result"] for event in run.events("phase_done")]
        assert [result["figures"]["rows"] for result in results] == VALUES
        assert run.submissions() == {phase: 1 + ((run.name, phase) in cancelled) for phase in PHASES}
        for phase in PHASES:
            assert {(folder / "units").read_text() for folder in run.folders(phase)} == {"123"}, "each done once"
        assert not [p for p in psutil.process_iter(["cmdline"]) if str(run.folder) in " ".join(p.info["cmdline"] or [])]
    assert tell("squeue", "-h") == ""


def test_killed_around_a_submission_the_job_is_there_once(tiny: TinyRun) -> None:
    """kill -9 between the intent and sbatch, and between sbatch and the note of its answer, in every phase."""
    for number, phase in enumerate(PHASES):
        if number + 1 < len(PHASES):  # what is to happen to the next submission
            tiny.in_the_middle(phase)
            (tiny.base / ("kill-before" if number % 2 else "kill-after")).touch()
            tiny.let_go(phase)
            assert tiny.ended() == -signal.SIGKILL
            tiny.process = tiny.start()
        else:
            tiny.let_go(phase)

    assert tiny.ended() == 0
    assert tiny.submissions() == dict.fromkeys(PHASES, 1)
    assert {event["phase"] for event in tiny.events("adopted")} == {"corpus", "train", "publish"}


def test_the_same_loop_ends_the_same_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    for phase in PHASES:
        (folder / f"go-{phase}").touch()
    env = {**os.environ, "PYTHONPATH": f"{SRC}:{HERE}"}
    command = [sys.executable, str(HERE / "tiny_loop.py"), str(tmp_path), "local", "tiny"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)

    journal = [json.loads(path.read_text()) for path in sorted(folder.glob("journal/[0-9]*.json"))]
    rows = [event["data"]["result"]["figures"]["rows"] for event in journal if event["kind"] == "phase_done"]
    assert rows == [1, 4, 13, 40, 121, 364], "one shard: nothing is added up"


def test_a_living_job_with_another_plan_is_not_taken_for_this_one(tiny: TinyRun) -> None:
    tiny.in_the_middle("profile")
    tiny.process.kill()
    tiny.ended()
    plan = tiny.folder / "phases" / "profile" / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "value": 7}))
    tiny.process = tiny.start()

    assert tiny.ended() == 4
    assert "with another plan" in (tiny.base / "said").read_text()
    assert tiny.submissions() == {"profile": 1}
