"""The shell text that every job of a cluster is wrapped in, and what it leaves behind: pure, but for reading one small file.

The text never holds the job's variables, only where they lie: `job.env`, private to its owner. A scheduler keeps scripts
and objects where an administrator or a log may show them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from draftsmith.backends.base import CouldNotLookError
from draftsmith.contract.errors import InputError
from draftsmith.contract.job import JobSpec

ENVIRONMENT = "job.env"
EXIT_CODE = "exit_code"
TO_CHILD = '[ -z "$child" ] || kill -TERM "$child" 2>/dev/null'

# The program runs as a child, so that the shell lives on to note the exit code: the only trace of an end on a site
# without accounting, and of a pod that was removed. A signal to the shell is handed on; `wait` returns early then, hence
# the loop.
_RUN = """\
child=
trap '{hand_on}' TERM
{command} &
child=$!
while :; do
  wait "$child"; code=$?
  kill -0 "$child" 2>/dev/null || break
done
printf '%s\\n' "$code" > {exit_code}
exit "$code"
"""


def run_child(command: str, hand_on: str = TO_CHILD) -> str:
    """Lines that run a command, note its exit code and end with it. `hand_on`: what a SIGTERM does."""
    return _RUN.format(command=command, hand_on=hand_on, exit_code=EXIT_CODE)


def environment_file(spec: JobSpec) -> str:
    """Shell text of `job.env`: the job's variables. Raises InputError for a name the shell cannot hold."""
    for key in spec.env:
        if not key.isidentifier() or not key.isascii():
            raise InputError(f"{key!r} is not the name of an environment variable", "rename or remove it")
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(spec.env.items()))


def parse_exit(text: str) -> int | None:
    """An exit code as a shell counts: 137 is signal 9 (-9)."""
    if not text.strip().isdigit():
        return None
    code = int(text)
    return 128 - code if code > 128 else code


def noted_exit(folder: Path) -> int | None:
    """The exit code that the shell noted; None if it did not. Raises CouldNotLookError."""
    try:
        return parse_exit((folder / EXIT_CODE).read_text(encoding="ascii"))
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise CouldNotLookError(f"{folder / EXIT_CODE}: {error.strerror}") from error
