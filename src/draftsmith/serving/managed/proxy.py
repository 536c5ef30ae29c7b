"""The proxy as a process, and its runtime socket."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from draftsmith.contract.errors import BackendError, PrerequisiteError
from draftsmith.engines.base import require_free_port
from draftsmith.kit import processes
from draftsmith.kit.clock import Clock, SystemClock
from draftsmith.kit.files import private_dir, write_atomic
from draftsmith.serving.managed.haproxy import SlotStats, config_text, read_stats

LABEL = "haproxy"
ANSWER_S = 5.0
START_S = 10.0
LONGEST_SOCKET = 90
GET_IT = "apt-get install haproxy (2.4 or newer), or set serving.options.haproxy to where it is"


def find(program: str) -> str:
    """The program's path. Raises PrerequisiteError that says how to get it."""
    executable = shutil.which(program)
    if executable is None:
        raise PrerequisiteError(f"{program} is not installed: a managed service needs it", GET_IT)
    return executable


class Proxy:
    """HAProxy of one workspace. It outlives the controller: the next one finds it by its record."""

    def __init__(self, folder: Path, program: str, host: str, port: int, clock: Clock | None = None) -> None:
        self.folder, self.program, self.host, self.port = folder, program, host, port
        self.clock = clock or SystemClock()
        self.registry = private_dir(folder / "processes")
        self.socket = _socket_path(folder)

    def alive(self) -> bool:
        """Whether it runs and answers on its socket."""
        try:
            self.stats()
        except BackendError:
            return False
        return True

    def start(self) -> bool:
        """Start it unless it runs. True if it was started: then all its places are closed.

        Raises PrerequisiteError if it is not installed or the port is taken, BackendError if it does not start.
        """
        if self.alive():
            return False
        self.stop()
        program = find(self.program)
        require_free_port(self.host, self.port)
        config = write_atomic(self.folder / "haproxy.cfg", config_text(self.host, self.port, str(self.socket)))
        process = processes.start(
            (program, "-db", "-f", str(config)),
            registry=self.registry,
            label=LABEL,
            log=self.folder / "haproxy.log",
            detached=True,
        )
        deadline = self.clock.monotonic() + START_S
        while not self.alive():
            if process.exit_code() is not None or self.clock.monotonic() > deadline:
                processes.stop(process)
                raise BackendError("haproxy did not start", f"see {self.folder / 'haproxy.log'}")
            self.clock.sleep(0.05)
        return True

    def stop(self) -> None:
        """End it, and what is left of an earlier one."""
        for path, record in processes.records(self.registry):
            if record.label == LABEL:
                processes.stop(processes.Process(record, path))
        self.socket.unlink(missing_ok=True)

    def say(self, words: Sequence[str]) -> None:
        """Give it words, one after the other. Raises BackendError if it refuses one, or is not there."""
        for word in words:
            answer = self._ask(word).strip()
            # It answers a change with nothing, or with a sentence that it was made.
            if answer and "changed" not in answer and "no need to change" not in answer:
                raise BackendError(f"haproxy answered to {word!r}: {answer[:200]}", "see the proxy's log")

    def stats(self) -> dict[str, SlotStats]:
        """Its places. Raises BackendError if it does not answer."""
        try:
            return read_stats(self._ask("show stat"))
        except (ValueError, KeyError):
            raise BackendError("haproxy's statistics cannot be read", "use HAProxy 2.4 or newer") from None

    def _ask(self, word: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            try:
                line.connect(str(self.socket))
                line.sendall(word.encode() + b"\n")
                parts = []
                while part := line.recv(65536):
                    parts.append(part)
            except OSError as error:
                raise BackendError(
                    f"haproxy does not answer ({error.strerror or type(error).__name__})", "see the proxy's log"
                ) from None
        return b"".join(parts).decode("utf-8", "replace")


def _socket_path(folder: Path) -> Path:
    """Where the socket lies: in the folder, or, where its path would be too long for one, in a private folder apart."""
    path = folder.resolve() / "haproxy.sock"
    if len(str(path)) <= LONGEST_SOCKET:
        return path
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return private_dir(Path(tempfile.gettempdir()) / f"draftsmith-{os.getuid()}-{name}") / "haproxy.sock"
