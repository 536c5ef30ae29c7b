"""Which trials may be used at all. A bad one is set aside with its reason; nothing bad is ever averaged in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from draftsmith.contract.base import digest
from draftsmith.contract.measure import ComparisonPlan, OperatingPoint, RequestSample, Trial
from draftsmith.verdict.samples import trial_digest

SECOND = "draftsmith_comparison_v2"
TOKEN_TOLERANCE = 0.01
CLOCK_TOLERANCE = 0.05
CLOCK_SLACK_S = 0.5
IDLE_FACTOR = 2.0
IDLE_SLACK_S = 5.0


def base_arm(arm: str) -> str:
    """The arm that an A/A name such as `standing#b` belongs to."""
    return arm.split("#", 1)[0]


def valid_trials(plan: ComparisonPlan, trials: Iterable[Trial]) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The usable trials, and one sentence per trial that was set aside."""
    checked = inspect_trials(plan, trials)
    good = tuple(trial for trial in checked if trial.invalid is None)
    notes = tuple(f"trial {trial.trial_id} was set aside: {trial.invalid}" for trial in checked if trial.invalid)
    return good, notes


def inspect_trials(plan: ComparisonPlan, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """All trials in a fixed order, each unusable one with its reason in `invalid`. Exact repeats are dropped."""
    plan_sha256 = digest(plan)
    ordered = _distinct(list(trials))
    # A visit that was spoiled is repeated, and may come under its old name.
    counted = [trial for trial in ordered if trial.invalid is None] if plan.schema_ == SECOND else ordered
    times_seen = Counter(trial.trial_id for trial in counted)
    checked = []
    for trial in ordered:
        reason = trial.invalid or _own_fault(plan, plan_sha256, trial)
        if reason is None and times_seen[trial.trial_id] > 1:
            reason = "its id is used by another trial with other content"
        checked.append(trial.model_copy(update={"invalid": reason}))
    return tuple(_across_arms(plan, checked))


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """Trials without exact repeats, in a fixed order. Only where an id comes twice the content has to be looked at."""
    by_id: dict[str, list[Trial]] = {}
    for trial in trials:
        by_id.setdefault(trial.trial_id, []).append(trial)
    kept: list[Trial] = []
    for same_id in by_id.values():
        if len(same_id) > 1:
            known = {trial_digest(trial): trial for trial in same_id}
            same_id = [known[key] for key in sorted(known)]
        kept += same_id
    return sorted(kept, key=lambda trial: (trial.block, trial.order, trial.trial_id))


def _own_fault(plan: ComparisonPlan, plan_sha256: str, trial: Trial) -> str | None:
    if trial.plan_sha256 != plan_sha256:
        return "it was measured under another plan"
    if base_arm(trial.arm) not in {arm.name for arm in plan.arms}:
        return f"the plan has no arm {base_arm(trial.arm)}"
    point = next((p for p in plan.points if p.name == trial.point), None)
    if point is None:
        return f"the plan has no operating point {trial.point}"
    checks: tuple[Callable[[], str | None], ...] = (
        lambda: _incomplete(plan, trial),
        lambda: _bad_numbers(trial),
        lambda: _no_usage(trial),
        lambda: _clock(point, trial),
        lambda: _counters(trial),
    )
    return next((reason for check in checks if (reason := check()) is not None), None)


def _incomplete(plan: ComparisonPlan, trial: Trial) -> str | None:
    if not trial.samples:
        return "the arm is empty: no request was recorded"
    ids = Counter(sample.prompt_id for sample in trial.samples)
    if max(ids.values()) > 1:
        return "a prompt was measured more than once"
    if trial.traffic not in ("own", "aa"):
        return None
    if plan.schema_ == SECOND:
        expected = plan.block_prompts or plan.n_prompts
        return (
            f"{len(trial.samples)} requests in one visit, a block has {expected}"
            if len(trial.samples) > expected
            else None
        )
    if len(trial.samples) < plan.n_prompts:
        return f"it was cut off: {len(trial.samples)} of {plan.n_prompts} requests were recorded"
    if len(trial.samples) > plan.n_prompts:
        return f"{len(trial.samples)} requests were recorded where the plan has {plan.n_prompts}"
    return None


def _bad_numbers(trial: Trial) -> str | None:
    if not _positive(trial.wall_s) or not _positive(trial.started_unix_s):
        return "its start or duration is not a positive, finite time"
    if trial.peak_concurrency < 1:
        return "its peak concurrency is not positive"
    for sample in trial.samples:
        for label, value in (("time to first token", sample.ttft_s), ("latency", sample.latency_s)):
            # JSON has no NaN: it is stored as null. Both read the same, before and after a file.
            if value is None or not math.isfinite(value):
                if sample.error is None:
                    return f"a {label} is missing or not a finite number"
            elif value < 0:
                return f"a {label} is negative"
    server = trial.counters.server_tpot_sum_s
    if server is not None and (not math.isfinite(server) or server < 0):
        return "the server's time per output token is not a finite, positive number"
    return None


def _no_usage(trial: Trial) -> str | None:
    missing = sum(1 for s in trial.samples if s.error is None and (s.output_tokens is None or s.output_tokens < 1))
    return f"usage is missing for {missing} requests that succeeded" if missing else None


def _clock(point: OperatingPoint, trial: Trial) -> str | None:
    latencies = [sample.latency_s for sample in trial.samples if sample.latency_s is not None]
    latencies = [latency for latency in latencies if math.isfinite(latency)]
    for sample in trial.samples:
        if sample.ttft_s is not None and sample.latency_s is not None and sample.ttft_s > sample.latency_s:
            return "the clock jumped: a first token came after the last"
    if latencies and max(latencies) > trial.wall_s * (1 + CLOCK_TOLERANCE) + CLOCK_SLACK_S:
        return "the clock jumped: a request took longer than the whole trial"
    total = sum(latencies)
    if total > trial.wall_s * trial.peak_concurrency * (1 + CLOCK_TOLERANCE) + CLOCK_SLACK_S:
        return "the clock jumped: the requests took longer together than the trial had room for"
    no_errors = all(sample.error is None for sample in trial.samples)
    # In an open loop the client waits for the next arrival: what is left over is time after the last one.
    waited = max((point.arrival_s(i) or 0.0 for i in range(len(trial.samples))), default=0.0)
    if no_errors and trial.wall_s > waited + IDLE_FACTOR * total + IDLE_SLACK_S:
        return "the clock jumped, or the client stalled: the trial lasted far longer than its requests"
    return None


def _counters(trial: Trial) -> str | None:
    counters = trial.counters
    numbers = (
        counters.drafts,
        counters.draft_tokens,
        counters.accepted_tokens,
        counters.generation_tokens,
        counters.prompt_tokens,
    )
    if min(*numbers, counters.requests, counters.preemptions, *counters.accepted_per_position, 0) < 0:
        return "the server was replaced during the trial: its counters ran backwards"
    if counters.accepted_tokens > counters.draft_tokens > 0:
        return "the counters are inconsistent: more tokens accepted than drafted"
    if not counters.requests and not counters.generation_tokens:
        return None
    good = [sample for sample in trial.samples if sample.error is None]
    if counters.requests > len(trial.samples):
        return f"foreign traffic: the server counted {counters.requests} requests, the client sent {len(trial.samples)}"
    if counters.requests and counters.requests < len(good):
        return f"the server was replaced during the trial: it counted {counters.requests} of {len(good)} answers"
    return _tokens(counters.generation_tokens, good, failed=len(trial.samples) - len(good))


def _tokens(counted: int, good: Sequence[RequestSample], failed: int) -> str | None:
    received = sum(sample.output_tokens or 0 for sample in good)
    slack = TOKEN_TOLERANCE * received
    if counted > received + slack and not failed:
        return f"foreign traffic: the server generated {counted} tokens, the client received {received}"
    if counted < received - slack:
        return f"the server was replaced during the trial: it counted {counted} of {received} tokens"
    return None


def _across_arms(plan: ComparisonPlan, checked: Sequence[Trial]) -> list[Trial]:
    """Second pass: what only shows when the trials of one block are laid beside each other."""
    blocks: dict[tuple[str, int], list[Trial]] = {}
    for trial in checked:
        if trial.invalid is None:
            blocks.setdefault((trial.point, trial.block), []).append(trial)
    faults: dict[int, str] = {}
    for together in blocks.values():
        faults.update(_replaced(together))
        if plan.schema_ == SECOND:
            faults.update(_asked_twice(together))
            faults.update(_other_lengths(plan.baseline, together))
        else:
            faults.update(_other_prompts(plan.baseline, together))
        faults.update(_one_server_for_two(together))
    return [
        trial.model_copy(update={"invalid": faults[id(trial)]}) if id(trial) in faults else trial for trial in checked
    ]


def _replaced(together: Sequence[Trial]) -> dict[int, str]:
    """An arm must keep its server for a whole block, whatever traffic it is given. A/A twins have names of their own."""
    starts: dict[str, set[str]] = {}
    for trial in together:
        if trial.traffic != "aa":
            starts.setdefault(trial.arm, set()).add(trial.engine_start_id)
    reason = "the server was replaced during the block: two starts of one arm"
    return {id(t): reason for t in together if t.traffic != "aa" and len(starts[t.arm]) > 1}


def _asked_twice(together: Sequence[Trial]) -> dict[int, str]:
    """A prompt counts once per arm and block: of two visits that asked it, the later one is not used."""
    faults: dict[int, str] = {}
    seen: dict[tuple[str, str], set[str]] = {}
    for trial in together:
        prompt_ids = {sample.prompt_id for sample in trial.samples}
        known = seen.setdefault((trial.arm, trial.traffic), set())
        if prompt_ids & known:
            faults[id(trial)] = "a prompt of it was measured in another visit to this arm in the same block"
        else:
            known |= prompt_ids
    return faults


def _other_lengths(baseline: str, together: Sequence[Trial]) -> dict[int, str]:
    """Under one id every arm must have been given the same number of tokens as the baseline."""
    lengths: dict[tuple[str, str], int] = {}
    for trial in together:
        if trial.arm == baseline:
            for sample in trial.samples:
                if sample.prompt_tokens is not None:
                    lengths[trial.traffic, sample.prompt_id] = sample.prompt_tokens
    faults = {}
    for trial in together:
        kind = "own" if trial.traffic == "aa" else trial.traffic
        for sample in trial.samples:
            known = lengths.get((kind, sample.prompt_id))
            if None not in (known, sample.prompt_tokens) and known != sample.prompt_tokens:
                faults[id(trial)] = "its prompts have other lengths than the baseline's under the same ids"
    return faults


def _other_prompts(baseline: str, together: Sequence[Trial]) -> dict[int, str]:
    """Every arm must be given the baseline's prompts: the same ids, and under each id the same number of tokens."""
    faults = {}
    for traffic in ("own", "aa", "general"):
        rows = [trial for trial in together if trial.traffic == traffic]
        expected = next((_prompts(trial) for trial in rows if base_arm(trial.arm) == baseline), None)
        for trial in rows:
            if expected is None:
                continue
            prompts_asked = _prompts(trial)
            if prompts_asked.keys() != expected.keys():
                faults[id(trial)] = "its prompts are not those of the baseline in this block"
            elif any(
                None not in (prompts_asked[p], expected[p]) and prompts_asked[p] != expected[p] for p in prompts_asked
            ):
                faults[id(trial)] = "its prompts have other lengths than the baseline's under the same ids"
    return faults


def _prompts(trial: Trial) -> dict[str, int | None]:
    return {sample.prompt_id: sample.prompt_tokens for sample in trial.samples}


def _one_server_for_two(together: Sequence[Trial]) -> dict[int, str]:
    users: dict[str, set[str]] = {}
    for trial in together:
        users.setdefault(trial.engine_start_id, set()).add(base_arm(trial.arm))
    reason = "one server start was measured as two arms"
    return {id(trial): reason for trial in together if len(users[trial.engine_start_id]) > 1}


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
