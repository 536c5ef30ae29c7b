"""The gate's answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen

Outcome = Literal["WIN", "LOSS", "INCONCLUSIVE"]
Tier = Literal["draft", "verdict"]
Need = Literal["blocks", "start", "done"]


class Interval(Frozen):
    """A point estimate with its interval, at the stated confidence."""

    value: float
    low: float
    high: float
    confidence: float


class Guard(Frozen):
    """One non-inferiority check. `passed` None means it could not be evaluated (then the tier drops)."""

    name: str
    passed: bool | None
    observed: float | None = None
    limit: float | None = None
    sentence: str


class ArmSummary(Frozen):
    """One arm at one operating point over all its valid trials. Times in seconds, throughput in tokens/s."""

    arm: str
    point: str
    trials: int
    requests: int
    errors: int
    median_tpot_s: float | None = None
    p99_tpot_s: float | None = None
    server_mean_tpot_s: float | None = None
    median_ttft_s: float | None = None
    throughput_tok_s: float | None = None
    acceptance_length: float | None = None
    acceptance_by_position: tuple[float, ...] = ()
    tokens_per_step: float | None = None
    preemptions: int = 0
    kv_tokens: int | None = None


class PairResult(Frozen):
    """One candidate against the baseline at one operating point. `speedup` = baseline TPOT / candidate TPOT."""

    candidate: str
    baseline: str
    point: str
    blocks: int
    speedup: Interval | None
    block_ratios: tuple[float, ...] = Field((), description="per block, baseline TPOT / candidate TPOT")
    min_speedup: float = Field(description="what the interval's lower end must clear")
    guards: tuple[Guard, ...] = ()
    outcome: Outcome
    reason: str
    measure: str | None = Field(None, description="what `speedup` compares (second edition): cost, goodput or tpot")
    starts: int | None = Field(None, description="independent sets of server starts behind the estimate")
    prompts: int | None = Field(None, description="different prompts behind the estimate")
    these_starts: Interval | None = Field(
        None, description="the same estimate for the servers that were measured, without what another start may change"
    )
    corrected: float | None = Field(
        None, description="of a WIN: the speedup corrected for having been chosen, among looks and arms"
    )


class Decision(Frozen):
    """verdict.json. Recomputed bit for bit from plan.json and samples.jsonl by `draftsmith verify`."""

    schema_: Literal["draftsmith_verdict_v1"] = Field("draftsmith_verdict_v1", alias="schema")
    outcome: Outcome
    tier: Tier
    tier_reasons: tuple[str, ...] = Field((), description="why the tier is only `draft`, if so")
    reason: str = Field(description="one plain sentence")
    winner: str | None = Field(None, description="arm to promote, on a WIN")
    primary_point: str
    need_more_blocks: bool = False
    need: Need | None = Field(
        None,
        description="second edition, what to measure next: more blocks on these servers, a new start of all of them, or "
        "nothing more",
    )
    pairs: tuple[PairResult, ...]
    arms: tuple[ArmSummary, ...]
    aa_floor: float | None = Field(None, description="relative TPOT difference that equal servers show here")
    plan_sha256: str
    samples_sha256: str
    notes: tuple[str, ...] = ()

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
