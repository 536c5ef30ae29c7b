"""plan.json: what a draft has to reach on this target and machine, what is known of it beforehand, and what to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.context import Context
from draftsmith.contract.verdict import Interval

Action = Literal["keep", "ngram", "suffix", "mtp", "train", "nothing"]

ACTION_MEANING: dict[Action, str] = {
    "keep": "leave the standing configuration as it is",
    "ngram": "try n-gram lookup: nothing has to be trained",
    "suffix": "try suffix decoding: nothing has to be trained",
    "mtp": "try the target's own prediction heads: nothing has to be trained",
    "train": "train a draft on this traffic",
    "nothing": "nothing to win at this concurrency",
}


class StepSample(Frozen):
    """One pair of trials: a speculating server beside the plain one, same prompts, one after the other. Times in seconds.

    `ratio` is the time of one speculating step over that of a plain one; a step of every sequence yields `tokens_per_step`.
    """

    arm: str
    method: Literal["draft", "ngram"]
    concurrency: int
    k: int
    repeat: int
    plain_step_s: float
    step_s: float
    tokens_per_step: float
    draft_rate: float = Field(1.0, description="share of steps that had a proposal")
    asked_al: float | None = Field(None, description="acceptance length the engine was told to accept")

    @property
    def ratio(self) -> float:
        """Cost of a step, a plain step being 1."""
        return self.step_s / self.plain_step_s


class StepCost(Frozen):
    """One concurrency: TPOT(K, AL) = (a_s + b_s K) / AL. `plain_s` is TPOT without speculation."""

    concurrency: int
    plain_s: float
    a_s: float
    b_s: float


class Fit(Frozen):
    """The model behind every break-even, with what it leaves unexplained. Residuals are relative (0.02 = 2 %)."""

    model: str = "TPOT(c, K, AL) = (a_c + b_c K) / AL"
    costs: tuple[StepCost, ...]
    samples: int
    degrees_of_freedom: int
    residual_rms: float
    residual_worst: float
    noise: float = Field(description="standard deviation of one pair that the intervals use, relative")
    confidence: float


class Need(Frozen):
    """What a draft needs with K tokens a step. `per_token` is the chance of each next token that gives `to_win`."""

    k: int
    break_even: Interval = Field(description="AL at which it is as fast as no speculation")
    to_win: Interval = Field(description="AL at which it beats what serves by the smallest gain worth claiming")
    per_token: float | None = Field(None, description="None: even full acceptance (K + 1) does not reach it")


class Forecast(Frozen):
    """Speed against no speculation of one method. None where it is not known; `basis` says from what."""

    method: str
    k: int | None = None
    tokens_per_step: float | None = None
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    basis: str
    usable: bool = Field(True, description="false: what it needs is not installed with this engine")


class PointPlan(Frozen):
    """One concurrency. `best_k` is None where no acceptance is known that could choose it; `k_by_acceptance` is then the answer."""

    concurrency: int
    plain_tpot_s: float
    needs: tuple[Need, ...]
    best_k: int | None = None
    k_by_acceptance: dict[str, int] = Field(description="chance that the next token is accepted -> fastest K, 0 = none")
    standing: Forecast | None = Field(None, description="what serves now, if it speculates")
    draft: Forecast
    trainless: tuple[Forecast, ...] = ()
    advice: Action
    sentence: str


class DraftRecord(Frozen):
    """What one earlier run measured of a draft on this target."""

    run_id: str
    answer_tokens: int = Field(description="answer tokens of its training rows")
    k: int
    acceptance_length: float
    by_position: tuple[float, ...] = ()
    same_traffic: bool | None = Field(None, description="by drift between the profiles; None = could not be judged")


class Volume(Frozen):
    """Expected acceptance after training on this many answer tokens. None = unknown."""

    answer_tokens: int
    acceptance_length: float | None = None
    low: float | None = None
    high: float | None = None


class Acceptance(Frozen):
    """What is known of a draft before it is trained. `by_position` empty = nothing is known."""

    k: int | None = None
    by_position: tuple[float, ...] = ()
    relative_error: float | None = Field(None, description="half of the interval over AL; None = no spread is known")
    volumes: tuple[Volume, ...] = ()
    records: tuple[DraftRecord, ...] = ()
    sentence: str


class Budget(Frozen):
    """What one passage through the loop takes. Seconds of wall time; None = no earlier run measured it."""

    training_rows: int
    capture_tokens: int
    capture_bytes: int
    answer_tokens: int
    train_tokens: int
    capture_s: float | None = None
    train_s: float | None = None
    compare_s: float | None = None
    gpus: int = 0
    basis: tuple[str, ...] = ()

    @property
    def wall_s(self) -> float | None:
        """Of all three; None if one of them is not known."""
        parts = (self.capture_s, self.train_s, self.compare_s)
        return sum(part for part in parts if part is not None) if None not in parts else None

    @property
    def gpu_hours(self) -> float | None:
        """None without a GPU or a wall time."""
        return self.wall_s * self.gpus / 3600 if self.gpus and self.wall_s is not None else None


class Plan(Frozen):
    """plan.json. Everything in it follows from `samples`, the profile and the records of earlier runs."""

    schema_: Literal["draftsmith_plan_v1"] = Field("draftsmith_plan_v1", alias="schema")
    target: str
    target_sha256: str
    profile_sha256: str
    measured_sha256: str = Field(
        description="of what decides the measured points: the same again are not measured again"
    )
    context: Context
    min_gain: float
    samples: tuple[StepSample, ...]
    fit: Fit
    points: tuple[PointPlan, ...]
    primary: int = Field(description="concurrency whose advice is the recommendation")
    acceptance: Acceptance
    budget: Budget
    advice: Action
    reason: str
    notes: tuple[str, ...] = ()
    starts: int
    wall_s: float
    created_unix_s: float = 0.0
    draftsmith_version: str = ""

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class Option(Frozen):
    """One way to serve at one concurrency, and the time per token expected of it. `k` None: nothing is drafted."""

    engine: str
    method: str = Field(description="none, ngram, suffix or draft")
    k: int | None = None
    tpot_s: float
    low_s: float
    high_s: float
    basis: str


class Bar(Frozen):
    """The acceptance length at which a draft on this engine is as fast as the fastest known option of all engines."""

    engine: str
    k: int
    acceptance_length: float
    per_token: float | None = Field(None, description="chance of each next token that gives it; None: out of reach")


class AcrossPoint(Frozen):
    """All engines at one concurrency. `options`: the fastest first. `chosen` None: no engine stands out."""

    concurrency: int
    options: tuple[Option, ...]
    bars: tuple[Bar, ...] = Field((), description="of engines on which nothing is known of a draft")
    chosen: Option | None = None
    sentence: str


class Across(Frozen):
    """across.json: the plans of several engines for one target, traffic and machine, side by side."""

    schema_: Literal["draftsmith_across_v1"] = Field("draftsmith_across_v1", alias="schema")
    target_sha256: str
    profile_sha256: str
    engines: dict[str, str] = Field(description="engine -> its release, as the plan's context names it")
    min_gain: float
    primary: int
    points: tuple[AcrossPoint, ...]
    sentence: str

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class CheckRow(Frozen):
    """One arm of a finished comparison: what its acceptance should have given, and what was measured."""

    arm: str
    concurrency: int
    k: int
    acceptance_length: float
    predicted: Interval
    measured: Interval | None
    error: float | None = Field(None, description="predicted / measured - 1")
    agrees: bool | None = Field(None, description="whether the two intervals overlap")
    sentence: str


class PlanCheck(Frozen):
    """A plan against what a run measured afterwards."""

    run_id: str
    rows: tuple[CheckRow, ...]
    left_out: tuple[str, ...] = ()
    sentence: str
