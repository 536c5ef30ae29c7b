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
        description="propose: propose each act and wait for approval; auto: act, within the budgets below",
    )
    every_s: float = Field(10.0, gt=0, description="seconds between two observations")
    window_s: float = Field(3600.0, gt=0, description="length of one window of traffic, in seconds")
    window_requests: int = Field(
        400, ge=40, description="maximum requests examined per window; a larger window is sampled at random"
    )
    drift_windows: int = Field(
        3, ge=1, description="consecutive windows that must show drift before the controller acts on it"
    )
    min_requests: int = Field(
        300, ge=1, description="minimum new requests since the last run before another run starts"
    )
    fall_alpha: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="probability of a false alarm about falling acceptance, over about 1/fall_alpha windows",
    )
    fall_margin: float = Field(
        0.05, ge=0, lt=1, description="relative loss of accepted tokens that is ignored, even if it is certain"
    )
    max_age_days: float = Field(
        30.0, gt=0, description="maximum age of the champion, in days; an older one is trained again"
    )
    runs_per_day: int = Field(2, ge=0, description="maximum runs of the loop in 24 hours")
    gpu_hours_per_day: float = Field(24.0, ge=0, description="maximum accelerator hours of all runs in 24 hours")
    run_gpu_hours: float = Field(
        2.0, gt=0, description="assumed cost of a run before one was measured, in accelerator hours"
    )
    pay_back_days: float = Field(
        30.0,
        gt=0,
        description="a run must save more accelerator hours of the served model than it costs within this many days",
    )
    first_gain: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="assumed fraction of decode time that a first draft saves, before one was measured",
    )
    accelerators: float = Field(1.0, gt=0, description="number of accelerators the served model uses")
    quiet_hours: tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=0, le=23)]] | None = Field(
        None, description="no run starts between these hours, UTC, for example [8, 18]"
    )
    cooldown_s: float = Field(6 * 3600.0, ge=0, description="minimum seconds between two runs")
    cooldown_factor: float = Field(
        2.0, ge=1, description="factor by which the pause grows after a run that promotes nothing"
    )
    cooldown_most_s: float = Field(7 * 86400.0, ge=0, description="maximum pause between two runs, in seconds")
    retries: int = Field(2, ge=0, description="how often a failed run is tried again")
    replay_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="fraction of a run's traffic taken from older windows, so that the draft does not forget it",
    )
    snapshot_mib: float = Field(512.0, gt=0, description="maximum traffic given to one run, in MiB")
    warm_start: bool = Field(True, description="start training from the champion's weights, if it has the same method")
    shares: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (5, 25, 50, 100),
        min_length=1,
        description="shares of live traffic given to a new configuration, one after the other, in percent",
    )
    share_s: float = Field(600.0, ge=0, description="minimum seconds at each share")
    share_requests: int = Field(200, ge=1, description="minimum requests of the new configuration at each share")
    tpot_margin: float = Field(
        0.1, ge=0, description="guard: maximum relative increase of TPOT over the old configuration"
    )
    ttft_margin: float = Field(
        0.25, ge=0, description="guard: maximum relative increase of TTFT over the old configuration"
    )
    error_margin: float = Field(
        0.01, ge=0, description="guard: maximum increase of the fraction of failed requests (absolute)"
    )
    fallback: bool = Field(True, description="fall back to serving without the draft when it does not pay at run time")
    floor_al: float | None = Field(
        None,
        ge=0,
        description="acceptance length below which the draft costs more than it saves; default: from the comparison",
    )
    tpot_promise_s: float | None = Field(None, gt=0, description="promised time per output token (TPOT), in seconds")
    fallback_after_s: float = Field(120.0, ge=0, description="seconds below the floor before the fallback")
    fallback_requests: int = Field(
        50, ge=1, description="minimum requests in that time; with fewer the controller waits"
    )
    fallback_hold_s: float = Field(
        1800.0, ge=0, description="seconds of fallback before the draft is tried again; doubles each time"
    )
    changes_per_hour: int = Field(4, ge=1, description="maximum changes of the serving configuration per hour")
    min_free_gib: float = Field(5.0, ge=0, description="minimum free disk space to start a run, in GiB")
    notify: tuple[str, ...] = Field(
        (),
        description="notification addresses for verdicts, fallbacks and stuck states, in the form of the package apprise",
    )

    @model_validator(mode="after")
    def _shares_rise(self) -> Policy:
        if list(self.shares) != sorted(set(self.shares)) or self.shares[-1] != 100:
            raise ValueError("shares must rise and end with 100, such as [5, 25, 50, 100]")
        return self
