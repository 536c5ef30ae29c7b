"""What an engine must be able to do, and the values that go in and out.

An engine is a subprocess with an interpreter of its own. `command` is text and touches nothing; the other methods
perform. Servers listen on the loopback address unless the specification says otherwise.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.measure import EngineFacts, SpecCounters
from draftsmith.engines.container_command import ContainerCommand
from draftsmith.engines.models import KnownModels
from draftsmith.kit.clock import Clock
from draftsmith.kit.processes import Process

LOOPBACK = "127.0.0.1"
Device = Literal["cpu", "cuda"]
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not bound


class Installation(Frozen):
    """An engine as found in one interpreter. `flashinfer`, `suffix`: whether these optional packages are there."""

    engine: str = "vllm"
    python: str
    version: str
    device: Device
    flashinfer: bool = False
    suffix: bool = False


class Features(Frozen):
    """What one release of an engine accepts."""

    release: str
    methods: frozenset[str]
    per_request_metrics: bool
    note: str | None = None
    synthetic: Literal["engine", "worker"] | None = None
    """Whether drafts can be accepted at a chosen rate: by the engine, or by the rule in `work.inside.synthetic_acceptance`."""
    adaptive_steps: tuple[int, ...] = ()
    """Numbers of steps between which adaptive steps move where no file says others; empty: the release has none."""
    adaptive_room: bool = False
    """Whether adaptive steps may begin with fewer than the most."""
    corpus: bool = False
    """Whether a running server takes earlier answers to draft from."""
    draft_updates: bool = False
    """Whether the weights of a draft alone can be given to a running server."""

    def supports(self, method: str) -> bool:
        """Whether `method` may stand in a speculative config. Older names of MTP (`..._mtp`) count as mtp."""
        return method in self.methods or (method.endswith("_mtp") and "mtp" in self.methods)


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
    prefix_caching: bool | None = Field(False, description="None = as the engine does by default; so for the next two")
    chunked_prefill: bool | None = None
    async_scheduling: bool | None = None
    enforce_eager: bool = False
    per_request_metrics: bool = Field(False, description="acceptance counts in each response, where supported")
    cpu_kv_gib: float = 2.0
    cpu_threads: str | None = Field(
        None, description="cores on CPU, for example `0-1`; None = all this process may use"
    )
    gpu_memory_share: float | None = None
    tensor_parallel: int = Field(1, description="GPUs over which the model is split; 1 says nothing to the engine")
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
    prefix_caching: bool | None = Field(None, description="whether it keeps prefixes, where it publishes that")


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
    """A serving engine: everything that is done with one. See `vllm.engine.VllmEngine` for the errors of each method.

    Servers are started in one `registry` of processes, so that `processes.sweep(registry)` cleans up after a crash.
    """

    registry: Path
    clock: Clock
    detached: bool

    @property
    def name(self) -> str:
        """Its key in `engine.kind`, in facts and in arms."""
        ...

    @property
    def title(self) -> str:
        """Its name in sentences."""
        ...

    @property
    def captures(self) -> bool:
        """Whether it hands out the hidden states of what it serves."""
        ...

    @property
    def normed_residual(self) -> bool:
        """Whether its own model classes read `norm_before_residual` of an EAGLE3 draft."""
        ...

    # -- what is installed ----------------------------------------------------------------------------------------

    def installation(self, python: str | None, *, elsewhere: bool = False) -> Installation:
        """What an interpreter has (None = the current one). `elsewhere`: it serves on another machine; no GPU must answer.

        Raises PrerequisiteError if it cannot be run or has no such engine.
        """
        ...

    def features(self, version: str, device: Device) -> Features:
        """What a release accepts. Raises PrerequisiteError for one that is too old."""
        ...

    def known_models(self, python: str | None) -> KnownModels:
        """The models that the engine of an interpreter knows. Raises PrerequisiteError if there is none."""
        ...

    def installed(self, spec: ServerSpec) -> tuple[Installation, Features]:
        """Both, for what would serve `spec`."""
        ...

    # -- a server's life ------------------------------------------------------------------------------------------

    def command(self, spec: ServerSpec) -> Command:
        """The command line and environment, as text."""
        ...

    def kv_flags(self, gib: float, token_bytes: float) -> tuple[str, ...]:
        """Flags that fix the size of the KV cache, for servers that share a GPU.

        `token_bytes`: of one token on one GPU, for an engine that counts its cache in tokens; 0 where the target does not say.
        """
        ...

    def runs(self, words: Sequence[str]) -> bool:
        """Whether a command serves with this engine, as far as its words tell."""
        ...

    def own(self, words: Sequence[str], spec: ServerSpec) -> Command:
        """A user's own command, made to start here. The environment of `spec` wins; host and port are the caller's."""
        ...

    def no_swaps(self, python: str | None) -> str | None:
        """Why a draft alone cannot be replaced in a running server of what `python` has; None if it can."""
        ...

    def ready_for_swaps(self, spec: ServerSpec, folder: Path, drafts: Path) -> ServerSpec:
        """`spec` with what replacing a draft needs. `drafts`: drafts are read under it alone; `folder`: for files of ours."""
        ...

    def swap_draft(self, spec: ServerSpec, url: str, old: Path, new: Path) -> dict[str, Any]:
        """Put the draft in the folder `new` in the place of `old` in the running server of `spec`, and prove it; returns the report.

        Raises EngineError if it was refused, or could not be proved.
        """
        ...

    def check_own(self, words: Sequence[str]) -> None:
        """Raise ConfigError or InputError for a user's own command that contradicts itself, or names a draft it would read wrongly."""
        ...

    def start(self, spec: ServerSpec, workdir: Path) -> Server:
        """Start the process and return at once."""
        ...

    def wait_ready(self, server: Server, timeout_s: float, on_stage: OnStage | None = None) -> None:
        """Block until it serves. Raises EngineStartError with the cause."""
        ...

    def require_alive(self, server: Server) -> None:
        """Raise EngineLostError with the cause if a server that had been ready no longer serves."""
        ...

    def stop(self, server: Server) -> None:
        """End the server and everything it started. Stopping twice is harmless."""
        ...

    # -- what it says ---------------------------------------------------------------------------------------------

    def facts(self, server: Server) -> EngineFacts:
        """What the engine said about itself."""
        ...

    def facts_of(self, log: str, start_id: str) -> EngineFacts:
        """The same from the text of a log."""
        ...

    def published(self, url: str, key: str | None = None) -> EngineFacts:
        """What a server that runs already says of itself; `start_id` is empty where it publishes no start. `key`: its API key.

        Raises as `identify`.
        """
        ...

    def asks(self, version: str | None) -> dict[str, Any]:
        """What a measured request asks for besides the answer, such as counts of its own drafts. Nothing for an unknown version."""
        ...

    def healthy(self, url: str) -> bool:
        """Whether it answers that it serves."""
        ...

    def identify(self, url: str) -> ServerIdentity:
        """Identity of the server at `url`. Raises EngineLostError if no server answers, EngineError if it is not this engine."""
        ...

    def reading(self, url: str) -> Snapshot:
        """The counters at this moment. Raises EngineLostError, or EngineError if it is not this engine."""
        ...

    def counters(self, url: str) -> Snapshot:
        """The counters, settled: call after the last response. Raises as `reading`, and EngineError if they keep moving."""
        ...

    def diff(self, before: Snapshot, after: Snapshot) -> SpecCounters:
        """What happened between two snapshots. Raises EngineLostError across a restart."""
        ...

    def forget(self, url: str, method: str | None) -> bool:
        """Make a server that drafts by `method` from the answers it gave forget them, and its prefixes with them.

        False: it keeps none, or cannot be told to forget. Raises as `reading`.
        """
        ...

    def speculates(self, reading: Snapshot) -> bool:
        """Whether the server speculates, as far as its counters tell."""
        ...

    # -- its command in a container -------------------------------------------------------------------------------

    def read_words(self, command: list[str], args: list[str], *, image: bool) -> ContainerCommand:
        """Parse the command of a container. `image`: the image is known to start the engine without a command.

        Raises InputError for a container that does not run the engine, or whose command is not understood.
        """
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
