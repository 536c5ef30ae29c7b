"""The only map from names in the configuration to the adapters that carry them out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftsmith.contract.config import Config
from draftsmith.contract.errors import ConfigError

if TYPE_CHECKING:
    from draftsmith.backends.base import Backend
    from draftsmith.engines.base import CaptureSpec, ServerSpec
    from draftsmith.engines.vllm import VllmEngine
    from draftsmith.serving.local import LocalServing
    from draftsmith.trainers.speculators import SpeculatorsTrainer

SERVED_NAME = "target"


def engine(config: Config, registry: Path) -> VllmEngine:
    """The serving engine; what it starts is recorded in `registry`."""
    from draftsmith.engines.vllm import VllmEngine

    return VllmEngine(registry)


def server_spec(
    config: Config,
    target: str,
    *,
    spec_config: dict[str, Any] | None = None,
    capture: CaptureSpec | None = None,
    flags: tuple[str, ...] = (),
    residents: int = 1,
    eager: bool | None = None,
    served_name: str = SERVED_NAME,
    per_request: bool = False,
) -> ServerSpec:
    """One server of this configuration. `residents` servers share the machine's memory."""
    from draftsmith.engines.base import ServerSpec

    settings = config.engine
    flags = (*flags, *_kv_flags(config, residents))
    share = settings.gpu_memory_share or round(0.88 / residents, 3)
    return ServerSpec(
        model=target,
        served_name=served_name,
        host=settings.host,
        spec_config=spec_config,
        capture=capture,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        enforce_eager=settings.enforce_eager if eager is None else eager,
        per_request_metrics=per_request,
        cpu_kv_gib=settings.cpu_kv_gib,
        gpu_memory_share=share,
        flags=(*settings.flags, *flags),
        env=dict(settings.env),
        python=settings.python or sys.executable,
    )


SHARED_GPU_KV_GIB = 4.0


def _kv_flags(config: Config, residents: int) -> tuple[str, ...]:
    """A fixed KV cache for servers that share a GPU: vLLM's memory profiling fails if another server starts beside it."""
    from draftsmith.engines.vllm_features import installation

    size = config.engine.gpu_kv_gib or (SHARED_GPU_KV_GIB if residents > 1 else None)
    if size is None or installation(config.engine.python).device == "cpu":
        return ()
    return ("--kv-cache-memory-bytes", str(int(size * 2**30)))


def trainer(config: Config) -> SpeculatorsTrainer:
    """The draft's trainer."""
    from draftsmith.trainers.speculators import SpeculatorsTrainer

    return SpeculatorsTrainer(config.trainer, python=config.trainer.python or sys.executable)


def backend(config: Config, state_dir: Path, *, allow_cluster: bool = False) -> Backend:
    """Where jobs run. Raises ConfigError for a back end that is not wired."""
    if config.backend.kind == "local":
        from draftsmith.backends.local import LocalBackend

        return LocalBackend(state_dir)
    raise ConfigError(f"backend.kind = {config.backend.kind!r} is not available here", 'set backend.kind = "local"')


def serving(config: Config, workspace: Path) -> LocalServing:
    """The place where the standing configuration is read and switched."""
    from draftsmith.serving.local import LocalServing

    return LocalServing(config.serving, workspace)
