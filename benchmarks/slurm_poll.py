"""What one look at 10,000 Slurm jobs costs Draftsmith, and how often the scheduler is asked.

    python benchmarks/slurm_poll.py [--jobs 10000]

`squeue` and `sacct` are programs that print recorded wire format, so that a process is started for each question as on
a real cluster; the scheduler's own time is left out. Three situations: all jobs live; half of them ended with a
result; an hour of polls once a second. The price of asking job by job is that of as many started processes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests" / "fakes"))
from fake_clock import FakeClock

from draftsmith.backends.notes import JobNote, Notes
from draftsmith.backends.slurm import SlurmBackend
from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.contract.job import JobSpec


class Cluster:
    """A queue of `jobs` jobs in a temporary folder."""

    def __init__(self, root: Path, jobs: int) -> None:
        self.root, self.names = root, [f"r{n}.train" for n in range(jobs)]
        self.handles = [f"{100_000 + n}@{name}" for n, name in enumerate(self.names)]
        for program in ("squeue", "sacct"):
            (root / program).write_text(f"#!/bin/sh\nexec cat {root}/{program}.txt\n")
            (root / program).chmod(0o755)
        self.clock, self.commands = FakeClock(), SlurmCommands(path=str(root))
        self.backend = SlurmBackend(root, SlurmOptions(), clock=self.clock, commands=self.commands)

    def queue(self, first: int, state: str) -> None:
        rows = (
            f"{100_000 + n}|N/A|{state}|None|{self.names[n]}|draftsmith:{self.names[n]}"
            for n in range(first, len(self.names))
        )
        (self.root / "squeue.txt").write_text("\n".join(rows) + "\n")

    def note(self, upto: int, with_result: int) -> None:
        notes = Notes(self.root)
        for n in range(upto):
            spec = JobSpec(name=self.names[n], argv=("x",), workdir=str(self.root / "runs" / self.names[n]))
            notes.intend(JobNote(spec=spec, backend="slurm", intended_unix_s=0, handle=self.handles[n]))
            if n < with_result:
                (Path(spec.workdir) / "result.json").write_text(json.dumps({"ok": True}))
        rows = (f"{100_000 + n}|FAILED|1:0" for n in range(with_result, upto))
        (self.root / "sacct.txt").write_text("\n".join(rows) + "\n")

    def look(self) -> tuple[dict[str, int], float, int]:
        """(jobs by state, seconds, commands) of one look."""
        self.clock.advance(3600)
        before, start = self.commands.calls, time.perf_counter()
        states: dict[str, int] = {}
        for status in self.backend.poll(self.handles).values():
            states[status.state] = states.get(status.state, 0) + 1
        return states, time.perf_counter() - start, self.commands.calls - before


def measure(jobs: int) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        cluster, table = Cluster(Path(folder), jobs), []

        def row(text: str) -> None:
            states, seconds, commands = cluster.look()
            table.append({"look": text, "ms": round(seconds * 1000, 1), "commands": commands, "states": states})

        cluster.queue(0, "RUNNING")
        row("all live, first look")
        row("all live, again")
        cluster.note(jobs // 2, jobs // 4)
        cluster.queue(jobs // 2, "RUNNING")
        row("half ended: a quarter with a result, a quarter known to accounting alone")
        row("half ended, again")
        before, start = cluster.commands.calls, time.perf_counter()
        for _ in range(3600):
            cluster.backend.poll(cluster.handles)
            cluster.clock.advance(1)
        hour = time.perf_counter() - start
        table.append(
            {
                "look": "an hour of polls, one a second",
                "ms": round(hour * 1000 / 3600, 2),
                "commands": cluster.commands.calls - before,
            }
        )
        start = time.perf_counter()
        for _ in range(100):
            cluster.commands.run(("sacct",))
        table.append(
            {
                "look": "for comparison: one command a job",
                "ms": round((time.perf_counter() - start) * 10 * jobs),
                "commands": jobs,
            }
        )
        return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    for row in measure(parser.parse_args().jobs):
        json.dump(row, sys.stdout)
        print()


if __name__ == "__main__":
    main()
