"""Before anything counts: warm-up until times hold still, the smoke test of a draft, and what the run will take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from draftsmith.contract.errors import EngineError, InputError
from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Thresholds, Trial
from draftsmith.contract.speculation import K
from draftsmith.verdict.first.power import blocks_needed, smallest_gain
from draftsmith.verdict.first.sequential import Rule
from draftsmith.verdict.prompts_needed import Claims

WARM_PROMPTS = 3
WARM_TOKENS = 16
WARM_PASSES = 4
WARM_TOLERANCE = 0.05
SMOKE_POSITION0 = 0.15
SMOKE_PROMPTS = 16
SMOKE_TOKENS = 24
PILOT_PASSES = 3
PILOT_TOKENS = 32


def steady(one_pass: Callable[[], Trial], least: int = 2) -> list[Trial]:
    """Passes over a few prompts until the median TPOT changes by less than 5 % (at least `least`, at most four)."""
    trials: list[Trial] = []
    while len(trials) < WARM_PASSES:
        trials.append(one_pass())
        if len(trials) >= max(least, 2):
            last, now = median_tpot(trials[-2]), median_tpot(trials[-1])
            if abs(now / last - 1) < WARM_TOLERANCE:
                break
    return trials


def closed(point: OperatingPoint, **changed: Any) -> OperatingPoint:
    """The same point as a closed loop, for passes over other prompts than its arrivals were recorded for."""
    return point.model_copy(update={"rate_per_s": None, "arrivals_s": (), **changed})


def families(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that differ in K alone, together: the choices to be made on the tuning prompts."""
    groups: dict[tuple[object, ...], list[Arm]] = {}
    for arm in arms:
        if arm.role != "standing" and arm.spec_config and arm.endpoint is None:
            rest = sorted((k, str(v)) for k, v in arm.spec_config.items() if k != K)
            groups.setdefault((arm.role, arm.flags, *rest), []).append(arm)
    return [group for group in groups.values() if len(group) > 1]


def median_tpot(trial: Trial) -> float:
    """Seconds per token. Raises InputError if no request of the trial has one, or if answers come in one piece."""
    values = [s.tpot_s for s in trial.samples if s.tpot_s is not None]
    if not values:
        errors: dict[str, Any] = {s.error: 1 for s in trial.samples if s.error}
        raise InputError(
            f"no request of arm {trial.arm} gave a time per token ({', '.join(errors) or 'answers of one token'})",
            "see the server's log, or give prompts with longer answers",
        )
    median = statistics.median(values)
    if median <= 0:
        raise InputError(
            f"arm {trial.arm} sends its answers in one piece, so there is no time per token",
            "compare servers that stream: look for a proxy that buffers in front of them",
        )
    return median


def smoke_test(arm: str, trial: Trial) -> None:
    """Raise EngineError if a draft is served but hardly ever accepted: that is wiring, not data."""
    counters = trial.counters
    if not counters.drafts:
        raise EngineError(
            f"{arm}: the engine made no draft at all", "look for the speculative config in the server's log"
        )
    by_position = counters.acceptance_by_position
    # An engine that does not count by position: no more than the drafts' mean accepted tokens can be right at position 0.
    first = by_position[0] if by_position else counters.accepted_tokens / counters.drafts
    if first < SMOKE_POSITION0:
        title = "acceptance at position 0 is" if by_position else "accepted tokens of a draft are"
        raise EngineError(
            f"{arm}: {title} {first:.3f} in the engine",
            "suspect the wiring (layers, vocabulary map, head) before the data: `draftsmith lint`",
        )


@dataclass(frozen=True)
class Forecast:
    """What the comparison will take, from a few passes over one baseline server (A/A). Times in seconds.

    `between_passes`: sd of log(TPOT / TPOT) of one server with itself. `blocks`: for a true gain of twice the smallest
    worth claiming; None = more than may be measured. `held_out`: different prompts. Starts of servers differ on top: only the
    blocks themselves show it.
    """

    passes: int
    prompts: int
    between_passes: float
    smallest_gain: float
    gain: float
    blocks: int | None
    block_prompts: int
    block_s: float
    least_s: float
    most_s: float
    held_out: int = 0

    def claims(self, limits: Thresholds) -> Claims:
        """What the held-out prompts can carry under this noise."""
        return Claims(limits, self.between_passes, self.block_prompts)

    def sentence(self, limits: Thresholds) -> str:
        """For the operator, before the run."""
        needed = (
            f"about {self.blocks} blocks ({self.blocks * self.block_prompts} answers of each arm)"
            if self.blocks
            else "more blocks than can be measured"
        )
        shown = f"{100 * self.smallest_gain:.2g} %" if self.smallest_gain < 1 else "any gain"
        most, least = max(limits.min_blocks, limits.max_blocks), limits.min_blocks
        claim = f"; {self.claims(limits).sentence(self.held_out, self.gain)}" if self.held_out else ""
        span = f"{_words(self.least_s)} ({least} blocks) to {_words(self.most_s)} ({most})"
        return (
            f"A/A on {self.passes} passes over {self.prompts} prompts: {100 * self.between_passes:.2g} % between passes; "
            f"by chance equal servers may show {shown} after the last of {most} blocks; a gain of {100 * self.gain:.2g} % "
            f"needs {needed}; a block takes about {_words(self.block_s)}, the comparison "
            f"{span if most > least else _words(self.least_s)}" + claim
        )

    def record(self, limits: Thresholds) -> dict[str, Any]:
        """forecast.json."""
        claims = self.claims(limits)
        prompts = {"prompts_needed": claims.needed(self.gain), "claim_carried": claims.smallest(self.held_out)}
        return {**asdict(self), **prompts, "sentence": self.sentence(limits)}


def forecast(
    plan: ComparisonPlan, pilot: Sequence[Trial], *, answer_tokens: float, general: int, start_s: float
) -> Forecast:
    """From short passes of the baseline over a few prompts at the primary point.

    `answer_tokens`: length of a whole answer. `general`: answers to general traffic in one pass over it. `start_s`: to start
    the servers once.
    """
    limits = plan.thresholds
    logs = [math.log(median_tpot(trial)) for trial in pilot]
    noise = math.sqrt(2) * statistics.stdev(logs) if len(logs) > 1 else 0.0
    first_s = statistics.fmean(s.ttft_s for t in pilot for s in t.samples if s.ttft_s is not None)
    answer_s = first_s + max(0.0, answer_tokens - 1) * math.exp(statistics.fmean(logs))
    prompts = plan.block_prompts or plan.n_prompts
    per_point = [
        max(p.arrival_s(prompts - 1) or 0.0, prompts * answer_s / max(1, p.concurrency))
        if p.open_loop
        else max(answer_s, prompts * answer_s / p.concurrency)
        for p in plan.points
    ]
    once = general * answer_s / max(1, plan.points[0].concurrency)
    block_s = (len(plan.arms) + 1) * sum(per_point) + (start_s if plan.restarts else 0.0)
    gain = 2 * limits.min_gain
    return Forecast(
        passes=len(pilot),
        prompts=len(pilot[0].samples),
        between_passes=noise,
        smallest_gain=smallest_gain(noise, Rule.of(limits), limits.start_noise or 0.0),
        gain=gain,
        blocks=blocks_needed(noise, gain, limits.confidence, thresholds=limits),
        block_prompts=prompts,
        block_s=block_s,
        least_s=limits.min_blocks * block_s + once,
        most_s=max(limits.min_blocks, limits.max_blocks) * block_s + 2 * once,
        held_out=plan.n_prompts,
    )


def _words(seconds: float) -> str:
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    return f"{whole / 60:.0f} min" if whole < 5400 else f"{whole / 3600:.1f} h"
