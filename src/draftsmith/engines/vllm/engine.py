"""vLLM as an engine: start, watch, read, stop. The decisions are in the modules beside this one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.measure import EngineFacts, SpecCounters
from draftsmith.engines.base import (
    Command,
    Device,
    Features,
    Installation,
    Server,
    ServerIdentity,
    ServerSpec,
    Snapshot,
)
from draftsmith.engines.container_command import ContainerCommand
from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.models import KnownModels
from draftsmith.engines.process import ServerProcess, read_head
from draftsmith.engines.vllm import causes as vllm_causes
from draftsmith.engines.vllm import command as vllm_command
from draftsmith.engines.vllm import hot_swap as vllm_hot_swap
from draftsmith.engines.vllm import log as vllm_log
from draftsmith.engines.vllm import metrics as vllm_metrics
from draftsmith.engines.vllm import own as vllm_own
from draftsmith.engines.vllm import registry as vllm_registry
from draftsmith.engines.vllm import words as vllm_words
from draftsmith.engines.vllm.features import features, installation, installed


class VllmEngine(ServerProcess):
    """See engines.base.Engine."""

    name = "vllm"
    title = "vLLM"
    captures = True
    normed_residual = True
    not_inherited = frozenset(
        {"VLLM_API_KEY"}
    )  # started servers are private to this machine and are queried without a key

    def installation(self, python: str | None, *, elsewhere: bool = False) -> Installation:
        """See Engine."""
        return installed(python) if elsewhere else installation(python)

    def features(self, version: str, device: Device) -> Features:
        """See Engine."""
        return features(version, device)

    def known_models(self, python: str | None) -> KnownModels:
        """See Engine."""
        installation = installed(python)
        return vllm_registry.known_models(installation.version, installation.device, python)

    def installed(self, spec: ServerSpec) -> tuple[Installation, Features]:
        """The vLLM that would serve `spec`. Raises PrerequisiteError if there is none."""
        result = installation(spec.python)
        return result, features(result.version, result.device)

    def command(self, spec: ServerSpec) -> Command:
        """See Engine. Raises ConfigError or PrerequisiteError for what this vLLM would refuse."""
        installation, known = self.installed(spec)
        threads = spec.cpu_threads or vllm_command.cores(os.sched_getaffinity(0))
        return vllm_command.render(
            spec, installation, known, threads=threads, pythonpath=os.environ.get("PYTHONPATH", "")
        )

    def kv_flags(self, gib: float, token_bytes: float) -> tuple[str, ...]:
        """See Engine. With it vLLM does not profile the memory, which fails if another server starts beside it."""
        return ("--kv-cache-memory-bytes", str(int(gib * 2**30)))

    def runs(self, words: Sequence[str]) -> bool:
        """See Engine."""
        return vllm_own.runs(words)

    def no_swaps(self, python: str | None) -> str | None:
        """See Engine."""
        return None

    def ready_for_swaps(self, spec: ServerSpec, folder: Path, drafts: Path) -> ServerSpec:
        """See Engine."""
        return vllm_hot_swap.prepared(spec, folder, drafts)

    def swap_draft(self, spec: ServerSpec, url: str, old: Path, new: Path) -> dict[str, Any]:
        """See Engine."""
        return vllm_hot_swap.swap(url, new)

    def own(self, words: Sequence[str], spec: ServerSpec) -> Command:
        """See Engine."""
        try:
            result = installation(spec.python) if self.runs(words) else None
        except PrerequisiteError:
            result = None  # the command brings an interpreter of its own
        threads = spec.cpu_threads or vllm_command.cores(os.sched_getaffinity(0))
        return vllm_own.render(words, spec, result, threads, os.environ.get("PYTHONPATH", ""))

    def stage(self, lines: list[str]) -> str:
        """See ServerProcess."""
        return vllm_log.stage(lines)

    def diagnose(self, text: str, exit_code: int | None) -> Diagnosis:
        """See ServerProcess."""
        return vllm_causes.diagnose(text, exit_code)

    def facts(self, server: Server) -> EngineFacts:
        """See Engine."""
        return self.facts_of(read_head(server.log), server.start_id)

    def facts_of(self, log: str, start_id: str) -> EngineFacts:
        """See Engine."""
        return vllm_log.facts(log, start_id)

    def published(self, url: str, key: str | None = None) -> EngineFacts:
        """See Engine."""
        server = vllm_metrics.identity(url, key)
        return EngineFacts(version=server.version, start_id=server.start_id or "", max_model_len=server.max_model_len)

    def asks(self, version: str | None) -> dict[str, Any]:
        """See Engine. vLLM reports what its flags say, without being asked."""
        return {}

    def identify(self, url: str) -> ServerIdentity:
        """See Engine."""
        return vllm_metrics.identity(url)

    def reading(self, url: str) -> Snapshot:
        """See Engine."""
        return vllm_metrics.read(url)

    def forget(self, url: str, method: str | None) -> bool:
        """See Engine. What suffix decoding keeps of earlier answers cannot be emptied from outside."""
        return False

    def speculates(self, reading: Snapshot) -> bool:
        """See Engine."""
        return vllm_metrics.speculates(reading)

    def read_words(self, command: list[str], args: list[str], *, image: bool) -> ContainerCommand:
        """See Engine."""
        return vllm_words.read_command(command, args, vllm_image=image)

    def counters(self, url: str) -> Snapshot:
        """See Engine. Raises EngineLostError, or EngineError if the counters do not come to rest."""
        return vllm_metrics.settled(url, self.clock, self.pause_s)

    def diff(self, before: Snapshot, after: Snapshot) -> SpecCounters:
        """See Engine. Raises EngineLostError across a restart."""
        return vllm_metrics.diff(before, after)
