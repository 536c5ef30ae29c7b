"""The only map from names in the configuration to the adapters that carry them out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftsmith.contract.config import TRAINLESS, Config
from draftsmith.contract.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from draftsmith.backends.base import Backend
    from draftsmith.contract.cluster import ClusterOptions
    from draftsmith.contract.draft import TargetFacts
    from draftsmith.engines.base import CaptureSpec, Engine, ServerSpec
    from draftsmith.engines.models import KnownModels
    from draftsmith.kit.kube import KubeApi
    from draftsmith.serving.base import Serving
    from draftsmith.serving.canary.canaries import Canaries
    from draftsmith.serving.kubernetes.options import ServingOptions
    from draftsmith.serving.kubernetes.serving import KubernetesServing
    from draftsmith.serving.managed.fleet import Fleet
    from draftsmith.trainers.base import Trainer

SERVED_NAME = "target"
ENVIRONMENT = "environment"  # among the versions: where jobs find engine and trainer, if not here


def engine(config: Config, registry: Path | None = None) -> Engine:
    """The serving engine; what it starts is recorded in `registry`. Without one it can only be asked."""
    from draftsmith.engines import catalog

    settings = config.engine
    return catalog.engine(settings.kind, registry or catalog.NOWHERE, pause_s=settings.counters_pause_s)


def of_engine(config: Config, kind: str) -> Config:
    """The configuration with another engine in the place of `engine.kind`, as `engines` describes it."""
    from draftsmith.contract.config import OtherEngine

    if kind == config.engine.kind:
        return config
    other = next((each for name, each in config.engines.items() if name == kind), OtherEngine())
    changed = {"kind": kind, **{name: getattr(other, name) for name in type(other).model_fields}}
    return config.model_copy(update={"engine": config.engine.model_copy(update=changed)})


def capturing(config: Config) -> Config:
    """The configuration of the engine that answers prompts and hands out hidden states: the configured one, or else the
    first that can. Its interpreter is in `[engines.NAME]` then."""
    from draftsmith.engines import catalog

    able = [each.name for each in catalog.engines() if each.captures]
    return config if config.engine.kind in able else of_engine(config, able[0])


def normed_residual(config: Config) -> bool:
    """Whether a draft is trained with `norm_before_residual`: as said, else as the serving engine's own classes read it."""
    setting = config.trainer.norm_before_residual
    return engine(config).normed_residual if setting is None else setting


def trained_config(config: Config) -> dict[str, Any]:
    """What config.json of the draft will say that this configuration trains, as far as an engine may read it wrongly."""
    if config.method in TRAINLESS or (config.trainer.kind, config.trainer.method) != ("speculators", "eagle3"):
        return {}
    return {} if config.trainer.warm_start else {"norm_before_residual": normed_residual(config)}


def known_models(config: Config) -> KnownModels:
    """What the configured engine knows; the list of a known release where it is not installed here."""
    from draftsmith.engines.models import shipped

    if environment_of_jobs(config):
        return shipped()
    try:
        return engine(config).known_models(config.engine.python)
    except PrerequisiteError:
        return shipped()


def target(config: Config, path: Path, *, capture: bool = True) -> TargetFacts:
    """Facts of the target in `path`, by what the configured engine can do with it. Raises InputError.

    `capture` False: hidden states come from another engine.
    """
    from draftsmith.trainers.target import read_target

    return read_target(path, known_models(config), training=config.method not in TRAINLESS, capture=capture)


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
    cold: bool = False,
) -> ServerSpec:
    """One server of this configuration. `residents` servers share the machine's memory. `cold`: it keeps no prefixes,
    as a server that captures never does."""
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
        prefix_caching=False if cold or capture is not None else settings.prefix_caching,
        chunked_prefill=settings.chunked_prefill,
        async_scheduling=settings.async_scheduling,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        enforce_eager=settings.enforce_eager if eager is None else eager,
        per_request_metrics=per_request,
        cpu_kv_gib=settings.cpu_kv_gib,
        gpu_memory_share=share,
        tensor_parallel=1 if settings.split_by_flags else settings.gpus_a_server,
        flags=(*settings.flags, *flags),
        env=dict(settings.env),
        python=settings.python or sys.executable,
    )


def _kv_flags(config: Config, target: str, residents: int) -> tuple[str, ...]:
    """A fixed KV cache for servers that share a GPU: an engine that measures free memory fails if another starts beside it."""
    if config.engine.gpu_kv_gib is None and residents == 1:
        return ()
    if engine(config).installation(config.engine.python).device == "cpu":
        return ()
    each = token_bytes(config, target)
    return engine(config).kv_flags(config.engine.gpu_kv_gib or shared_kv_gib(config, target, residents), each)


def token_bytes(config: Config, target: str) -> float:
    """Bytes of one token of the target's KV cache on one GPU; 0 where its config.json does not tell."""
    from draftsmith.contract.errors import InputError
    from draftsmith.trainers.fit import token_bytes as bytes_of
    from draftsmith.trainers.target_config import read_config

    try:
        return bytes_of(read_config(Path(target)), config.engine.gpus_a_server)
    except InputError:
        return 0.0


def shared_kv_gib(config: Config, target: str, residents: int) -> int:
    """KV cache in GiB, on each GPU, of one of `residents` servers of the target in this folder."""
    from draftsmith.engines import gpu_memory
    from draftsmith.kit import gpu

    settings, gpus = config.engine, config.engine.gpus_a_server
    each = token_bytes(config, target)
    weights = sum(file.stat().st_size for file in Path(target).glob("*.safetensors")) / 2**30 / gpus
    return gpu_memory.shared_kv_gib(
        each, weights, residents, settings.max_num_seqs * settings.max_model_len, gpu.free_gib()
    )


def trainer(config: Config) -> Trainer:
    """The draft's trainer. Raises ConfigError for settings that it has no equivalent of."""
    from draftsmith.trainers.specforge import SpecforgeTrainer
    from draftsmith.trainers.speculators import SpeculatorsTrainer

    kind = SpecforgeTrainer if config.trainer.kind == "specforge" else SpeculatorsTrainer
    return kind(config.trainer, python=config.trainer.python or sys.executable)


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
    return kubernetes_backend(config, state_dir, allow_cluster=allow_cluster)


def environment_of_jobs(config: Config) -> str:
    """The image or interpreter in which jobs find engine and trainer; empty where they use what is installed here."""
    options = config.backend.options
    image = {"slurm": "container_image", "kubernetes": "image"}.get(config.backend.kind)
    return str(options.get(image) or options.get("python") or "") if image else ""


def versions(config: Config, *, inside: bool = False) -> dict[str, str]:
    """Versions that decide what a run makes, as far as they can be told here; those of an image it tells itself.

    `inside`: asked by a job in its own environment. The engine's are read in its own interpreter. Raises
    PrerequisiteError if jobs would use an engine of here that is not there.
    """
    from importlib import metadata

    import draftsmith

    known = {"draftsmith": draftsmith.__version__}
    if not inside and (apart := environment_of_jobs(config)):
        return known | {ENVIRONMENT: Path(apart).name if apart.startswith("/") else apart}
    able = capturing(config)
    for own in (config,) if able is config else (config, able):
        try:
            installation = engine(own).installation(own.engine.python, elsewhere=config.backend.kind != "local")
            known = {installation.engine: installation.version, "device": installation.device} | known
        except PrerequisiteError:
            if not inside and own is config:  # an image may hold the trainer alone, and not every run captures
                raise
    for name in ("speculators", "torch"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if config.trainer.kind == "specforge":
        from draftsmith.trainers.specforge_env import packages

        known |= packages(config.trainer.python or sys.executable)
    return known


def check_backend_options(config: Config) -> None:
    """Raise ConfigError if `[backend.options]` cannot be what the back end needs. Looks at nothing else."""
    if config.backend.kind == "slurm":
        from draftsmith.backends.slurm_options import parse_options

        parse_options(config.backend.options)
    if config.backend.kind == "kubernetes":
        from draftsmith.backends.kubernetes_options import parse_job_options

        parse_job_options(config.backend.options)


def kubernetes_backend(config: Config, state_dir: Path, *, allow_cluster: bool = False) -> Backend:
    """Jobs in the cluster of `[backend.options]`. Raises ConfigError, PrerequisiteError if it is not configured."""
    from draftsmith.backends.kubernetes import KubernetesBackend
    from draftsmith.backends.kubernetes_options import parse_job_options

    options = parse_job_options(config.backend.options)
    if config.backend.scheduler == "slurm-on-kubernetes":
        options = options.model_copy(update={"scheduler": "slurm"})
    return KubernetesBackend(state_dir, cluster(options), options, allow_cluster=allow_cluster)


def cluster(options: ClusterOptions) -> KubeApi:
    """The API of a cluster. Raises ConfigError without the client library, PrerequisiteError without a configuration."""
    from draftsmith.contract.cluster import explain
    from draftsmith.kit.kube import ApiError, connect

    try:
        return connect(options.kubeconfig, options.context, timeout_s=options.request_timeout_s)
    except ImportError as error:
        raise ConfigError(
            f"Kubernetes cannot be used here ({error.name or error} is missing)", "pip install 'draftsmith[kubernetes]'"
        ) from None
    except ApiError as error:
        raise explain(error, "reach the cluster") from error


def _served(config: Config) -> tuple[ServingOptions, str]:
    from draftsmith.serving.kubernetes.options import parse_serving_options

    if not config.serving.deploy:
        raise ConfigError("serving.deploy is not set", "name the served Deployment: --deployment, or serving.deploy")
    return parse_serving_options(config.serving.options), config.serving.deploy


def canaries(config: Config, workspace: Path, *, allow_cluster: bool = False) -> Canaries:
    """Canaries of the served deployment. Raises ConfigError, PrerequisiteError."""
    from draftsmith.serving.canary.canaries import Canaries

    options, deploy = _served(config)
    return Canaries(cluster(options), options, deploy, workspace / "kubernetes", allow_cluster=allow_cluster)


def kubernetes_serving(config: Config, workspace: Path, *, allow_cluster: bool = False) -> KubernetesServing:
    """The standing configuration in a cluster. Raises ConfigError, PrerequisiteError."""
    from draftsmith.serving.kubernetes.serving import KubernetesServing

    options, deploy = _served(config)
    return KubernetesServing(cluster(options), options, deploy, workspace / "kubernetes", allow_cluster=allow_cluster)


def fleet(config: Config, workspace: Path) -> Fleet:
    """Engines and proxy of a managed service. Raises ConfigError for wrong options or an address without a port."""
    from draftsmith.serving.managed.fleet import Fleet
    from draftsmith.serving.managed.options import address, parse_managed
    from draftsmith.serving.managed.proxy import Proxy

    options = parse_managed(config.serving)
    host, port = address(config.serving)
    folder = workspace / "managed"
    served_by = engine(config, folder / "engines")
    served_by.detached = True
    if options.hot_swap and (why := served_by.no_swaps(config.engine.python)):
        raise ConfigError(
            f"serving.options.hot_swap: {why}",
            "leave it out: a new draft gets a server of its own beside the old one",
        )

    def spec_of(spec_config: dict[str, Any] | None) -> ServerSpec:
        spec = server_spec(config, str(config.target), spec_config=spec_config, served_name=options.served_name)
        if options.hot_swap:
            spec = served_by.ready_for_swaps(spec, folder / "plugin", workspace)
        if options.record_to is None:
            return spec
        recorder = ("draftsmith.recorder.middleware.CaptureMiddleware",)
        env = {"DRAFTSMITH_CAPTURE_DIR": options.record_to, **spec.env}
        return spec.model_copy(update={"middleware": (*spec.middleware, *recorder), "env": env})

    proxy = Proxy(folder, options.haproxy, host, port)
    return Fleet(folder, proxy, served_by, spec_of, options, ready_s=config.engine.start_timeout_s)


def serving(config: Config, workspace: Path, *, allow_cluster: bool = False) -> Serving:
    """The place where the standing configuration is read and switched. Without `allow_cluster` a cluster is only read."""
    from draftsmith.serving.local import LocalServing

    if config.serving.kind == "kubernetes":
        return kubernetes_serving(config, workspace, allow_cluster=allow_cluster)
    return LocalServing(config.serving, workspace)
