"""draftsmith.toml: every setting, with its meaning at the field. Unknown keys are errors that name the nearest key."""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import ConfigError
from draftsmith.contract.measure import ContentionRule, Thresholds
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
    max_model_len: int = Field(2048, description="context length of every started server")
    max_num_seqs: int = Field(32, description="sequences in one batch")
    prefix_caching: bool | None = Field(
        None,
        description="keep the prefixes of prompts in the KV cache; default: as the engine does, which is on in production "
        "unless it was switched off",
    )
    chunked_prefill: bool | None = Field(
        None, description="prefill of long prompts in pieces; default: as the engine does"
    )
    async_scheduling: bool | None = Field(
        None, description="schedule a step while the last one runs; default: as the engine does"
    )
    gpus: int | None = Field(
        None,
        ge=1,
        description="GPUs of one server, over which the target is split (tensor parallelism); default: the fewest that hold it",
    )
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="memory of one GPU where jobs run elsewhere; default: as found here, there 80 GB"
    )
    flags: tuple[str, ...] = Field((), description="further engine flags, passed to every server as they are")
    env: dict[str, str] = Field(default_factory=dict, description="environment of the engine process")
    cpu_kv_gib: float = Field(2.0, description="KV cache of one server on CPU, in GiB")
    gpu_kv_gib: float | None = Field(
        None,
        description="KV cache of one server on a GPU, in GiB; default: what its share allows; where several share the GPU, "
        "what max_num_seqs sequences can fill, 32 at most",
    )
    gpu_memory_share: float | None = Field(None, description="share of GPU memory for one server; default: chosen")
    start_timeout_s: float = Field(900.0, description="how long a server may take to become ready")
    counters_pause_s: float = Field(
        0.15,
        gt=0,
        description="pause between two readings of a server's counters; three equal ones in a row are believed",
    )
    enforce_eager: bool = Field(False, description="no compilation; such an arm can never reach tier `verdict`")

    @model_validator(mode="after")
    def _one_word_on_gpus(self) -> EngineConfig:
        if self.gpus is not None and self.split_by_flags not in (None, self.gpus):
            raise ValueError(f"gpus is {self.gpus}, and flags split the target over {self.split_by_flags}: say it once")
        return self

    @property
    def gpus_a_server(self) -> int:
        """GPUs that one server takes: as set, or as its flags say, else 1."""
        return self.gpus or self.split_by_flags or 1

    @property
    def split_by_flags(self) -> int | None:
        """Tensor times pipeline parallelism in `flags`; None where they say neither. A flag may be one word or two."""
        words = [word for flag in self.flags for word in flag.replace("=", " ").split()]
        found = [
            int(value)
            for name, value in itertools.pairwise(words)
            if name.replace("_", "-") in SPLITTING and value.isdigit() and int(value) > 0
        ]
        return math.prod(found) if found else None


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
        None, description="packed tokens of one optimiser step; default: about 64 steps an epoch"
    )
    ttt_steps: int = Field(3, ge=1, description="speculative positions trained at once")
    block_size: int = Field(
        8, ge=2, description="dflash: tokens of a block, the known first one included; it proposes one token less"
    )
    draft_layers: int | None = Field(
        None, description="decoder layers of the draft; default: 1, for dflash a tenth of the target's, at most 5"
    )
    attention: Literal["auto", "sdpa", "eager", "flex"] = Field(
        "auto", description="attention in training; auto: sdpa, which trains with every supported torch"
    )
    loss: Literal["auto", "eager", "fused"] = Field(
        "auto", description="loss implementation in training; auto: eager, for the same reason"
    )
    draft_vocab: int | None = Field(None, description="draft vocabulary; default: chosen from the traffic")
    layers: tuple[int, ...] | None = Field(None, description="target layers to read; default [2, L//2, L-3]")
    warm_start: str | None = Field(None, description="folder of an earlier draft to start from")
    min_position0: float = Field(
        0.15, ge=0, le=1, description="validation acceptance at position 0 below which training stops"
    )
    seed: int = 0


class CorpusConfig(Frozen):
    """How training rows are chosen."""

    max_rows: int | None = Field(None, description="at most so many requests; default: all")
    max_length: int = Field(
        2048, ge=2, description="tokens a row may have; longer ones are cut in the answer or refused"
    )
    validation_share: float = Field(0.08, ge=0, lt=1, description="share of conversations for validation")
    heldout_share: float = Field(
        0.15, gt=0, lt=1, description="share of the latest conversations kept for the comparison"
    )
    near_duplicate_threshold: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity of shingles from which rows count as equal"
    )
    min_vocab_coverage: float = Field(
        0.995, ge=0, le=1, description="share of answer tokens that the draft vocabulary must hold"
    )
    min_draft_vocab: int = Field(1024, ge=1, description="the draft vocabulary has at least so many tokens")
    regenerate: Literal["auto", "always", "never"] = Field(
        "auto", description="answer prompts anew with the target: auto = only those without its own token ids"
    )
    retention: Literal["normal", "zero"] = Field("normal", description="zero: only aggregates and the draft remain")
    keep_hidden_states: bool = Field(False, description="keep captured hidden states after training")
    redact: bool = Field(
        False,
        description="look for personal data and keys: replaced in prompts, which are then answered anew; an answer "
        "that holds some is dropped; needs `draftsmith[redaction]`",
    )
    hard_share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="share of training rows, where max_rows chooses, for what drafts predicted worst",
    )
    hard_log: str | None = Field(
        None,
        description="access log of a served draft with per-request acceptance: its least accepted requests, hard_share "
        "of those measured, join the training rows",
    )
    seed: int = 0


class BlockThresholds(Thresholds):
    """The thresholds of a new plan: its blocks are short, so there may be more of them."""

    max_blocks: int = Field(36, ge=1, description="preset limit for adding blocks")


class CompareConfig(Frozen):
    """The in-engine comparison."""

    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), description="operating points; the first is primary"
    )
    arrivals: Literal["closed", "recorded", "both"] = Field(
        "closed",
        description="closed: a fixed number in flight; recorded: at the log's arrival times; both: the latter beside it",
    )
    arrival_speed: float = Field(1.0, gt=0, description="recorded arrivals so many times as fast")
    sampling: dict[str, Any] = Field(
        default_factory=dict, description="sampling parameters of every request; what is absent stays as in the log"
    )
    api_key_env: str | None = Field(None, description="variable with the API key of servers that run already")
    primary: Literal["cost", "goodput", "tpot"] = Field(
        "cost",
        description="what decides. cost: server seconds per output token; goodput: requests within the limits below, at "
        "open-loop arrivals; tpot: median time per output token",
    )
    slo_ttft_s: float | None = Field(
        None, gt=0, description="goodput: limit of the time to the first token, in seconds"
    )
    slo_tpot_s: float | None = Field(None, gt=0, description="goodput: limit of the time per output token, in seconds")
    deciding: tuple[str, ...] = Field(
        (),
        description='operating points that decide together, such as ["c1", "c8"], or ["all"]; default: the first alone',
    )
    rates: tuple[float, ...] = Field(
        (), description="operating points with open-loop arrivals: requests a second, at random intervals that are kept"
    )
    prompts: int = Field(24, ge=1, description="held-out prompts a block; every block takes others while they last")
    visit_prompts: int = Field(
        3, ge=1, description="prompts after which the next arm has its turn, for each request in flight"
    )
    contention: ContentionRule = Field(
        ContentionRule(), description="when a visit is repeated because the machine was busy"
    )
    tuning_prompts: int = Field(8, ge=0, description="validation prompts on which K is chosen")
    general_prompts: int = Field(
        12, description="prompts of general traffic, asked twice in all, to see what the draft forgot; 0 = none"
    )
    general_log: str | None = Field(None, description="access log of general traffic; default: a small built-in set")
    max_tokens: int | None = Field(None, description="limit of output tokens; default: as in the log")
    k_values: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 3), min_length=1, description="speculation lengths tried for the candidate"
    )
    ngram: bool = Field(True, description="an n-gram arm, unless the profile says it cannot help")
    drafts: tuple[str, ...] = Field((), description="further draft folders to compare, named by folder")
    mtp: bool = Field(True, description="an arm with the target's own multi-token prediction, where it has such heads")
    block_verification: bool = Field(
        False, description="an arm that verifies the candidate's drafts as blocks; vLLM 0.32 or newer"
    )
    adaptive_verification: bool = Field(
        False, description="beside each further draft of method dspark, an arm with adaptive verification"
    )
    k_by_batch: tuple[tuple[int, int, int], ...] = Field(
        (), description="an arm whose speculation length goes by batch size: [[from, to, K], ...]"
    )
    suffix: bool = Field(False, description="a suffix-decoding arm, where its package is installed")
    blocks: int = Field(3, ge=1, description="interleaved blocks to start with")
    resident: Literal["auto", "yes", "no"] = Field("auto", description="keep all servers up together")
    restart_every: int | None = Field(
        None,
        description="blocks between server restarts; default: as the error needs; 0 = start once, then tier `draft` unless "
        "thresholds.start_noise is set",
    )
    canaries: bool = Field(
        True,
        description="with serving.kind kubernetes: the arms are copies of what serves, in the cluster; false: servers that the "
        "job starts itself",
    )
    dcgm_url: str | None = Field(
        None, description="/metrics of a DCGM exporter: clocks and power of GPUs on another machine; default: NVML here"
    )
    thresholds: BlockThresholds = BlockThresholds()

    @model_validator(mode="after")
    def _goodput_has_limits(self) -> CompareConfig:
        """Goodput counts requests within limits, while they come at their own times."""
        if self.primary != "goodput":
            return self
        if self.slo_ttft_s is None and self.slo_tpot_s is None:
            raise ValueError("primary goodput counts requests within limits: set slo_ttft_s, slo_tpot_s or both")
        if not self.rates and self.arrivals == "closed":
            raise ValueError("primary goodput needs requests that come at their own times: set rates or arrivals")
        return self


class OtherEngine(Frozen):
    """What another engine than `engine.kind` needs to serve an arm. Everything else is as in `engine`."""

    python: str | None = Field(None, description="interpreter that has it; default: the current one")
    flags: tuple[str, ...] = Field((), description="its own flags; those of `engine.flags` are another engine's")
    env: dict[str, str] = Field(default_factory=dict, description="environment of its process")
    gpu_memory_share: float | None = Field(None, description="share of GPU memory for one server; default: chosen")


class ServingConfig(Frozen):
    """The server whose configuration is promoted or kept."""

    kind: Literal["local", "kubernetes", "managed"] = "local"
    deploy: str | None = Field(None, description="name of the served deployment")
    endpoint: str | None = Field(None, description="its URL, if it runs; checked before a switch")
    standing_config: dict[str, Any] | None = Field(None, description="its speculative config now; absent = off")
    allow_looser_thresholds: bool = Field(
        False, description="promote although the comparison's thresholds let through more than the defaults"
    )
    config_file: str | None = Field(None, description="file that the server reads its speculative config from")
    options: dict[str, Any] = Field(
        default_factory=dict, description="of kubernetes and managed: how it is served there, see their pages in docs/"
    )


class BackendConfig(Frozen):
    """Where jobs run."""

    kind: Literal["local", "slurm", "kubernetes"] = "local"
    scheduler: Literal["auto", "slurm", "kubernetes", "slurm-on-kubernetes"] = Field(
        "auto", description="what places the jobs; auto = as the back end says, or as found in the cluster"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="back-end settings, see its page in docs/")


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
        description="how serving is to become faster: train a draft (eagle3, dflash), or compare what needs no training (ngram, "
        "suffix, deepseek_mtp, predicted_outputs); default: as the profile recommends, a trained one by trainer.method",
    )
    target: str | None = Field(None, description="folder of the served model (Hugging Face style)")
    profile: str | None = Field(None, description="access log, folder or glob of the traffic")
    workspace: str = Field(".draftsmith", description="folder for runs; private to its owner")
    engine: EngineConfig = EngineConfig()
    engines: dict[EngineKind, OtherEngine] = Field(
        default_factory=dict, description="further engines, which arms may name: `sglang:none`, `vllm:ngram`"
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
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError(f"{name}: " + "; ".join(lines), "correct the keys named above") from None
    if not config.compare.concurrency:  # a comparison by its own command may have none: its plan is read as it is
        raise ConfigError(f"{name}: compare.concurrency: at least one is needed", "for example concurrency = [1]")
    return config


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
