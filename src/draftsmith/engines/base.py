"""What an engine must be able to do, and the values that go in and out.

An engine is a subprocess with an interpreter of its own. `command` is text and touches nothing; the other methods
perform. Servers listen on the loopback address unless the specification says otherwise.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.measure import EngineFacts, SpecCounters
from draftsmith.kit.processes import Process

LOOPBACK = "127.0.0.1"
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not bound


class CaptureSpec(Frozen):
    """Save hidden states of each request instead of speculating. The storage folder is created private."""

    layer_ids: tuple[int, ...] = Field(description="the engine's ids: k = residual stream after k layers; L allowed")
    storage: str = Field(description="absolute folder that receives one safetensors file a request")


class ServerSpec(Frozen):
    """One server configuration. `port` 0 means: choose a free one at start."""

    model: str
    served_name: str = "target"
    host: str = LOOPBACK
    port: int = 0
    spec_config: dict[str, Any] | None = Field(None, description="the engine's speculative config; None = off")
    capture: CaptureSpec | None = None
    max_model_len: int = 2048
    max_num_seqs: int = 32
    prefix_caching: bool = False
    enforce_eager: bool = False
    per_request_metrics: bool = Field(False, description="acceptance counts in each response, where supported")
    cpu_kv_gib: float = 2.0
    cpu_threads: str | None = Field(
        None, description="cores on CPU, for example `0-1`; None = all this process may use"
    )
    gpu_memory_share: float | None = None
    middleware: tuple[str, ...] = Field((), description="`package.Class`, importable in the engine's interpreter")
    flags: tuple[str, ...] = Field((), description="further flags, as they are; none that this type already decides")
    env: dict[str, str] = Field(default_factory=dict, description="wins over what the engine adapter sets")
    python: str | None = Field(None, description="interpreter that has the engine; None = the current one")


class Command(Frozen):
    """What is executed: `env` is added to the environment of this process."""

    argv: tuple[str, ...]
    env: dict[str, str]


class ServerIdentity(Frozen):
    """Who answers at a URL. Two readings with another `start_id` are two different server starts."""

    version: str | None
    model: str | None
    start_id: str | None = Field(description="None if the server does not publish when it started")
    max_model_len: int | None = None


@dataclass(frozen=True)
class Server:
    """A started server. It serves only once `wait_ready` returned."""

    spec: ServerSpec
    process: Process
    start_id: str

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""
        host = LOOPBACK if self.spec.host in EVERYWHERE else self.spec.host
        return f"http://[{host}]:{self.spec.port}" if ":" in host else f"http://{host}:{self.spec.port}"

    @property
    def log(self) -> Path:
        """The engine's own output."""
        return self.process.log


@dataclass(frozen=True)
class Snapshot:
    """Counter values at one moment: (metric, label value or "") -> value. `start_id` as in ServerIdentity."""

    values: dict[tuple[str, str], float]
    start_id: str | None


OnStage = Callable[[str, float], None]
"""Called with a phrase ("loading weights") and seconds since the start, whenever the stage changes."""


class Engine(Protocol):
    """A serving engine. See `vllm.VllmEngine` for the errors each method raises."""

    def command(self, spec: ServerSpec) -> Command:
        """The command line and environment, as text."""
        ...

    def start(self, spec: ServerSpec, workdir: Path) -> Server:
        """Start the process and return at once."""
        ...

    def wait_ready(self, server: Server, timeout_s: float, on_stage: OnStage | None = None) -> None:
        """Block until it serves."""
        ...

    def facts(self, server: Server) -> EngineFacts:
        """What the engine said about itself in its log."""
        ...

    def counters(self, url: str) -> Snapshot:
        """The counters, settled: call after the last response."""
        ...

    def diff(self, before: Snapshot, after: Snapshot) -> SpecCounters:
        """What happened between two snapshots of the same server."""
        ...

    def stop(self, server: Server) -> None:
        """End the server and everything it started."""
        ...


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(host: str, port: int) -> None:
    """Raise PrerequisiteError if `port` cannot be bound on `host`."""
    with contextlib.closing(socket.socket(_family(host), socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PrerequisiteError(
                f"port {port} on {host} cannot be used: {error.strerror}",
                "leave the port out to have a free one chosen, or stop what listens there",
            ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
