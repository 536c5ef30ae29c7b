"""workload-profile.json: what the traffic looks like. Aggregates only, unless samples are requested."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen

Method = Literal["eagle3", "dflash", "ngram", "suffix", "deepseek_mtp", "predicted_outputs", "none"]


class Distribution(Frozen):
    """Token counts or seconds. None throughout where the source could not say."""

    count: int = 0
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None


class Skipped(Frozen):
    """Lines that could not be used, by reason; `lines` shows the first few as file:line."""

    reason: str
    count: int
    lines: tuple[str, ...] = ()


class LengthBucket(Frozen):
    """Share of requests whose count lies in [low, high) tokens; high None = open."""

    low: int
    high: int | None
    share: float


class BenchShape(Frozen):
    """A shape to measure at: input and output tokens, and its weight in the traffic."""

    name: str
    isl: int
    osl: int
    weight: float
    concurrency: int | None = None


class LoadSlice(Frozen):
    """How busy one stretch of the log was. Slices are of equal length and follow each other without a gap.

    `concurrency`: requests in flight on average; None where the log has no latencies.
    """

    start_unix_s: float
    seconds: float
    requests_per_s: float
    concurrency: float | None = None


class ExpectedAcceptance(Frozen):
    """What a trainless method would reach on this traffic, simulated on its real token ids."""

    method: Literal["ngram", "suffix"]
    num_speculative_tokens: int
    acceptance_length: float | None = Field(description="bonus token included, over steps that drafted")
    tokens_per_step: float | None = Field(description="over all steps")
    without_loops: float | None = Field(
        None,
        description="tokens_per_step without the answers that end in a repetition loop, which flatter it; None = there are none",
    )
    draft_rate: float | None = Field(None, description="share of steps that had a proposal")
    settings: dict[str, Any] = Field(default_factory=dict)
    output_tokens: int = 0


class ClassProfile(Frozen):
    """One content class (or route) of the traffic."""

    name: str
    share: float
    n_requests: int
    input_tokens: Distribution
    output_tokens: Distribution
    expected_acceptance: tuple[ExpectedAcceptance, ...] = ()


class Recommendation(Frozen):
    """Which method to use, in words and with the numbers that led there."""

    method: Method
    rationale: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class Source(Frozen):
    """One input: its name without folders, size, hash, and the format it was read as."""

    name: str
    format: str
    bytes: int | None = None
    sha256: str | None = None
    records: int = 0


class WorkloadProfile(Frozen):
    """See the fields. `sha256` is over the canonical JSON of everything else."""

    schema_: Literal["draftsmith_profile_v1"] = Field("draftsmith_profile_v1", alias="schema")
    n_requests: int
    skipped: tuple[Skipped, ...] = ()
    tokenizer: str | None = Field(None, description="name and hash of the tokenizer that counted, None = usage counts")
    token_counts: Literal["exact", "estimated", "usage", "shapes"] = "exact"
    input_tokens: Distribution
    output_tokens: Distribution
    content_class_mix: dict[str, float]
    classes: tuple[ClassProfile, ...] = ()
    routes: tuple[ClassProfile, ...] = ()
    models: dict[str, int] = Field(default_factory=dict, description="model names that requests asked for -> requests")
    adapters: dict[str, int] = Field(
        default_factory=dict, description="LoRA adapters that answered -> requests; a draft is trained for one target"
    )
    media: dict[str, int] = Field(
        default_factory=dict,
        description="kind -> requests with pictures, audio, video or files in the prompt; they count as load, and in nothing else",
    )
    isl_buckets: tuple[LengthBucket, ...] = ()
    osl_buckets: tuple[LengthBucket, ...] = ()
    bench_shapes: tuple[BenchShape, ...] = ()
    sampling_parameters: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="parameter -> value (as text) -> requests"
    )
    rejected_by_speculation: dict[str, int] = Field(
        default_factory=dict, description="parameters an engine refuses while speculation is on -> requests"
    )
    arrival_rate_per_s: float | None = None
    peak_rate_per_s: float | None = None
    concurrency_mean: float | None = None
    concurrency_p90: float | None = None
    load_over_time: tuple[LoadSlice, ...] = Field((), description="arrivals and concurrency over the log's own time")
    multi_turn_share: float | None = None
    prefix_reuse_share: float | None = None
    tool_share: float | None = None
    structured_output_share: float | None = None
    languages: dict[str, float] = Field(default_factory=dict)
    repetition_loop_share: float | None = None
    token_histogram: dict[str, float] = Field(
        default_factory=dict, description="hashed token and n-gram bins for drift; no text can be recovered"
    )
    expected_acceptance: tuple[ExpectedAcceptance, ...] = ()
    recommended_spec_decode: Recommendation
    not_available: tuple[str, ...] = Field((), description="what the source could not give (text, arrivals, ...)")
    provenance: tuple[Source, ...] = ()
    created_unix_s: float = 0.0
    draftsmith_version: str = ""
    sha256: str = ""

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
