"""Wall time of each phase of a run, and its share of the whole.

    python benchmarks/phases.py WORKSPACE [RUN_ID]

The demo's workspace is demo/workspace. Times are of the job that did the work: a phase that was resumed counts its last
job, a reused one counts what it took when it ran.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from draftsmith.kit.hardware import describe
from draftsmith.loop.view import run_view
from draftsmith.store.runs import Store


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("run_id", nargs="?", help="default: the newest")
    options = parser.parse_args()
    run = Store(options.workspace).get(options.run_id)
    rows = [(phase.phase, phase.wall_s or 0.0) for phase in run_view(run).phases]
    whole = sum(wall for _, wall in rows)
    print(f"run {run.record.run_id} on {describe()}\n\n| phase | wall time | share |\n|---|---|---|")
    for phase, wall in rows:
        print(f"| {phase} | {wall:.1f} s | {wall / whole:.0%} |")
    print(f"| all | {whole:.1f} s | |")


if __name__ == "__main__":
    main()
