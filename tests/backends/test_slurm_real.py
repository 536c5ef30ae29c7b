"""A real one-node Slurm: what the shared suite cannot say of a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import CI, OK, SLEEP, WRITE, SlurmPlace, until

from draftsmith.backends.notes import JobNote, Notes
from draftsmith.backends.slurm import SlurmBackend
from draftsmith.contract.errors import BackendError, PrerequisiteError, RefusedError
from draftsmith.contract.job import JobStatus

pytestmark = pytest.mark.slurm

RESUMES = (
    "import time, os\n"
    "first = not os.path.exists('starts'); open('starts', 'a').write('x')\n"
    "time.sleep(600) if first else None\n" + OK
)


def tell(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def queued() -> str:
    return tell("squeue", "-h", "--states=all", "--format=%j").strip()


def test_a_requeued_job_resumes_under_the_same_handle(slurm: SlurmPlace) -> None:
    handle = slurm.run("q1.train", RESUMES)
    slurm.started("q1.train")
    job_id = handle.split("@")[0]

    tell("scontrol", "requeue", job_id)
    until(lambda: slurm.state(handle) == "PENDING")

    assert slurm.end_of(handle) == JobStatus(state="SUCCEEDED", exit_code=0)
    assert slurm.file("q1.train", "starts").read_text() == "xx"


def test_the_submitting_process_may_be_killed_at_any_time(slurm: SlurmPlace) -> None:
    submitter, handle = slurm.submit_elsewhere(slurm.spec("k1.train", SLEEP))
    slurm.kill(submitter)
    slurm.started("k1.train")

    assert slurm.backend.find("k1.train") == handle
    assert slurm.run("k1.train", SLEEP) == handle
    assert slurm.state(handle) == "RUNNING"


def test_a_waiting_job_is_adopted_by_name_comment_and_folder(slurm: SlurmPlace) -> None:
    slurm.backend = slurm.with_options(extra_lines=["#SBATCH --hold"])
    handle = slurm.run("w1.train", SLEEP)
    slurm.forget_handle("w1.train")

    assert slurm.backend.find("w1.train") == handle
    assert "JobHeldUser" in slurm.backend.poll([handle])[handle].detail


def test_the_same_name_in_another_workspace_is_not_ours(slurm: SlurmPlace, tmp_path: Path) -> None:
    slurm.backend = slurm.with_options(extra_lines=["#SBATCH --hold"])
    slurm.run("s1.train", SLEEP)
    other = SlurmPlace(tmp_path / "elsewhere")
    Notes(other.root).intend(JobNote(spec=other.spec("s1.train", SLEEP), backend="slurm", intended_unix_s=0))

    assert other.backend.find("s1.train") is None


def test_a_controller_that_is_away_makes_states_unknown_and_starts_nothing(slurm: SlurmPlace, slurm_dir: Path) -> None:
    slurm.backend = slurm.with_options(command_timeout_s=3)
    handle = slurm.run("c1.train", SLEEP)
    slurm.started("c1.train")
    tell(str(CI / "slurm.sh"), "stop-controller", str(slurm_dir))
    try:
        until(lambda: slurm.state(handle) == "UNKNOWN")
        with pytest.raises(BackendError):
            slurm.run("c1.train", SLEEP)
        with pytest.raises(BackendError):
            slurm.run("c1.compare", OK)
        assert not slurm.file("c1.compare", "job.json").exists()
    finally:
        subprocess.run(
            [str(CI / "slurm.sh"), "start-controller", str(slurm_dir)], check=True, stdout=subprocess.DEVNULL
        )

    until(lambda: slurm.state(handle) == "RUNNING")
    assert slurm.run("c1.train", SLEEP) == handle
    assert slurm.file("c1.train", "starts").read_text() == "x"


def test_a_job_array_succeeds_with_all_its_shards_and_names_the_one_that_failed(slurm: SlurmPlace) -> None:
    slurm.backend = slurm.with_options(phases={"capture": {"shards": 3}})
    shard = "import os; shard = int(os.environ['DRAFTSMITH_SHARD'])\n" + WRITE
    good = slurm.run("a1.capture", shard + "write(ok=True, wall_s=shard)")
    bad = slurm.run("a2.capture", shard + "write(ok=shard != 1, error='no space')")

    assert slurm.end_of(good).state == "SUCCEEDED"
    assert '"wall_s": 2.0' in slurm.file("a1.capture", "result.json").read_text()
    assert slurm.end_of(bad).detail == "1 of 3 shards, the first is 1: no space"
    assert not slurm.file("a2.capture", "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partition": "nosuch"}, "there are: closed, main"),
        ({"partition": "closed"}, "is not up"),
        ({"account": "nosuch", "phases": {"train": {"cpus": 5000}}}, "as large as"),
        ({"phases": {"train": {"gpus": 8}}}, "8 GPUs"),
        ({"constraint": "nosuch"}, "no node has the feature"),
        ({"time_limit_s": 10_000_000}, "at most 1-00:00:00"),
    ],
)
def test_what_the_cluster_cannot_do_is_said_before_anything_starts(
    slurm: SlurmPlace, changes: dict[str, object], said: str
) -> None:
    slurm.backend = slurm.with_options(**changes)
    before = queued()

    with pytest.raises(PrerequisiteError, match=said) as raised:
        slurm.run("p1.train", OK)

    assert raised.value.next_step
    assert queued() == before
    assert not slurm.file("p1.train", "job.json").exists()


def test_a_busy_node_is_waited_for_only_if_asked(slurm: SlurmPlace) -> None:
    busy = slurm.run("b1.train", SLEEP)
    until(lambda: slurm.state(busy) == "RUNNING")
    slurm.backend = slurm.with_options(require_idle=True)

    with pytest.raises(PrerequisiteError, match="0 idle nodes"):
        slurm.run("b2.train", OK)


def test_dry_by_default(slurm: SlurmPlace) -> None:
    dry = SlurmBackend(slurm.root)
    spec = slurm.spec("d1.train", OK, env={"KEY": "sesame"})
    before = queued()

    assert "#SBATCH --job-name=d1.train" in dry.plan_text(spec)
    assert "sesame" not in dry.plan_text(spec)
    with pytest.raises(RefusedError, match="dry run"):
        dry.submit(spec)
    with pytest.raises(RefusedError, match="dry run"):
        dry.cancel("1@d1.train")
    assert queued() == before
    assert not slurm.file("d1.train", ".").exists()


def test_the_secrets_of_this_shell_and_the_job_stay_out_of_slurm(
    slurm: SlurmPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME", "from-the-shell")
    monkeypatch.setenv("SBATCH_JOB_NAME", "overridden")
    code = WRITE + "import os; write(ok='SESAME' not in os.environ and len(os.environ['KEY']) == 5)"
    slurm.backend = slurm.with_options(export="NONE")
    handle = slurm.run("e1.train", code, env={"KEY": "given"})

    assert slurm.end_of(handle).state == "SUCCEEDED"
    job_id = handle.split("@")[0]
    assert "JobName=e1.train" in tell("scontrol", "show", "job", job_id)
    assert "given" not in tell("scontrol", "write", "batch_script", job_id, "-")


def test_a_job_is_warned_before_its_time_limit_and_can_resume(slurm: SlurmPlace) -> None:
    slurm.backend = slurm.with_options(time_limit_s=300)
    code = (
        WRITE + "import signal, sys, time\n"
        "def stop(*_): write(ok=False, error_kind='RunInterruptedError'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop); open('starts', 'a').write('x'); time.sleep(600)"
    )
    handle = slurm.run("t1.train", code)
    slurm.started("t1.train")
    tell("scancel", "--batch", "--signal=TERM", handle.split("@")[0])  # what Slurm does itself, a minute before

    assert slurm.end_of(handle).state == "LOST"
    assert "resumes" in slurm.end_of(handle).detail


FAKE_TORCHRUN = "import runpy, sys; sys.argv = [a for a in sys.argv[1:] if a[:2] != '--']; runpy.run_path(sys.argv[0])"


def test_a_launcher_over_nodes_hands_the_warning_to_the_program(slurm: SlurmPlace, tmp_path: Path) -> None:
    """srun itself would answer SIGTERM by killing its tasks."""
    (tmp_path / "torch/distributed").mkdir(parents=True)
    (tmp_path / "torch/distributed/run.py").write_text(FAKE_TORCHRUN)
    (tmp_path / "program.py").write_text(
        WRITE + "import os, signal, sys, time\n"
        "def stop(*_): write(ok=False, error_kind='RunInterruptedError'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('starts', 'w').write(os.environ['SRUN_CPUS_PER_TASK']); time.sleep(600)"
    )
    slurm.backend = slurm.with_options(phases={"train": {"launcher": "torchrun", "cpus": 2}})
    spec = slurm.spec("l1.train", "", env={"PYTHONPATH": str(tmp_path)})
    handle = slurm.backend.submit(spec.model_copy(update={"argv": (sys.executable, str(tmp_path / "program.py"))}))
    slurm.started("l1.train")
    tell("scancel", "--batch", "--signal=TERM", handle.split("@")[0])

    assert slurm.end_of(handle).state == "LOST"
    assert slurm.file("l1.train", "starts").read_text() == "2"


def node_state() -> str:
    return tell("sinfo", "-h", "-p", "main", "-o", "%T").strip()


def drain_reason() -> str:
    return tell("sinfo", "-h", "-p", "main", "-o", "%E").strip()


def compared(slurm: SlurmPlace, name: str, code: str) -> str:
    """A comparison on a node that is named for it."""
    slurm.backend = slurm.with_options(quiet_nodes=[os.uname().nodename.split(".")[0]])
    return slurm.run(f"{name}.compare", code)


def test_a_node_is_drained_for_a_comparison_only_when_it_is_named_and_comes_back_after_a_failure(
    slurm: SlurmPlace,
) -> None:
    plain = slurm.run("n0.compare", SLEEP)
    slurm.started("n0.compare")
    assert "drain" not in node_state()
    slurm.backend.cancel(plain)
    slurm.end_of(plain)

    handle = compared(slurm, "n1", SLEEP.replace("600", "1") + "; raise SystemExit(3)")
    slurm.started("n1.compare")
    assert "drain" in node_state()
    assert drain_reason() == "draftsmith:n1.compare"

    assert slurm.end_of(handle).state == "FAILED"
    assert "drain" not in node_state()
    assert not slurm.file("n1.compare", "drained_node").exists()


def test_a_node_whose_comparison_was_killed_with_its_shell_is_given_back_at_the_next_look(slurm: SlurmPlace) -> None:
    handle = compared(slurm, "n2", SLEEP)
    slurm.started("n2.compare")
    tell("scancel", "--full", "--signal=KILL", handle.split("@")[0])
    until(lambda: not tell("squeue", "-h", "--states=running"))
    assert "drain" in node_state(), "nobody was left to resume it"

    assert slurm.end_of(handle).state in {"FAILED", "CANCELLED"}
    assert "drain" not in node_state()


def test_a_node_that_somebody_else_drains_meanwhile_stays_drained(slurm: SlurmPlace) -> None:
    until(lambda: node_state() == "idle")  # Slurm takes no job for a node that another one is still leaving
    handle = compared(slurm, "n3", SLEEP.replace("600", "2"))
    slurm.started("n3.compare")
    until(lambda: drain_reason() == "draftsmith:n3.compare")
    tell("scontrol", "update", f"NodeName={os.uname().nodename.split('.')[0]}", "State=DRAIN", "Reason=maintenance")
    try:
        slurm.end_of(handle)
        assert drain_reason() == "maintenance"
    finally:
        tell("scontrol", "update", f"NodeName={os.uname().nodename.split('.')[0]}", "State=RESUME")
