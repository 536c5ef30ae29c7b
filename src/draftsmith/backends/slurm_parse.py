"""What Slurm says, as values: pure functions over the text of squeue, sacct, sinfo and sbatch.

Every question asks for `|`-separated fields with the free text last, so a strange name cannot shift a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from draftsmith.contract.job import JobState

SQUEUE_FORMAT = "%F|%K|%T|%r|%j|%k"  # array's job id (or job id), task index, state, reason, name, comment
SACCT_FORMAT = "JobID,State,ExitCode"
SINFO_FORMAT = (
    "%P|%a|%l|%T|%c|%m|%G|%N|%f"  # partition (* = default), up, limit, state, CPUs, MiB, resources, node, features
)


@dataclass(frozen=True)
class Row:
    """One job, or one task or group of tasks of a job array. `exit_code` None = not told; negative = a signal."""

    job_id: str
    task: str
    state: str
    reason: str = ""
    name: str = ""
    comment: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class Node:
    """One node in one partition. `limit_s` is the partition's time limit (None = none), memory is in MiB."""

    name: str
    partition: str
    default: bool
    up: bool
    limit_s: int | None
    state: str
    cpus: int
    memory_mib: int
    gpus: int
    gres: str = ""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Meaning:
    """What a Slurm state says of a job: ours, and one sentence."""

    state: JobState
    detail: str


# Every state of squeue(1) and sacct(1). One that is missing here is UNKNOWN: never an end by default.
_LIVE = {
    "PENDING": Meaning("PENDING", "waits"),
    "CONFIGURING": Meaning("PENDING", "its nodes are being prepared"),
    "REQUEUED": Meaning("PENDING", "requeued; it resumes"),
    "REQUEUE_FED": Meaning("PENDING", "requeued; it resumes"),
    "REQUEUE_HOLD": Meaning("PENDING", "requeued and held; release it with: scontrol release"),
    "RESV_DEL_HOLD": Meaning("PENDING", "held: its reservation was deleted"),
    "SPECIAL_EXIT": Meaning("PENDING", "requeued and held in a special state; release it with: scontrol release"),
    "RUNNING": Meaning("RUNNING", ""),
    "COMPLETING": Meaning("RUNNING", "ending"),
    "RESIZING": Meaning("RUNNING", "changing its size"),
    "SIGNALING": Meaning("RUNNING", "being signalled"),
    "STAGE_OUT": Meaning("RUNNING", "copying its files out"),
    "SUSPENDED": Meaning("RUNNING", "suspended by the scheduler"),
    "STOPPED": Meaning("RUNNING", "stopped by a signal"),
}
_ENDED = {
    "COMPLETED": Meaning("SUCCEEDED", ""),
    "CANCELLED": Meaning("CANCELLED", "cancelled in Slurm"),
    "FAILED": Meaning("FAILED", ""),
    "TIMEOUT": Meaning("FAILED", "stopped at its time limit"),
    "DEADLINE": Meaning("FAILED", "stopped at its deadline"),
    "OUT_OF_MEMORY": Meaning("FAILED", "used more memory than it asked for"),
    "NODE_FAIL": Meaning("LOST", "its node failed"),
    "BOOT_FAIL": Meaning("LOST", "its node did not boot"),
    "LAUNCH_FAILED": Meaning("LOST", "Slurm could not launch it"),
    "RECONFIG_FAIL": Meaning("LOST", "its node could not be set up"),
    "PREEMPTED": Meaning("LOST", "preempted, and not requeued by the scheduler"),
}
LIVE_STATES = frozenset(_LIVE)


def meaning(state: str) -> Meaning:
    """What a Slurm state says; UNKNOWN for one this list does not hold (REVOKED among them)."""
    return _LIVE.get(state) or _ENDED.get(state) or Meaning("UNKNOWN", f"Slurm reports the state {state!r}")


def parse_squeue(text: str) -> list[Row]:
    """Rows of `squeue --noheader --format=SQUEUE_FORMAT`. Raises ValueError for a line of another shape."""
    rows: list[Row] = []
    for line in text.split("\n"):
        if not re.match(
            r"\d+\|[^|]*\|[A-Z_]+\|[^|]*\|[^|]*\|", line
        ):  # the comment of a stranger's job may hold a line break
            if line.strip() and not rows:
                raise ValueError(f"not an answer of squeue: {line!r}")
            continue
        job_id, task, state, reason, name, comment = line.split("|", 5)
        rows.append(Row(job_id, "" if task == "N/A" else task, state, reason, name, comment.strip()))
    return rows


def parse_sacct(text: str) -> list[Row]:
    """Rows of `sacct --noheader --parsable2 --allocations --format=SACCT_FORMAT`. Raises ValueError."""
    rows = []
    for line in text.split("\n"):
        if line.strip():
            full_id, state, exit_code = line.split("|")
            job_id, _, task = full_id.partition("_")
            rows.append(Row(job_id, task, state.split()[0] if state else "", exit_code=parse_exit(exit_code)))
    return rows


def parse_exit(text: str) -> int | None:
    """`3:0` is exit code 3, `0:9` is signal 9 (-9). None if there is nothing to read."""
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        return None
    code, number = int(match[1]), int(match[2])
    return -number if number else code


def parse_sinfo(text: str) -> list[Node]:
    """Nodes of `sinfo --noheader --Node --format=SINFO_FORMAT`. Raises ValueError for a line of another shape."""
    nodes = []
    for line in text.split("\n"):
        if line.strip():
            partition, up, limit, state, cpus, memory, gres, name, *rest = line.strip().split("|")
            features = frozenset(filter(None, rest[0].split(","))) if rest and rest[0] != "(null)" else frozenset()
            size = (_number(cpus), _number(memory), count_gpus(gres))
            about = (partition.rstrip("*"), partition.endswith("*"), up == "up", parse_limit(limit))
            nodes.append(Node(name, *about, state, *size, gres, features))
    return nodes


def parse_limit(text: str) -> int | None:
    """Seconds in `1-00:00:00`, `30:00` or `infinite` (None, as for anything else that is no time)."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def count_gpus(gres: str, kind: str | None = None) -> int:
    """GPUs in `gpu:a100:4(S:0-1),gpu:t4:2,license:1`; with `kind`, those of that type."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    entries = [item.split(":") for item in plain.split(",") if item.split(":")[0] == "gpu"]
    entries = [parts for parts in entries if kind is None or parts[1:2] == [kind]]
    return sum(int(parts[-1]) if parts[-1].isdigit() else 1 for parts in entries)


def has_features(node: Node, constraint: str | None) -> bool:
    """Whether a node satisfies `a100&nvme` or `a100|h100`. True for anything harder: Slurm decides."""
    if not constraint or re.search(r"[^\w.&|-]", constraint):
        return True
    return any(all(part in node.features for part in alternative.split("&")) for alternative in constraint.split("|"))


def is_free(node: Node) -> bool:
    """Idle, or powered down by the cluster's own power saving (`idle~`). Not `idle*`: it does not answer."""
    return node.up and node.state in {"idle", "idle~"}


def parse_submitted(text: str) -> str:
    """Job id from `sbatch --parsable` (`1234` or `1234;cluster`). Raises ValueError for anything else."""
    job_id = text.strip().split("\n")[-1].split(";")[0]
    if not job_id.isdigit():
        raise ValueError(f"sbatch answered {text.strip()!r} instead of a job id")
    return job_id


def combine(rows: Iterable[Row]) -> Meaning:
    """One meaning for all rows of a job: a live task keeps a job array alive, then the worst end counts."""
    meanings = [_explained(row) for row in rows]
    order: tuple[JobState, ...] = ("RUNNING", "PENDING", "UNKNOWN", "FAILED", "CANCELLED", "LOST", "SUCCEEDED")
    return min(meanings, key=lambda item: order.index(item.state))


def _explained(row: Row) -> Meaning:
    state = meaning(row.state)
    if row.state == "PENDING" and row.reason not in {"", "None"}:
        return Meaning("PENDING", f"waits: {row.reason}")
    return state


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)
