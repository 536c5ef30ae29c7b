"""Children that never outlive their purpose, and a registry that finds them after a crash.

Laws:
- A record is on disk before its child runs. It is completed (pid, creation time) right after, and a child whose parent
  died in between is found by the random token in its environment.
- Only what is recorded is ever ended. A pid counts as the recorded process only with the same creation time; nothing
  is looked up by name.
- Each child leads a session of its own, so its descendants are found by session and process group.
- A child and all its descendants die with their parent (see keeper.py) unless it was started `detached`: by `kill -9`
  of the parent as well as at its normal end. The kernel notices the end of the parent *thread*, so all children are
  started from one thread that lives as long as the interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import psutil

from draftsmith.kit import keeper
from draftsmith.kit.files import PRIVATE_FILE, append_line, private_dir, read_json, write_json

TOKEN_VARIABLE = "DRAFTSMITH_PROCESS_TOKEN"
GRACE_S = 15.0
KILL_WAIT_S = 10.0
UNKNOWN_EXIT = -1
COMMANDS = "commands.jsonl"  # in the registry: every command line that was ever started, for the evidence
POLL_S = 0.05


@dataclass(frozen=True)
class ProcessRecord:
    """One started child, as kept on disk. `pid` (its keeper's) None = intended, and perhaps not carried out."""

    token: str
    label: str
    argv0: str
    log: str
    owner_pid: int
    owner_create_time: float
    detached: bool = False
    pid: int | None = None
    pgid: int | None = None
    create_time: float | None = None


class Child(Protocol):
    """What is kept of a child that can be waited for."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""


class Process:
    """A started child. `record` is what the registry holds; `log` receives its stdout and stderr."""

    def __init__(self, record: ProcessRecord, path: Path) -> None:
        self.record = record
        self.path = path

    @property
    def pid(self) -> int:
        """Process id of the keeper, which leads the session. Raises ValueError for a record whose start was never completed."""
        if self.record.pid is None:
            raise ValueError(f"{self.record.label} was never started")
        return self.record.pid

    @property
    def log(self) -> Path:
        """File with stdout and stderr."""
        return Path(self.record.log)

    def exit_code(self) -> int | None:
        """None while it runs; negative = ended by that signal. UNKNOWN_EXIT if it was another process's child."""
        popen = _children.get(self.record.token)
        if popen is not None:
            return popen.poll()
        return None if is_alive(self.record) else UNKNOWN_EXIT


def start(
    argv: Sequence[str],
    *,
    registry: Path,
    label: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    detached: bool = False,
    grace_s: float = GRACE_S,
) -> Process:
    """Start `argv` in a session of its own, with its output appended to the private file `log`.

    `env` is the whole environment (None = this one's). Safe to call from any thread. A program that cannot be run
    ends with exit code 127 and says so in the log. `grace_s`: between SIGTERM and SIGKILL when this process dies. Raises OSError if the registry or log cannot be written.
    """
    reap()
    token = secrets.token_hex(16)
    record = ProcessRecord(
        token=token,
        label=label,
        argv0=argv[0],
        log=str(log.resolve()),
        owner_pid=os.getpid(),
        owner_create_time=psutil.Process().create_time(),
        detached=detached,
    )
    path = private_dir(registry) / f"{token}.json"
    write_json(path, asdict(record))
    # A chain: what a child of ours starts by this module, in a session of its own, still belongs to us.
    chain = [*os.environ.get(TOKEN_VARIABLE, "").split(":"), token]
    environment = {**(os.environ if env is None else env), TOKEN_VARIABLE: ":".join(filter(None, chain))}
    parent = "0" if detached else str(os.getpid())
    command = [sys.executable, "-I", "-S", keeper.__file__, parent, f"{grace_s:g}", *argv]
    try:
        popen = _spawner().submit(spawn, command, log, environment, cwd).result()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    with contextlib.suppress(psutil.NoSuchProcess):
        record = replace(record, pid=popen.pid, pgid=popen.pid, create_time=psutil.Process(popen.pid).create_time())
    _children[token] = popen
    write_json(path, asdict(record))
    line = {"label": label, "argv": list(argv), "log": record.log, "at_unix_s": time.time()}
    append_line(registry / COMMANDS, json.dumps(line))
    return Process(record, path)


def stop(process: Process, grace_s: float = GRACE_S) -> int | None:
    """End the child and everything in its session: SIGTERM, then SIGKILL after `grace_s` seconds.

    Returns its exit code (see `Process.exit_code`). Stopping twice is harmless.
    """
    _end(process.record, grace_s)
    _forget(process.path, process.record)
    return process.exit_code()


def sweep(registry: Path, grace_s: float = GRACE_S) -> list[ProcessRecord]:
    """End what a Draftsmith that no longer runs left behind, and forget its records. Returns what was ended.

    Records of a living owner and detached children are left alone.
    """
    ended = []
    for path, record in records(registry):
        if record.detached or _same(record.owner_pid, record.owner_create_time):
            continue
        if _end(record, grace_s):
            ended.append(record)
        _forget(path, record)
    return ended


def records(registry: Path) -> list[tuple[Path, ProcessRecord]]:
    """All readable records with their files. A file of another shape is skipped: it names nothing that may be ended."""
    known = {field.name for field in fields(ProcessRecord)}
    records_read = []
    for path in sorted(registry.glob("*.json")):
        with contextlib.suppress(OSError, json.JSONDecodeError, TypeError, AttributeError):
            data = read_json(path)
            record = ProcessRecord(**{k: v for k, v in data.items() if k in known})
            if _is_token(record.token):
                records_read.append((path, record))
    return records_read


def _is_token(token: object) -> bool:
    """Whether it is one that `start` made. An empty one would be "found" in the environment of every process."""
    return isinstance(token, str) and re.fullmatch(r"[0-9a-f]{32}", token) is not None


def reap() -> None:
    """Collect the exit codes of children that have ended, so that no zombie process remains."""
    for popen in list(_children.values()):
        popen.poll()


def is_alive(record: ProcessRecord) -> bool:
    """Whether the recorded process itself still runs (a zombie does not)."""
    return record.pid is not None and _same(record.pid, record.create_time)


def members(record: ProcessRecord) -> list[psutil.Process]:
    """The recorded process and its living descendants: by session, by group, or by the token in their environment.

    While the leader lives, membership of its session or group is proof. Once it is gone its number may belong to
    someone else, so a process must then carry the token or hold the child's log open.
    """
    leader_alive = is_alive(record)
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            own_session = _in_session(process.pid, record.pid)
            if (own_session and (leader_alive or _carries(process, record))) or _has_token(process, record):
                processes.append(process)
    return processes


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None) -> Child:
    """Run a keeper's command line in a session of its own, with its output appended to `log`. Raises OSError."""
    private_dir(log.parent)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    try:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(handle)


_children: dict[str, Child] = {}  # by token; only these can be waited for
atexit.register(reap)
os.register_at_fork(after_in_child=_children.clear)  # they are the parent's
_spawner_lock = threading.Lock()
_spawners: dict[int, ThreadPoolExecutor] = {}


def _spawner() -> ThreadPoolExecutor:
    """The one thread that starts children; a forked copy of this process gets its own."""
    with _spawner_lock:
        return _spawners.setdefault(os.getpid(), ThreadPoolExecutor(1, "draftsmith-start"))


def _same(pid: int, create_time: float | None) -> bool:
    """Whether `pid` is alive and is the process created then (0.02 s: the kernel counts in ticks of 0.01 s)."""
    if create_time is None:
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - create_time) < 0.02
    return False


def _in_session(pid: int, leader: int | None) -> bool:
    return leader is not None and (os.getsid(pid) == leader or os.getpgid(pid) == leader)


def _carries(process: psutil.Process, record: ProcessRecord) -> bool:
    """Proof that survives the leader: the token, or the log held open (some programs overwrite their environment)."""
    return _has_token(process, record) or any(file.path == record.log for file in _open_files(process))


def _has_token(process: psutil.Process, record: ProcessRecord) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return _is_token(record.token) and record.token in process.environ().get(TOKEN_VARIABLE, "").split(":")
    return False


def _open_files(process: psutil.Process) -> Iterable[Any]:
    with contextlib.suppress(psutil.Error, OSError):
        return process.open_files()
    return []


def _end(record: ProcessRecord, grace_s: float) -> bool:
    """SIGTERM, wait, SIGKILL until nothing is left. True if anything had been running."""
    living = members(record)
    if not living:
        return False
    for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        deadline = time.monotonic() + patience
        leader = [p for p in living if p.pid == record.pid]
        # Only the keeper gets SIGTERM and passes it on, so that the program receives it once.
        _signal(leader if leader and number == signal.SIGTERM else living, number)
        while living and time.monotonic() < deadline:
            time.sleep(POLL_S)
            reap()
            living = [p for p in living if _running(p)] or members(record)
        if not living:
            return True
    return True


def _forget(path: Path, record: ProcessRecord) -> None:
    """Delete a record, unless something survived even SIGKILL (a process stuck in a driver): the next sweep tries again."""
    if not members(record):
        path.unlink(missing_ok=True)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)  # psutil refuses if the pid has been given to another process


def _running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
