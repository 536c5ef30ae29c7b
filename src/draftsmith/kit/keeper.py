"""Parent of one started program: ends it, and all it started, when Draftsmith dies or says so.

Run as a file by an isolated interpreter (`python -I -S keeper.py PARENT GRACE PROGRAM...`), standard library only: 20 ms
to start, 9 MB. A death signal alone is not enough: an engine that is still starting can swallow a SIGTERM, and its
workers can outlive a SIGKILL of their parent.

- PARENT dies (0 = nobody's): the kernel sends SIGTERM. On SIGTERM the group gets SIGTERM, and SIGKILL after GRACE s.
- PROGRAM ends: whatever it left behind is ended in the same way, and its exit status becomes this one's.
- This process is killed: the kernel kills PROGRAM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
HEARD = frozenset({signal.SIGCHLD, signal.SIGTERM})
POLL_S = 0.2


def control(option: int, value: int) -> None:
    """One prctl call; there is none outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def main(parent: int, grace_s: float, argv: list[str]) -> NoReturn:
    """Run `argv` and end as it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    if parent:
        control(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("the parent died before the start")
    control(PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    program = os.fork()
    if program == 0:
        become(argv, keeper)
    end(watch(program, grace_s))


def become(argv: list[str], keeper: int) -> NoReturn:
    """In the child: be the program, and die with the keeper."""
    control(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(126)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)


def watch(program: int, grace_s: float) -> int:
    """Wait until no descendant is left; returns the program's wait status."""
    status, deadline = 0, float("inf")
    while True:
        received = signal.sigtimedwait(HEARD, POLL_S)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = ended[1] if ended[0] == program else status
        left = children()
        if not left:
            return status
        terminated = received is not None and received.si_signo == signal.SIGTERM
        if deadline == float("inf") and (terminated or program not in left):
            deadline = time.monotonic() + grace_s
            send(signal.SIGTERM, left)
        elif time.monotonic() >= deadline:
            send(signal.SIGKILL, left)


def children() -> set[int]:
    """Children of this process, adopted ones included; zombies have been waited for."""
    me = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()}


def send(number: signal.Signals, left: set[int]) -> None:
    """To the rest of this group at once, and to children that left it."""
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL or os.getpgid(pid) != os.getpgrp():
                os.kill(pid, number)
    if number == signal.SIGTERM:
        os.killpg(0, number)
        signal.sigtimedwait({signal.SIGTERM}, 0)  # it is blocked here; take the one just sent to ourselves


def end(status: int) -> NoReturn:
    """Exit as the program did, by the same signal if it was one."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
