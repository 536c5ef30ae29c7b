"""Commands: they parse, call the api and print. Nothing is decided here.

agents.py    commands for programs and pipelines: the MCP server, and what moved since a baseline
app.py       the command tree
campaigns.py commands of campaigns: settled, measured cell by cell, gathered, set beside the GPU's counters
canary.py    canaries in Kubernetes: planned, up, down, swept; and the patch that a promotion would be
controller.py  the controller: started, looked at, told
frontier.py  the frontier, and the last words of every command that measures
gate.py      commands of the gate: compare any servers, decide on recorded samples, verify a bundle
lake.py      commands of the lake: publish a verified bundle, ask what is in it
loop.py      commands of the loop: run, its phases one by one, promotion and rollback, and looking at runs
options.py   options that several commands share
output.py    how commands speak: text for people, one JSON value on standard output for scripts
plan.py      `draftsmith plan`
progress.py  progress of long work: a bar on a terminal, elsewhere a line every ten seconds
records.py   the command that shows what was understood of a log
scaffold.py  `draftsmith scaffold`: the recipe for teams that run SpecForge on their own cluster
tools.py     commands around the loop: doctor, lint, demo and its target
top.py       the screen of `draftsmith top`
traffic.py   commands on traffic: profile, drift, mix and replay
watching.py  commands for those who watch: metrics, the page, the terminal
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from draftsmith.contract.errors import PrerequisiteError


def main() -> None:
    """Entry point of `draftsmith`: errors become one message, a next step and an exit code."""
    from draftsmith.cli.app import app
    from draftsmith.cli.output import fail
    from draftsmith.contract.errors import DraftsmithError, RunInterruptedError

    try:
        app(spelled(sys.argv[1:]))
    except DraftsmithError as error:
        fail(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(RunInterruptedError.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as problem:
        refused = from_system(problem)
        fail(refused)
        sys.exit(refused.exit_code)


def spelled(words: list[str]) -> list[str]:
    """The words of a command line with what may be left out put in: the value of a bare `--aa-shapes`."""
    result: list[str] = []
    for word, after in zip(words, [*words[1:], "-"], strict=True):
        result += [word, "default"] if word == "--aa-shapes" and after.startswith("-") else [word]
    return result


def from_system(problem: OSError) -> PrerequisiteError:
    """What the operating system refused, as a message with a next step."""
    from draftsmith.contract.errors import PrerequisiteError

    name = os.path.basename(str(problem.filename)) if problem.filename else "a file"
    full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
    step = "free space there and run again: finished work is kept" if full else "make it accessible and run again"
    return PrerequisiteError(f"{name}: {problem.strerror or type(problem).__name__}", step)


if __name__ == "__main__":
    main()
