"""The text of Slurm as values: states, nodes, limits, refusals. Pure functions, recorded answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.backends.shell import parse_exit
from draftsmith.backends.slurm_check import check_nodes
from draftsmith.backends.slurm_commands import refusal
from draftsmith.backends.slurm_judge import judge_shards
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.backends.slurm_parse import (
    Row,
    combine,
    count_gpus,
    is_free,
    meaning,
    parse_limit,
    parse_sacct,
    parse_sinfo,
    parse_squeue,
    parse_submitted,
)
from draftsmith.contract.errors import BackendError, PrerequisiteError
from draftsmith.contract.job import JobSpec, JobStatus

SINFO = (
    "gpu*|up|2-00:00:00|idle|64|515000|gpu:h100:4(S:0-1)|n1\n"
    "gpu*|up|2-00:00:00|mixed|64|515000|gpu:h100:4(S:0-1)|n2\n"
    "cpu|up|infinite|idle*|16|64000|(null)|n3\n"
    "cloud|up|infinite|idle~|96+|128000+|gpu:2|n4\n"
    "old|drain|1:00:00|idle|64|515000|(null)|n5\n"
)


WAITING = SlurmOptions(partition="cpu", require_idle=False)


@pytest.mark.parametrize(
    ("slurm", "ours"),
    [
        ("PENDING", "PENDING"),
        ("REQUEUED", "PENDING"),
        ("REQUEUE_HOLD", "PENDING"),
        ("CONFIGURING", "PENDING"),
        ("SUSPENDED", "RUNNING"),
        ("COMPLETING", "RUNNING"),
        ("TIMEOUT", "FAILED"),
        ("OUT_OF_MEMORY", "FAILED"),
        ("PREEMPTED", "LOST"),
        ("NODE_FAIL", "LOST"),
        ("REVOKED", "UNKNOWN"),
        ("A_STATE_OF_NEXT_YEAR", "UNKNOWN"),
    ],
)
def test_every_state_has_a_meaning_and_a_new_one_is_never_an_end(slurm: str, ours: str) -> None:
    assert meaning(slurm).state == ours


def test_an_array_lives_while_one_task_does() -> None:
    rows = [Row("7", "0", "COMPLETED"), Row("7", "1", "FAILED"), Row("7", "2-9", "PENDING", "Priority")]

    assert combine(rows).state == "PENDING"
    assert combine([*rows, Row("7", "10", "RUNNING")]).state == "RUNNING"


def test_the_worst_shard_speaks_for_the_array() -> None:
    shards = [JobStatus(state="SUCCEEDED"), JobStatus(state="LOST", detail="gone"), JobStatus(state="LOST")]

    assert judge_shards(shards) == JobStatus(state="LOST", detail="2 of 3 shards, the first is 1: gone")
    assert judge_shards([*shards, JobStatus(state="FAILED")]).state == "FAILED"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "gpu", "phases": {"train": {"nodes": 2, "launcher": "torchrun"}}}, "1 idle nodes.*of 2"),
        ({"partition": "cpu"}, "0 idle nodes"),
        ({"partition": "old"}, "not up"),
        ({"phases": {"train": {"gpus": 8}}}, "8 GPUs"),
        ({"phases": {"train": {"memory_gib": 600}}}, "614400 MiB"),
        ({"time_limit_s": 200_000}, "at most 2-00:00:00"),
    ],
)
def test_nodes_are_looked_at_before_a_job_is_submitted(options: dict[str, object], said: str) -> None:
    spec = JobSpec(name="r1.train", argv=("x",), workdir="/w")
    with pytest.raises(PrerequisiteError, match=said):
        check_nodes(parse_sinfo(SINFO), spec, SlurmOptions.model_validate(options))


def test_a_fitting_idle_node_is_enough() -> None:
    spec = JobSpec(name="r1.train", argv=("x",), workdir="/w", gpus=4, cpus=64)
    check_nodes(parse_sinfo(SINFO), spec, SlurmOptions())
    check_nodes(parse_sinfo(SINFO), spec.model_copy(update={"gpus": 2}), SlurmOptions(partition="cloud"))
    check_nodes(parse_sinfo(SINFO), spec.model_copy(update={"gpus": 0, "cpus": 1}), WAITING)


def test_idle_is_idle() -> None:
    assert [node.name for node in parse_sinfo(SINFO) if is_free(node)] == ["n1", "n4"]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "sbatch: error: invalid partition specified: nosuch\nsbatch: error: Batch job submission failed: "
            "Invalid partition name specified",
            "partition",
        ),
        ("Invalid account or account/partition combination specified", "account"),
        ("Batch job submission failed: Invalid qos specification", "qos"),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "wait"),
        ("error: write: Disk quota exceeded", "free space"),
        ("Requested node configuration is not available", "ask for less"),
        ("allocation failure: Requested time limit is invalid (missing or exceeds some limit)", "time_limit_s"),
    ],
)
def test_what_slurm_refuses_is_translated(said: str, hint: str) -> None:
    error = refusal("sbatch", said)

    assert isinstance(error, PrerequisiteError)
    assert hint in error.next_step
    assert said.split("\n")[-1] in error.message


def test_an_unknown_refusal_is_repeated() -> None:
    assert "it rains" in refusal("sbatch", "sbatch: error: it rains\n").message
    assert isinstance(refusal("squeue", ""), BackendError)


@pytest.mark.parametrize(
    ("gres", "gpus"), [("(null)", 0), ("gpu:4", 4), ("gpu", 1), ("gpu:a100:4(S:0-1),gpu:t4:2,shard:8", 6), ("", 0)]
)
def test_gpus_are_counted(gres: str, gpus: int) -> None:
    assert count_gpus(gres) == gpus


def test_small_texts() -> None:
    assert [parse_limit(t) for t in ("1-00:00:00", "30:00", "infinite", "n/a")] == [86400, 1800, None, None]
    assert [parse_exit(t) for t in ("0\n", "137", "", "x")] == [0, -9, None, None]
    assert parse_submitted("12;cluster\n") == "12"
    assert parse_sacct("7_3|CANCELLED by 0|0:9\n") == [Row("7", "3", "CANCELLED", exit_code=-9)]
    with pytest.raises(ValueError, match="instead of a job id"):
        parse_submitted("")
    with pytest.raises(ValueError, match="squeue"):
        parse_squeue("slurm_load_jobs error: Unable to contact slurm controller")


@given(st.text(alphabet="5|\n\u2028 aN/"), st.text(alphabet="ab|", max_size=5))
def test_a_strangers_comment_cannot_change_our_state(comment: str, name: str) -> None:
    rows = parse_squeue(f"1|N/A|RUNNING|None|ours|draftsmith:ours\n2|N/A|FAILED|None|{name}|{'x' + comment}\n")

    assert rows[0] == Row("1", "", "RUNNING", "None", "ours", "draftsmith:ours")
    assert {row.job_id for row in rows} <= {"1", "2"}


def test_room_is_of_the_type_and_with_the_features_that_are_asked_for() -> None:
    from draftsmith.backends.slurm_check import check_nodes
    from draftsmith.backends.slurm_options import parse_options
    from draftsmith.contract.errors import PrerequisiteError
    from draftsmith.contract.job import JobSpec

    line = "gpu*|up|infinite|idle|64|500000|gpu:a100:4(S:0-1),gpu:h100:2|n1|nvme,h100\n"
    nodes = parse_sinfo(line)
    assert nodes[0].features == {"nvme", "h100"}
    assert parse_sinfo("gpu*|up|infinite|idle|64|500000|(null)|n1|(null)")[0].features == frozenset()
    spec = JobSpec(name="r1.compare", argv=("x",), workdir="/w", gpus=4)
    check_nodes(nodes, spec, parse_options({"gpu_type": "a100", "constraint": "nvme&h100"}))
    check_nodes(nodes, spec, parse_options({"constraint": "a100|h100"}))
    check_nodes(nodes, spec, parse_options({"constraint": "[rack1*2&rack2*4]"}))  # for Slurm to decide
    for wrong in ({"gpu_type": "h100"}, {"constraint": "a100"}, {"exclude": ["n1"]}):
        with pytest.raises(PrerequisiteError, match="as large as"):
            check_nodes(nodes, spec, parse_options(wrong))
