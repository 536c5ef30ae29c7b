"""Commands and their jobs without the seconds that each spends on imports: forks of one process that has imported everything.

Each is a process of its own all the same, in the session, with the parent, the environment, the signals and the open
files that it has when it is started from nothing; keeper and registry are the real ones. Only the program that the
keeper becomes is a fork in place of an `exec`. What is not a program of Draftsmith is executed as ever.

    forked.py FD     serves requests on that socket: {"argv", "env", "cwd"} with two files for output -> exit code
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import fake_engine_python

from draftsmith.kit import bandwidth, keeper, processes
from draftsmith.kit.files import PRIVATE_FILE, private_dir

IMPORTED = (
    "draftsmith.cli.app", "draftsmith.api", "draftsmith.work.profile", "draftsmith.work.corpus", "draftsmith.work.capture", "draftsmith.work.train",
    "draftsmith.work.publish", "draftsmith.work.compare.job", "draftsmith.work.compare.campaign", "draftsmith.corpus.build", "draftsmith.report.page",
    "polars", "datasketch", "tokenizers", "httpx", "safetensors.numpy", "http.server", "scipy.special", "matplotlib.figure", "matplotlib.backends.backend_svg",
)  # fmt: skip
SPLIT_STDERR = ["/bin/sh", "-c", 'exec "$@" 2>>"$0"']
execute = keeper.become


class Forked:
    """A forked child, as `subprocess.Popen` would show it."""

    def __init__(self, pid: int) -> None:
        self.pid, self.code = pid, None

    def poll(self) -> int | None:
        if self.code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code


def ending(main: Callable[[], object]) -> NoReturn:
    """Run `main` to the end of this process, with what an interpreter does at its end."""
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()
    with contextlib.suppress(BaseException):
        __import__("atexit")._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)


def as_new(out: int, err: int, env: Mapping[str, str], cwd: str | Path | None) -> None:
    """In a fork: no file of the parent, and the environment, folder and signals of a program that begins."""
    gc.freeze()  # what the parent forgot is not tidied here: its files would be closed under numbers that are in use
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, handle in ((0, nothing), (1, out), (2, err)):
        os.dup2(handle, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):
                os.dup2(nothing, number, inheritable=False)  # a lock that the parent holds is its own
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    speak()


def speak() -> None:
    """Standard output and error anew, as an interpreter opens them on files."""
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))  # type: ignore[arg-type,type-var]
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "wb", closefd=False)))
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "wb", closefd=False), errors="backslashreplace", write_through=True)  # type: ignore[arg-type,type-var]


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None) -> processes.Child:
    """See `processes.spawn`: the keeper, forked."""
    parent, grace_s, argv = int(command[4]), float(command[5]), list(command[6:])
    if any("polars" in Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()):
        return started(command, log, env, cwd)  # its threads do not survive a fork, and what they hold stays locked
    private_dir(log.parent)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    try:
        pid = os.fork()
        if pid == 0:
            ending(lambda: keep(handle, env, cwd, parent, grace_s, argv))
        return Forked(pid)
    finally:
        os.close(handle)


started = processes.spawn


def keep(handle: int, env: Mapping[str, str], cwd: Path | None, parent: int, grace_s: float, argv: list[str]) -> None:
    os.setsid()
    as_new(handle, handle, env, cwd)
    try:
        keeper.main(parent, grace_s, argv)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)


def become(argv: list[str], parent: int) -> NoReturn:
    """See `keeper.become`."""
    program = argv[4:] if argv[:3] == SPLIT_STDERR else argv
    ours = program[0] == sys.executable and program[2].startswith("draftsmith.")
    engine = Path(program[0]).name == "fake_engine_python.sh"
    if program[1] != "-m" or not (ours or engine):
        execute(argv, parent)
    keeper.control(keeper.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(126)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, keeper.HEARD)
    if program is not argv:
        errors = os.open(argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
        os.dup2(errors, 2)
        os.close(errors)
    speak()
    ending(lambda: run(program[2], program[3:], engine))


def run(module: str, arguments: list[str], engine: bool) -> None:
    if engine:
        sys.path[:0] = fake_engine_python.SITES
        if not fake_engine_python.stands_in(["-m", module, *arguments]):
            return
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # it is `__main__` now
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def command(argv: list[str]) -> None:
    from draftsmith.cli import main

    sys.argv = ["draftsmith", *argv]
    main()


def serve(requests: socket.socket) -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    bandwidth.measured()  # once a process, half a second: once for all comparisons here
    processes.spawn, keeper.become = spawn, become
    while True:
        data, files, _, _ = socket.recv_fds(requests, 1 << 20, 2)
        if not data:
            return
        asked = json.loads(data)
        pid = os.fork()
        if pid == 0:
            as_new(*files, asked["env"], asked["cwd"])
            ending(partial(command, asked["argv"]))
        for handle in files:
            os.close(handle)
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


if __name__ == "__main__":
    sys.modules["forked"] = sys.modules["__main__"]
    serve(socket.socket(fileno=int(sys.argv[1])))
