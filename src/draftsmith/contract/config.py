"""draftsmith.toml: every setting, with its meaning at the field. Unknown keys are errors that name the nearest key."""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from draftsmith.contract.base import Frozen
from draftsmith.contract.compare_config import CompareConfig
from draftsmith.contract.errors import ConfigError
from draftsmith.contract.policy import Policy

EngineKind = Literal["vllm", "sglang"]
SPLITTING = frozenset(
    {"--tensor-parallel-size", "-tp", "--tp", "--tp-size", "--pipeline-parallel-size", "-pp", "--pp-size"}
)
ENGINE_KINDS: tuple[EngineKind, ...] = get_args(EngineKind)


class EngineConfig(Frozen):
    """The serving engine."""

    kind: EngineKind = Field(
        "vllm", description="which engine serves; where it hands out no hidden states, vllm captures (see `engines`)"
    )
    python: str | None = Field(None, description="interpreter that has the engine; default: the current one")
    host: str = Field("127.0.0.1", description="address that started servers listen on")
    max_model_len: int = Field(2048, ge=1, description="context length of every started server")
    max_num_seqs: int = Field(32, ge=1, description="sequences in one batch")
    prefix_caching: bool | None = Field(
        None,
        description="prefix caching: keep the KV cache of prompt prefixes; default: the engine's own choice, which is on "
        "unless it was switched off",
    )
    chunked_prefill: bool | None = Field(
        None, description="chunked prefill: long prompts are processed in pieces; default: the engine's own choice"
    )
    async_scheduling: bool | None = Field(
        None, description="schedule a step while the last one runs; default: the engine's own choice"
    )
    gpus: int | None = Field(
        None,
        ge=1,
        description="number of GPUs for one server (tensor parallelism); default: the smallest number that fits the target",
    )
    gpu_memory_gib: float | None = Field(
        None,
        gt=0,
        description="memory of one GPU, in GiB, where jobs run on another machine; default: read from the GPU here, 80 GB elsewhere",
    )
    flags: tuple[str, ...] = Field((), description="additional engine flags, passed unchanged to every server")
    env: dict[str, str] = Field(default_factory=dict, description="environment variables of the engine process")
    cpu_kv_gib: float = Field(2.0, gt=0, description="KV cache of one server on CPU, in GiB")
    gpu_kv_gib: float | None = Field(
        None,
        gt=0,
        description="KV cache of one server on a GPU, in GiB; default: limited by gpu_memory_share; if several servers share "
        "the GPU: enough for max_num_seqs sequences, at most 32 GiB",
    )
    gpu_memory_share: float | None = Field(
        None, gt=0, le=1, description="fraction of GPU memory for one server; default: chosen automatically"
    )
    start_timeout_s: float = Field(900.0, gt=0, description="maximum time until a started server is ready, in seconds")
    counters_pause_s: float = Field(
        0.15,
        gt=0,
        description="pause between two readings of a server's counters, in seconds; the counters are final when three readings are equal",
    )
    enforce_eager: bool = Field(
        False, description="do not compile or capture graphs; a comparison of such servers never reaches tier `verdict`"
    )

    @model_validator(mode="after")
    def _one_word_on_gpus(self) -> EngineConfig:
        if self.gpus is not None and self.split_by_flags not in (None, self.gpus):
            raise ValueError(
                f"gpus is {self.gpus}, and flags split the target over {self.split_by_flags}: set only one of them"
            )
        return self

    @property
    def gpus_a_server(self) -> int:
        """GPUs that one server takes: as set, or as its flags say, else 1."""
        return self.gpus or self.split_by_flags or 1

    @property
    def split_by_flags(self) -> int | None:
        """Tensor times pipeline parallelism in `flags`; None where they say neither. A flag may be one word or two."""
        words = [word for flag in self.flags for word in flag.replace("=", " ").split()]
        named_flags = [
            int(value)
            for name, value in itertools.pairwise(words)
            if name.replace("_", "-") in SPLITTING and value.isdigit() and int(value) > 0
        ]
        return math.prod(named_flags) if named_flags else None


class TrainerConfig(Frozen):
    """The draft's trainer."""

    kind: Literal["speculators", "specforge"] = Field(
        "speculators", description="which trainer; specforge: EAGLE3 only"
    )
    python: str | None = Field(None, description="interpreter that has the trainer; default: the current one")
    method: Literal["eagle3", "dflash"] = "eagle3"
    epochs: int = Field(6, ge=1, description="passes over the training rows")
    learning_rate: float = Field(1e-3, gt=0, description="peak; cosine decay with warm-up")
    batch_tokens: int | None = Field(
        None, ge=1, description="tokens per optimiser step, packed; default: chosen so that an epoch has about 64 steps"
    )
    ttt_steps: int = Field(3, ge=1, description="number of speculative positions trained together (training-time test)")
    block_size: int = Field(
        8,
        ge=2,
        description="dflash: tokens per block, including the known first token; the draft proposes block_size - 1 tokens",
    )
    draft_layers: int | None = Field(
        None,
        ge=1,
        description="number of decoder layers of the draft; default: 1; for dflash one tenth of the target's layers, at most 5",
    )
    attention: Literal["auto", "sdpa", "eager", "flex"] = Field(
        "auto", description="attention implementation in training; auto: sdpa, which works with every supported torch"
    )
    loss: Literal["auto", "eager", "fused"] = Field(
        "auto", description="loss implementation in training; auto: eager, which works with every supported torch"
    )
    draft_vocab: int | None = Field(
        None, ge=1, description="size of the draft vocabulary, in tokens; default: chosen from the traffic"
    )
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="target layers that the draft reads, as engine layer ids; default: [2, L//2, L-3]"
    )
    norm_before_residual: bool | None = Field(
        None,
        description="eagle3 of speculators: whether the draft carries its features on normalised; default: as the serving engine "
        "reads it by itself (true; false for SGLang); a warm start keeps its parent's",
    )
    warm_start: str | None = Field(None, description="folder of an earlier draft whose weights training starts from")
    min_position0: float = Field(
        0.15,
        ge=0,
        le=1,
        description="minimum validation acceptance at position 0; below it training stops with an error",
    )
    seed: int = Field(0, ge=0, lt=1 << 32)


class CorpusConfig(Frozen):
    """How training rows are chosen."""

    max_rows: int | None = Field(None, ge=1, description="maximum number of requests to keep; default: all")
    max_length: int = Field(
        2048, ge=2, description="maximum tokens per row; the answer of a longer row is cut, or the row is refused"
    )
    validation_share: float = Field(0.08, ge=0, lt=1, description="fraction of the conversations used for validation")
    heldout_share: float = Field(
        0.15, gt=0, lt=1, description="fraction of the conversations held out for the comparison; the latest ones"
    )
    near_duplicate_threshold: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity of shingles at or above which two rows count as duplicates"
    )
    min_vocab_coverage: float = Field(
        0.995, ge=0, le=1, description="fraction of the answer tokens that the draft vocabulary must cover"
    )
    min_draft_vocab: int = Field(1024, ge=1, description="minimum size of the draft vocabulary, in tokens")
    regenerate: Literal["auto", "always", "never"] = Field(
        "auto",
        description="let the target answer prompts again; auto: only prompts whose logged answer has no token ids of the target",
    )
    retention: Literal["normal", "zero"] = Field(
        "normal", description="zero: after the run only aggregates and the draft are kept"
    )
    keep_hidden_states: bool = Field(False, description="keep captured hidden states after training")
    redact: bool = Field(
        False,
        description="remove personal data and keys: they are replaced in prompts, and the target answers those prompts again; "
        "answers that contain them are dropped; needs `draftsmith[redaction]`",
    )
    hard_share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="fraction of the training rows reserved for requests with the lowest acceptance; used with max_rows or hard_log",
    )
    hard_log: str | None = Field(
        None,
        description="access log of a served draft with acceptance per request; the requests with the lowest acceptance (the "
        "fraction hard_share) are added to the training rows",
    )
    seed: int = Field(0, ge=0, lt=1 << 32)


class OtherEngine(Frozen):
    """An engine other than `engine.kind` that serves arms. Everything else is as in `engine`."""

    python: str | None = Field(None, description="interpreter that has this engine; default: the current one")
    flags: tuple[str, ...] = Field((), description="additional flags of this engine; `engine.flags` is not used for it")
    env: dict[str, str] = Field(default_factory=dict, description="environment variables of its process")
    gpu_memory_share: float | None = Field(
        None, gt=0, le=1, description="fraction of GPU memory for one server; default: chosen automatically"
    )


class ServingConfig(Frozen):
    """The server whose configuration is promoted or kept."""

    kind: Literal["local", "kubernetes", "managed"] = "local"
    deploy: str | None = Field(None, description="name of the served deployment")
    endpoint: str | None = Field(
        None, description="URL of the served deployment, if it runs; it is checked before a switch"
    )
    standing_config: dict[str, Any] | None = Field(
        None, description="the current speculative config; absent: speculation is off"
    )
    promotion_policy: str | None = Field(
        None,
        description="TOML file that names the keys whose signature a verdict needs before promotion; absent: no signature is needed",
    )
    allow_looser_thresholds: bool = Field(
        False, description="allow a promotion although the thresholds of the comparison are looser than the defaults"
    )
    config_file: str | None = Field(None, description="file that the server reads its speculative config from")
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of serving.kind kubernetes or managed, see their pages in docs/"
    )


class BackendConfig(Frozen):
    """Where jobs run."""

    kind: Literal["local", "slurm", "kubernetes"] = "local"
    scheduler: Literal["auto", "slurm", "kubernetes", "slurm-on-kubernetes"] = Field(
        "auto",
        description="scheduler that places the jobs; auto: the one of the back end, or the one detected in the cluster",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the back end, see its page in docs/")


class LakeConfig(Frozen):
    """Where finished campaigns are published."""

    url: str | None = Field(
        None,
        description="file:///path or s3://bucket/prefix: every run that compared is published there when it ends; one that "
        "cannot be waits and is sent later",
    )
    strict: bool = Field(False, description="publish no verdict of tier `draft`")


Way = Literal["eagle3", "dflash", "ngram", "suffix", "deepseek_mtp", "predicted_outputs"]
TRAINLESS = frozenset({"ngram", "suffix", "deepseek_mtp", "predicted_outputs"})


class Config(Frozen):
    """The whole file."""

    method: Way | None = Field(
        None,
        description="speculation method: train a draft (eagle3, dflash), or compare a method without training (ngram, suffix, "
        "deepseek_mtp, predicted_outputs); default: the profile's recommendation; a trained draft uses trainer.method",
    )
    target: str | None = Field(None, description="folder of the served model (Hugging Face style)")
    profile: str | None = Field(None, description="access log, folder or glob of the traffic")
    workspace: str = Field(".draftsmith", description="folder for runs; private to its owner")
    engine: EngineConfig = EngineConfig()
    engines: dict[EngineKind, OtherEngine] = Field(
        default_factory=dict, description="additional engines that arms may use: `sglang:none`, `vllm:ngram`"
    )
    trainer: TrainerConfig = TrainerConfig()
    corpus: CorpusConfig = CorpusConfig()
    compare: CompareConfig = CompareConfig()
    serving: ServingConfig = ServingConfig()
    backend: BackendConfig = BackendConfig()
    controller: Policy = Policy()
    lake: LakeConfig = LakeConfig()


def load_config(path: Path | None) -> Config:
    """Read a TOML file; None gives the defaults. Raises ConfigError with the nearest known key on a typo."""
    if path is None:
        return Config()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", "give --config a file, or leave it out for the defaults") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "fix the file at the place named") from None
    return parse_config(data, str(path))


def parse_config(data: dict[str, Any], name: str = "draftsmith.toml") -> Config:
    """Validate parsed TOML. Raises ConfigError naming every wrong key or value."""
    if endless := list(_unusable(data)):  # JSON has no word for infinity, and no path a NUL
        raise ConfigError(
            f"{name}: no finite number, or a NUL: {', '.join(endless)}", "write a number, or leave the key out"
        )
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{name}: " + "; ".join(lines), "correct the keys named above") from None
    if not config.compare.concurrency:  # the command `compare` may have none: this check is for the file
        raise ConfigError(f"{name}: compare.concurrency: at least one is needed", "for example concurrency = [1]")
    return config


def _unusable(value: Any, where: str = "") -> Iterator[str]:
    """Where infinity, NaN or a NUL character stands in parsed TOML."""
    if (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, str) and "\0" in value):
        yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from _unusable(inner, f"{where}.{key}" if where else str(key))


def _explain(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg']}"
    *parents, key = (str(part) for part in item["loc"])
    near = difflib.get_close_matches(key, _known_keys(parents), n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else f", known here: {', '.join(_known_keys(parents))}"
    return f"unknown key {where!r}{hint}"


def _known_keys(parents: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in parents:
        field = model.model_fields.get(part)
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)
