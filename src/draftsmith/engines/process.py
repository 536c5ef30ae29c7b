"""A server as a process of this machine: start, watch, stop. What one engine does otherwise is in its own folder."""

from __future__ import annotations

import contextlib
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil

from draftsmith.contract.errors import EngineLostError, EngineStartError, PrerequisiteError
from draftsmith.engines.base import Command, OnStage, Server, ServerSpec, free_port, require_free_port
from draftsmith.engines.counters import SETTLE_POLL_S
from draftsmith.engines.diagnosis import Diagnosis, clean, tail
from draftsmith.kit import processes
from draftsmith.kit.certificates import trusted
from draftsmith.kit.clock import Clock, SystemClock, pauses
from draftsmith.kit.files import private_dir

POLL_S = 0.5
HEALTH_TIMEOUT_S = 5.0
SILENCE_S = 20.0
LOOK_AGAIN_S = 0.2
LOG_BYTES = 4 * 2**20


class ServerProcess(ABC):
    """The part of an Engine that is the same for all of them: their servers are processes that answer /health."""

    name: str
    title: str
    detached: bool = False
    """Whether started servers outlive this process: those that serve clients do, those of a job do not."""
    not_inherited: frozenset[str] = frozenset()
    """Variables of this process that a started server must not see."""

    def __init__(self, registry: Path, clock: Clock | None = None, pause_s: float = SETTLE_POLL_S) -> None:
        """`pause_s`: between two readings of the counters, until they are at rest."""
        self.registry, self.pause_s = registry, pause_s
        self.clock = clock or SystemClock()

    @abstractmethod
    def command(self, spec: ServerSpec) -> Command:
        """See Engine."""

    @abstractmethod
    def stage(self, lines: list[str]) -> str:
        """The latest stage of a start that the log speaks of."""

    @abstractmethod
    def diagnose(self, text: str, exit_code: int | None) -> Diagnosis:
        """Why a server failed, from its log and exit code (None = it still runs)."""

    def check_own(self, words: Sequence[str]) -> None:  # noqa: B027 - what an engine refuses by itself at once is left to it
        """See Engine."""

    def start(self, spec: ServerSpec, workdir: Path) -> Server:
        """See Engine. The log is `workdir`/<served name>-<port>.log, private; each start has a file of its own.

        Raises PrerequisiteError if the port is taken or the model folder is missing, and what `command` raises.
        """
        if spec.port:
            require_free_port(spec.host, spec.port)
        else:
            spec = spec.model_copy(update={"port": free_port(spec.host)})
        if spec.model.startswith((".", "/")) and not Path(spec.model, "config.json").is_file():
            raise PrerequisiteError(
                f"{spec.model} holds no config.json", "set target to the folder of the served model"
            )
        command = self.command(spec)
        private_dir(workdir)
        if spec.capture is not None:
            private_dir(Path(spec.capture.storage))
        process = processes.start(
            command.argv,
            registry=self.registry,
            label=f"{self.name} {spec.served_name} :{spec.port}",
            log=_fresh(workdir, f"{spec.served_name.replace('/', '_')}-{spec.port}"),
            env={**{k: v for k, v in os.environ.items() if k not in self.not_inherited}, **command.env},
            detached=self.detached,
        )
        return Server(spec=spec, process=process, start_id=process.record.token)

    def wait_ready(self, server: Server, timeout_s: float, on_stage: OnStage | None = None) -> None:
        """See Engine. On failure the server is stopped and EngineStartError names the cause and the next step."""
        begin = self.clock.monotonic()
        shown = ""
        pause = pauses(POLL_S)
        while True:
            code = server.process.exit_code()
            if code is not None:
                raise self._failed(server, code)
            elapsed = self.clock.monotonic() - begin
            if healthy(server.url) and _listens(server):
                if on_stage is not None:
                    on_stage("ready", elapsed)
                return
            now = self.stage(clean(read_head(server.log)))
            if on_stage is not None and now != shown:
                on_stage(now, elapsed)
            shown = now
            if elapsed > timeout_s:
                raise self._failed(server, None, f"the engine was not ready after {timeout_s:.0f} s, while {now}")
            self.clock.sleep(next(pause))

    def healthy(self, url: str) -> bool:
        """See Engine."""
        return healthy(url)

    def require_alive(self, server: Server) -> None:
        """Raise EngineLostError with the cause if a server that had been ready no longer serves.

        A process that runs but does not answer gets 20 s: it may only be busy, or be about to end.
        """
        deadline = self.clock.monotonic() + SILENCE_S
        while (code := server.process.exit_code()) is None:
            if healthy(server.url):
                return
            if self.clock.monotonic() >= deadline:
                break
            self.clock.sleep(LOOK_AGAIN_S)
        diagnosis = self.diagnose(read_end(server.log), code)
        if code is None and not diagnosis.recognised:
            raise EngineLostError(f"the engine runs but has not answered for {SILENCE_S:.0f} s", diagnosis.next_step)
        raise EngineLostError(f"the engine went away: {diagnosis.cause}", diagnosis.next_step)

    def stop(self, server: Server) -> None:
        """See Engine. Stopping twice is harmless."""
        processes.stop(server.process)

    def _failed(self, server: Server, code: int | None, late: str | None = None) -> EngineStartError:
        processes.stop(server.process)
        text = read_end(server.log)
        diagnosis = self.diagnose(text, code)
        if late is not None and not diagnosis.recognised:
            diagnosis = Diagnosis(late, "raise engine.start_timeout_s, or read the log", recognised=True)
        return EngineStartError(diagnosis.cause, tail(text), f"{diagnosis.next_step} (log: {server.log.name})")


def healthy(url: str) -> bool:
    """Whether /health answers 200."""
    try:
        return httpx.get(f"{url}/health", timeout=HEALTH_TIMEOUT_S, trust_env=False, verify=trusted()).is_success
    except httpx.HTTPError:
        return False


def read_head(path: Path) -> str:
    """The part of a log that holds the start; a server that has answered for days may have written gigabytes."""
    return _read(path, 0)


def read_end(path: Path) -> str:
    """The last part of a log, where a failure is."""
    try:
        return _read(path, max(0, path.stat().st_size - LOG_BYTES))
    except FileNotFoundError:
        return ""


def _read(path: Path, offset: int) -> str:
    try:
        with path.open("rb") as log:
            log.seek(offset)
            return log.read(LOG_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _fresh(folder: Path, stem: str) -> Path:
    """A log file that does not exist yet: facts must never be read from an earlier start."""
    names = (f"{stem}.log" if n == 1 else f"{stem}.{n}.log" for n in itertools.count(1))
    return next(path for name in names if not (path := folder / name).exists())


def _listens(server: Server) -> bool:
    """Whether it is this server, and not another one on the same port, that answers there."""
    for process in processes.members(server.process.record):
        with contextlib.suppress(psutil.Error):
            sockets = process.net_connections(kind="tcp")
            if any(s.status == psutil.CONN_LISTEN and s.laddr.port == server.spec.port for s in sockets):
                return True
    return False
