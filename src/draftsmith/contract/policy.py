"""What the controller may do, and when: the section `[controller]` of draftsmith.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from draftsmith.contract.base import Frozen

ControllerMode = Literal["propose", "auto"]


class Policy(Frozen):
    """The service that watches, retrains, proves, promotes and steps back by itself."""

    mode: ControllerMode = Field(
        "propose",
        description="propose: say what would be done and wait for a yes; auto: do it, within the budgets below",
    )
    every_s: float = Field(10.0, gt=0, description="seconds between two looks")
    window_s: float = Field(3600.0, gt=0, description="length of one window of traffic, in seconds")
    window_requests: int = Field(
        400, ge=40, description="requests that are looked at in one window; of more a random sample is taken"
    )
    drift_windows: int = Field(
        3, ge=1, description="windows in a row that must have moved before traffic counts as moved"
    )
    min_requests: int = Field(300, ge=1, description="new requests since the last run before another one is worth it")
    fall_alpha: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="chance of calling it a fall when acceptance did not fall, over about 1/fall_alpha windows",
    )
    fall_margin: float = Field(
        0.05, ge=0, lt=1, description="relative loss of accepted tokens that is left alone, however sure it is"
    )
    max_age_days: float = Field(30.0, gt=0, description="a champion older than this is trained anew; days")
    runs_per_day: int = Field(2, ge=0, description="runs of the loop in 24 hours, at most")
    gpu_hours_per_day: float = Field(24.0, ge=0, description="hours of accelerator that runs may take in 24 hours")
    run_gpu_hours: float = Field(2.0, gt=0, description="what a run is taken to cost before one has been seen; hours")
    pay_back_days: float = Field(
        30.0,
        gt=0,
        description="a run must save more hours than it costs within so many days; hours of the served model",
    )
    first_gain: float = Field(
        0.25, ge=0, lt=1, description="share of decode time that a first draft is taken to save before one was measured"
    )
    accelerators: float = Field(1.0, gt=0, description="accelerators that the served model takes")
    quiet_hours: tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=0, le=23)]] | None = Field(
        None, description="no run begins from the first hour to the second, UTC, such as [8, 18]"
    )
    cooldown_s: float = Field(6 * 3600.0, ge=0, description="seconds between two runs")
    cooldown_factor: float = Field(
        2.0, ge=1, description="a run that promotes nothing makes the next pause so many times as long"
    )
    cooldown_most_s: float = Field(7 * 86400.0, ge=0, description="longest such pause, in seconds")
    retries: int = Field(2, ge=0, description="how often a run that failed is tried again")
    replay_share: float = Field(
        0.2, ge=0, lt=1, description="share of a run's traffic that is older, so that the draft does not forget it"
    )
    snapshot_mib: float = Field(512.0, gt=0, description="traffic that one run is given, at most; MiB")
    warm_start: bool = Field(True, description="train the next draft from the champion, where it is of the same method")
    shares: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (5, 25, 50, 100),
        min_length=1,
        description="shares of live traffic that a new configuration takes one after the other; percent",
    )
    share_s: float = Field(600.0, ge=0, description="seconds at each share, at least")
    share_requests: int = Field(200, ge=1, description="requests of the new configuration at each share, at least")
    tpot_margin: float = Field(0.1, ge=0, description="guard: TPOT may be so much longer than beside it")
    ttft_margin: float = Field(0.25, ge=0, description="guard: time to the first token may be so much longer")
    error_margin: float = Field(0.01, ge=0, description="guard: share of failed requests above that beside it")
    fallback: bool = Field(True, description="step back at run time where speculation does not pay")
    floor_al: float | None = Field(
        None,
        description="acceptance length below which the draft costs more than it saves; default: from the comparison",
    )
    tpot_promise_s: float | None = Field(None, description="promised time per output token, in seconds")
    fallback_after_s: float = Field(120.0, ge=0, description="how long it must stay below before anything is done")
    fallback_requests: int = Field(50, ge=1, description="requests in that time, at least; fewer prove nothing")
    fallback_hold_s: float = Field(1800.0, ge=0, description="how long it stays back before it is tried again; doubles")
    changes_per_hour: int = Field(4, ge=1, description="changes of what serves in one hour, at most")
    min_free_gib: float = Field(5.0, ge=0, description="free disk below which no run begins; GiB")
    notify: tuple[str, ...] = Field(
        (),
        description="where verdicts, fallbacks and stuck states are told: addresses as the package apprise takes them",
    )

    @model_validator(mode="after")
    def _shares_rise(self) -> Policy:
        if list(self.shares) != sorted(set(self.shares)) or self.shares[-1] != 100:
            raise ValueError("shares must rise and end with 100, such as [5, 25, 50, 100]")
        return self
