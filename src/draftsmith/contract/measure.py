"""What a comparison freezes before it measures, and what it records."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.speculation import Speculation, read

ArmRole = Literal["standing", "no_spec", "candidate", "trainless", "other"]


class Arm(Frozen):
    """One server configuration in a comparison. `spec_config` is the engine's `--speculative-config`, None = off."""

    name: str
    role: ArmRole
    spec_config: dict[str, Any] | None = None
    flags: tuple[str, ...] = Field(
        (), description="additional engine flags of this arm; usually the same for every arm"
    )
    draft_sha256: str | None = None
    endpoint: str | None = Field(None, description="URL of a server that already runs; None = a server is started")
    command: tuple[str, ...] | None = Field(
        None, description="full server command of the user; None = the command is rendered"
    )
    env: dict[str, str] = Field(default_factory=dict, description="environment variables added for `command`")
    engine: str = Field("vllm", description="the serving engine of this arm")

    @property
    def speculation(self) -> Speculation | None:
        """What `spec_config` says; None = off, or a whole command or running server, which has none."""
        return read(self.spec_config, self.engine)


class OperatingPoint(Frozen):
    """Where the arms are compared. Lengths are in tokens.

    Closed loop: `concurrency` requests in flight. Open loop: `rate_per_s` (evenly spaced) or `arrivals_s` (recorded) say
    when each request is sent, and `concurrency` is only what the log showed.
    """

    name: str
    concurrency: int
    rate_per_s: float | None = None
    arrivals_s: tuple[float, ...] = Field(
        (), description="seconds after the trial's start at which each prompt is sent, in the prompts' order"
    )
    isl_p50: int | None = None
    osl_p50: int | None = None
    max_tokens: int | None = None
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="sampling parameters set on every request; other parameters stay as in the traffic",
    )
    primary: bool = False

    @property
    def open_loop(self) -> bool:
        """Whether requests are sent at given times, independent of how many are in flight."""
        return self.rate_per_s is not None or bool(self.arrivals_s)

    def arrival_s(self, index: int) -> float | None:
        """When prompt `index` is sent, in seconds after the trial's start; None in a closed loop."""
        if self.arrivals_s:
            return self.arrivals_s[min(index, len(self.arrivals_s) - 1)]
        return index / self.rate_per_s if self.rate_per_s else None


class Thresholds(Frozen):
    """The gate's settings. Ratios are candidate/baseline of a time: below 1 is faster."""

    min_gain: float = Field(
        0.03, ge=0, description="smallest gain in TPOT that counts; the A/A floor can only raise it"
    )
    confidence: float = Field(
        0.95, gt=0, lt=1, description="confidence level of every interval shown, over all looks together"
    )
    min_blocks: int = Field(3, ge=1, description="minimum number of blocks for tier `verdict`")
    max_blocks: int = Field(8, ge=1, description="maximum number of blocks")
    p99_tpot_margin: float = Field(0.10, ge=0, description="guard: maximum relative increase of p99 TPOT")
    ttft_margin: float = Field(
        0.15,
        ge=0,
        description="guard: relative increase of median TTFT that is always allowed; more is allowed if later tokens make up for it",
    )
    ttft_repaid_tokens: int = Field(
        8, ge=0, description="a later first token is allowed if the answer has caught up by this output token"
    )
    throughput_margin: float = Field(
        0.05, ge=0, lt=1, description="guard: maximum relative decrease of output tokens per second"
    )
    error_rate_margin: float = Field(
        0.005, ge=0, description="guard: maximum increase of the fraction of failed requests (absolute)"
    )
    forgetting_margin: float = Field(
        0.10,
        ge=0,
        description="guard: relative increase of TPOT on general traffic that is always allowed; more is allowed if the gain pays for it",
    )
    general_share: float = Field(
        0.10,
        ge=0,
        lt=1,
        description="fraction of general traffic at which the draft must still pay; it limits the slow-down allowed there",
    )
    client_server_tolerance: float = Field(
        0.10, ge=0, description="maximum relative difference between the mean TPOT of client and server"
    )
    lower_end_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="fraction of the smallest gain that the lower end of the interval must exceed",
    )
    false_promotion: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="probability of promoting an arm that is no faster, over all arms and all looks together",
    )
    start_noise: float | None = Field(
        None,
        ge=0,
        description="known spread (sd of the log TPOT ratio) between two server starts; used if there are few restarts",
    )
    preemption_margin: float = Field(
        0.05, ge=0, description="guard: maximum increase of preemptions per request (absolute)"
    )
    capacity_margin: float = Field(
        0.25, ge=0, le=1, description="guard: maximum relative decrease of peak concurrency and of KV cache tokens"
    )
    start_bound: float = Field(
        1.65, ge=1, description="second edition: largest ratio recorded between two starts of the same server"
    )
    answers_margin: float = Field(
        0.5,
        ge=0,
        le=1,
        description="second edition: maximum fraction of greedy answers that may differ from the baseline's, if more differ than "
        "between equal servers; 0 = not more than between equal servers",
    )
    max_starts: int = Field(
        8, ge=1, description="second edition: maximum number of server starts per arm in one comparison"
    )


class ContentionRule(Frozen):
    """When a visit is spoiled by what else the machine did, and how often it is repeated. Part of the frozen plan.

    A visit is compared with the usual value of this campaign: the median of the earlier visits, spoiled ones included. A
    constant load becomes the usual value, so a busy machine is measured as it is.
    """

    others_cpu: float = Field(
        0.15, ge=0, description="fraction of the allowed cores that other processes may use above the usual value"
    )
    client_lag_s: float = Field(
        0.25, ge=0, description="seconds that the client's timer may be late above the usual value"
    )
    gpu_clock: float = Field(
        0.10, ge=0, le=1, description="fraction by which the GPU clock may be below the usual value"
    )
    window: int = Field(12, ge=3, description="number of visits in the median")
    repeats: int = Field(2, ge=0, description="maximum repetitions of one visit; 0 = none")
    budget: float = Field(
        0.25,
        ge=0,
        description="maximum repetitions in the whole campaign, as a fraction of its visits; four are always allowed",
    )


class ComparisonPlan(Frozen):
    """Frozen before the first measurement; its hash is part of the evidence."""

    schema_: Literal["draftsmith_comparison_v1", "draftsmith_comparison_v2"] = Field(
        "draftsmith_comparison_v1",
        alias="schema",
        description="which edition of the rule decides: bundles of the first edition are verified by the first edition",
    )
    arms: tuple[Arm, ...]
    baseline: str = Field(description="name of the arm that a candidate is compared with: the standing configuration")
    points: tuple[OperatingPoint, ...]
    prompts_sha256: str
    general_prompts_sha256: str | None = None
    n_prompts: int
    thresholds: Thresholds = Thresholds()
    cache_regime: Literal["cold", "warm"] = "cold"
    restarts: bool = Field(True, description="whether each block starts its servers anew")
    resident: bool = Field(True, description="whether the servers of a block were up together")
    primary: Literal["cost", "goodput", "tpot"] = Field(
        "tpot",
        description="cost: server seconds per output token at the operating point; goodput: requests within the latency "
        "limits; tpot: median time per output token",
    )
    slo_ttft_s: float | None = Field(None, description="goodput: limit of the time to the first token, in seconds")
    slo_tpot_s: float | None = Field(None, description="goodput: limit of the time per output token, in seconds")
    block_prompts: int | None = Field(
        None,
        description="prompts of one block; blocks use disjoint prompts as long as there are enough; None = every block uses all",
    )
    deciding: tuple[str, ...] = Field(
        (),
        description="second edition: points that decide together, the primary one among them: a WIN at one of them, and "
        "not worse at any; empty = the primary point alone",
    )
    visit_prompts: int | None = Field(
        None,
        description="prompts of one visit to an arm, per request in flight at the point; None = all prompts of the block",
    )
    contention: ContentionRule | None = Field(None, description="which visits are repeated; None = no visit")
    sampling_seen: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="numeric sampling parameters of the prompts: name -> value -> prompts"
    )
    seed: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    settings_sha256: str | None = Field(
        None,
        description="sha256 of the settings and paths the arms depend on; a comparison started under a different hash is refused, not resumed",
    )
    frozen_unix_s: float | None = Field(None, description="when the plan was frozen, before its first block")
    journal_sha256: str | None = Field(
        None, description="of the last line of the journal of campaigns before this one; zeros if it is the first"
    )
    prompt_hashes: tuple[str, ...] = Field(
        (),
        description="of each held-out prompt in its order, salted: equal prompts of two comparisons have other hashes; the "
        "salt stays with the owner",
    )
    trained_on: int | None = Field(
        None, description="number of held-out prompts that are also training rows of the draft; None = unknown"
    )
    target_sha256: str | None = Field(None, description="of the target's weights, by their files; None = not read")

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class EngineFacts(Frozen):
    """What the engine itself said in its log, per server start. `mode_key` must be equal across compared arms."""

    engine: str = "vllm"
    version: str | None = None
    start_id: str = Field(description="unique per server start")
    pid: int | None = None
    device: str | None = None
    dtype: str | None = None
    enforce_eager: bool | None = None
    compile_mode: str | None = None
    graph_mode: str | None = None
    runner: str | None = None
    kv_tokens: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
    async_scheduling: bool | None = None
    memory_share: float | None = Field(None, description="fraction of the GPU's memory that the server may use")
    max_batched_tokens: int | None = None
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="parallelism, cache, quantisation, and every argument that is not the default, except names of the "
        "server, speculation and secrets; values that are not a plain word are hashed",
    )
    spec_method: str | None = None
    num_speculative_tokens: int | None = None
    sharing: tuple[str, ...] = Field((), description="log lines on shared embeddings or lm_head")
    warnings: tuple[str, ...] = ()

    @property
    def mode_key(self) -> tuple[object, ...]:
        """What has to match between two arms for their times to be comparable."""
        return (
            self.version,
            self.device,
            self.dtype,
            self.enforce_eager,
            self.compile_mode,
            self.graph_mode,
            self.runner,
            self.max_model_len,
            self.max_num_seqs,
            self.prefix_caching,
        )


class SpecCounters(Frozen):
    """Differences of the engine's counters over one trial. All zero and `present` False when speculation is off."""

    present: bool = False
    drafts: int = 0
    draft_tokens: int = Field(0, description="0 beside drafts: not known, since their length moves")
    accepted_tokens: int = 0
    accepted_per_position: tuple[int, ...] = ()
    generation_tokens: int = 0
    prompt_tokens: int = 0
    requests: int = 0
    preemptions: int = 0
    server_tpot_sum_s: float | None = None
    server_tpot_count: int | None = None
    decode_steps: int | None = Field(
        None, description="steps of single sequences after their first token, with or without a draft"
    )

    @property
    def tokens_per_step(self) -> float | None:
        """Mean tokens per decode step of one sequence, drafted or not: comparable across all methods. None if unknown."""
        return (self.generation_tokens - self.requests) / self.decode_steps if self.decode_steps else None

    @property
    def acceptance_length(self) -> float | None:
        """AL: mean tokens per verified step, bonus token included; None without drafts."""
        return 1 + self.accepted_tokens / self.drafts if self.drafts else None

    @property
    def acceptance_by_position(self) -> tuple[float, ...]:
        """Share of drafts whose token at each position was accepted."""
        return tuple(n / self.drafts for n in self.accepted_per_position) if self.drafts else ()


class Contention(Frozen):
    """What the machine showed during one visit. Shares are of the visit's wall time; None = could not look."""

    run_queue: float | None = Field(None, description="mean tasks that were ready to run, per core")
    cpu_pressure: float | None = Field(None, description="share of time in which a task waited for a core (PSI some)")
    memory_pressure: float | None = Field(None, description="the same for memory")
    others_cpu: float | None = Field(
        None, description="share of the cores that client and servers may use, taken by other processes"
    )
    client_lag_s: float | None = Field(None, description="longest time by which the client's own timer came late")
    gpu_clock_mhz: float | None = Field(None, description="mean SM clock of the GPUs in use")


class RequestSample(Frozen):
    """One measured request. Times in seconds from the client's monotonic clock. No text."""

    prompt_id: str
    content_class: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ttft_s: float | None = None
    latency_s: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    output_sha256: str | None = Field(None, description="of the output token ids, for divergence between arms")
    first_divergence_hint: int | None = Field(
        None, description="first output token (0-based) that is not the baseline's in the same block; None = the same"
    )
    cached_tokens: int | None = Field(None, description="prompt tokens from the prefix cache, where the engine says")
    drafts: int | None = None
    accepted_tokens: int | None = None

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None where it is not defined."""
        if self.error or self.ttft_s is None or self.latency_s is None or not self.output_tokens:
            return None
        if self.output_tokens < 2:
            return None
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1)


class Trial(Frozen):
    """One visit to one arm at one operating point, inside one block. A line of samples.jsonl.

    In the first edition a visit is a pass over all pinned prompts. The baseline's twin has traffic `aa`.
    """

    schema_: Literal["draftsmith_trial_v1"] = Field("draftsmith_trial_v1", alias="schema")
    plan_sha256: str
    trial_id: str = Field(
        description="unique: `<point>/<block>/<arm>[/<traffic>]`, in the second edition with `/<visit>[.<repeat>]`"
    )
    block: int
    order: int = Field(description="position of this visit inside its block")
    arm: str
    point: str
    traffic: Literal["own", "general", "tuning", "aa"] = "own"
    node: str
    engine_start_id: str
    started_unix_s: float
    wall_s: float
    peak_concurrency: int
    samples: tuple[RequestSample, ...]
    counters: SpecCounters = SpecCounters()
    kv_tokens: int | None = None
    invalid: str | None = Field(None, description="why this trial must not be used; None = it may be")
    hardware: dict[str, float | str] = Field(default_factory=dict, description="clocks, power, temperature")
    visit: int = Field(
        0, description="number of earlier visits of this arm in this block; the arms take turns by visit"
    )
    contention: Contention | None = Field(None, description="what else the machine did during the visit")
    previous_sha256: str | None = Field(
        None, description="sha256 of the line before this one in samples.jsonl; of the plan for the first line"
    )

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
