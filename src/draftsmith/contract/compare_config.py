"""The settings of a comparison: what is measured, on which requests, and by which thresholds it is decided."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from draftsmith.contract.base import Frozen
from draftsmith.contract.measure import ContentionRule, Thresholds


class BlockThresholds(Thresholds):
    """The thresholds of a new plan. Its blocks are short, so more of them are allowed."""

    max_blocks: int = Field(48, ge=1, description="maximum number of blocks")


class CompareConfig(Frozen):
    """The in-engine comparison."""

    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), description="requests in flight, one operating point each; the first is the primary one"
    )
    arrivals: Literal["closed", "recorded", "both"] = Field(
        "closed",
        description="closed: a fixed number of requests in flight; recorded: requests are sent at the arrival times of the log; both: both",
    )
    arrival_speed: float = Field(1.0, gt=0, description="speed-up of the recorded arrival times (2 = twice as fast)")
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="sampling parameters set on every request; other parameters stay as in the log",
    )
    api_key_env: str | None = Field(
        None, description="environment variable that holds the API key of servers that already run"
    )
    primary: Literal["cost", "goodput", "tpot"] = Field(
        "cost",
        description="metric that decides; cost: server seconds per output token; goodput: requests within the limits below, "
        "with open-loop arrivals; tpot: median time per output token",
    )
    slo_ttft_s: float | None = Field(
        None, gt=0, description="goodput: limit of the time to the first token, in seconds"
    )
    slo_tpot_s: float | None = Field(None, gt=0, description="goodput: limit of the time per output token, in seconds")
    deciding: tuple[str, ...] = Field(
        (),
        description='operating points that decide together, for example ["c1", "c8"] or ["all"]; default: only the first',
    )
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="operating points with open-loop arrivals, in requests per second; the random intervals are drawn once and kept",
    )
    prompts: int = Field(
        24, ge=1, description="held-out prompts per block; blocks use different prompts as long as there are enough"
    )
    visit_prompts: int = Field(
        3, ge=1, description="prompts of one visit per request in flight; then the next arm is measured"
    )
    contention: ContentionRule = Field(
        ContentionRule(), description="when a visit is repeated because the machine was busy with other work"
    )
    tuning_prompts: int = Field(8, ge=0, description="validation prompts used to choose K")
    general_prompts: int = Field(
        12, ge=0, description="prompts of general traffic, measured twice, to detect forgetting; 0 = none"
    )
    general_log: str | None = Field(
        None, description="access log of general traffic; default: a small built-in set of prompts"
    )
    max_tokens: int | None = Field(None, ge=1, description="maximum output tokens per request; default: as in the log")
    k_values: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 3), min_length=1, description="speculation lengths (K) tried for the candidate"
    )
    ngram: bool = Field(True, description="add an n-gram arm, unless the profile shows that it cannot help")
    drafts: tuple[str, ...] = Field(
        (), description="additional draft folders to compare; each arm is named after its folder"
    )
    mtp: bool = Field(True, description="add an arm with the target's own multi-token prediction heads, if it has them")
    block_verification: bool = Field(
        False, description="add an arm with block verification of the candidate; vLLM 0.32 or newer"
    )
    adaptive_verification: bool = Field(
        False, description="for each additional draft of method dspark, add an arm with adaptive verification"
    )
    k_by_batch: tuple[tuple[int, int, int], ...] = Field(
        (), description="add an arm whose speculation length depends on the batch size: [[from, to, K], ...]"
    )
    adaptive_steps: bool = Field(
        False,
        description="add an arm of the candidate whose speculation length follows acceptance and load; SGLang, EAGLE3",
    )
    suffix: bool = Field(False, description="add a suffix-decoding arm, if its package is installed")
    blocks: int = Field(3, ge=1, description="number of blocks measured before the first decision")
    resident: Literal["auto", "yes", "no"] = Field("auto", description="run the servers of all arms at the same time")
    restart_every: int | None = Field(
        None,
        ge=0,
        description="blocks between server restarts; default: chosen by the remaining error; 0: start once, which gives tier "
        "`draft` unless thresholds.start_noise is set",
    )
    canaries: bool = Field(
        True,
        description="with serving.kind kubernetes: the arms are copies of the served deployment in the cluster; false: the job "
        "starts its own servers",
    )
    dcgm_url: str | None = Field(
        None,
        description="/metrics URL of a DCGM exporter, for clocks and power of GPUs on another machine; default: NVML on this one",
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
