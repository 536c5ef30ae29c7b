"""The only map from names in the configuration to the adapters that carry them out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
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
    from draftsmith.engines.gpu_memory import gpu_share

    settings = config.engine
    flags = (*flags, *_kv_flags(config, target, residents))
    share = settings.gpu_memory_share or gpu_share(residents)
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


def _kv_flags(config: Config, target: str, residents: int) -> tuple[str, ...]:
    """A fixed KV cache for servers that share a GPU: vLLM's memory profiling fails if another server starts beside it."""
    from draftsmith.engines.gpu_memory import shared_kv_gib
    from draftsmith.engines.vllm_features import installation
    from draftsmith.kit import gpu

    if config.engine.gpu_kv_gib is None and residents == 1:
        return ()
    if installation(config.engine.python).device == "cpu":
        return ()
    settings = config.engine
    size = settings.gpu_kv_gib or shared_kv_gib(
        target, residents, settings.max_num_seqs * settings.max_model_len, gpu.free_gib()
    )
    return ("--kv-cache-memory-bytes", str(int(size * 2**30)))


def trainer(config: Config) -> SpeculatorsTrainer:
    """The draft's trainer."""
    from draftsmith.trainers.speculators import SpeculatorsTrainer

    return SpeculatorsTrainer(config.trainer, python=config.trainer.python or sys.executable)


def backend(config: Config, state_dir: Path, *, allow_cluster: bool = False, folders: Sequence[Path] = ()) -> Backend:
    """Where jobs run. Without `allow_cluster` a cluster is only read. `folders`: what jobs read and write.

    Raises ConfigError for options that are wrong, or a back end that is not available.
    """
    if config.backend.kind == "local":
        from draftsmith.backends.local import LocalBackend

        return LocalBackend(state_dir)
    if config.backend.kind == "slurm":
        from draftsmith.backends.slurm import SlurmBackend
        from draftsmith.backends.slurm_options import parse_options, with_folders

        options = with_folders(parse_options(config.backend.options), folders)
        return SlurmBackend(state_dir, options, allow_cluster=allow_cluster)
    return _kubernetes(config, allow_cluster)


def check_backend_options(config: Config) -> None:
    """Raise ConfigError if `[backend.options]` cannot be what the back end needs. Looks at nothing else."""
    if config.backend.kind == "slurm":
        from draftsmith.backends.slurm_options import parse_options

        parse_options(config.backend.options)


def _kubernetes(config: Config, allow_cluster: bool) -> Backend:
    """It has dependencies of its own, so it may be absent."""
    try:
        module = importlib.import_module("draftsmith.backends.kubernetes")
    except ImportError as error:
        raise ConfigError(
            f"the Kubernetes back end is not available here ({error.name or error} is missing)",
            "pip install 'draftsmith[kubernetes]', or use --backend local or slurm",
        ) from None
    options = {**config.backend.options, "scheduler": config.backend.scheduler}
    made: Backend = module.KubernetesBackend(options, allow_cluster=allow_cluster)
    return made


def serving(config: Config, workspace: Path) -> LocalServing:
    """The place where the standing configuration is read and switched."""
    from draftsmith.serving.local import LocalServing

    return LocalServing(config.serving, workspace)
