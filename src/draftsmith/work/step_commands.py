"""What was run, for the evidence: a job's program with its plan and output, then every process that it started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from draftsmith.kit.files import read_lines
from draftsmith.kit.processes import COMMANDS
from draftsmith.store.evidence import CommandRecord


def job_commands(step: str, folder: Path, *, logs: bool, exit_code: int | None) -> Iterator[CommandRecord]:
    """The job in `folder`, and its shards. `logs`: with what they printed."""
    plan = folder / "plan.json"
    if not plan.exists():
        return
    argv = ("python", "-m", f"draftsmith.work.{step}", str(plan))
    for place in (folder, *sorted(folder.glob("shard-*"))):
        out, err = (place / "stdout.log", place / "stderr.log") if logs else ("", "")
        if place == folder:
            yield CommandRecord(step, argv, out, err, exit_code, plan=plan)
        elif logs:
            yield CommandRecord(f"{step}-{place.name}", argv, out, err)


def started_commands(registry: Path, phases: Path | None = None) -> Iterator[CommandRecord]:
    """Command lines of the engines and other programs that jobs started, in that order, without their output: an engine's
    log may quote what it was asked. `phases`: the folder of the phases, to name the one that each belongs to.
    """
    for line in read_lines(registry / COMMANDS):
        try:
            value = json.loads(line)
            label, words, log = str(value["label"]), list(map(str, value["argv"])), Path(value["log"])
        except (ValueError, LookupError, TypeError):
            continue
        phase = log.relative_to(phases).parts[0] if phases and log.is_relative_to(phases) else ""
        argv = (
            (Path(words[0]).name, *words[1:]) if words else ()
        )  # where an interpreter lies is the machine's own affair
        yield CommandRecord(f"{phase}-{label}" if phase else label, argv)
