"""What else tier `verdict` promises: the same model, the same answers, the same clocks and caches. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from draftsmith.contract.measure import Arm, ComparisonPlan, Trial
from draftsmith.verdict.divergence import divergences, sentence

CLOCK = "gpu_sm_clock_mhz"
CLOCKS_APART = 0.10
CACHE_APART = 0.10  # of the prompt tokens
LOSSY_METHODS = ("fly", "synthetic", "typical")
THRESHOLDS = ("speculative-accept-threshold-single", "speculative-accept-threshold-acc")  # SGLang: below 1 is lossy
POSTERIOR = ("posterior_threshold", "posterior_alpha")  # typical acceptance


def conditions(plan: ComparisonPlan, arms: Sequence[Arm], trials: Sequence[Trial]) -> tuple[str, ...]:
    """Why the tier is only `draft`; empty if nothing is. `arms`: the compared ones, baseline first. `trials`: valid ones."""
    own = [trial for trial in trials if trial.traffic == "own"]
    return (
        *(text for arm in arms for text in lossy(arm)),
        *_models(arms),
        *_trained_on(plan),
        *_unread(plan, arms),
        *_answers(plan, arms, trials),
        *_apart(
            arms, own, "the GPUs' clock", _clock, lambda base, arm: abs(arm / base - 1) > CLOCKS_APART, "{:.0f} MHz"
        ),
        *_apart(
            arms,
            own,
            "the prefix cache",
            _cached,
            lambda base, arm: abs(arm - base) > CACHE_APART,
            "{:.0%} of the prompts",
        ),
    )


def lossy(arm: Arm) -> Iterator[str]:
    """One sentence for each setting by which drafted tokens are accepted that the target would not have chosen."""
    for key, value in _settings(arm):
        name = key.replace("_", "-").lstrip("-")
        word = str(value).strip().strip('"').lower()
        if name in ("rejection-sample-method", "spec-decoding-acceptance-method", "acceptance-method"):
            if any(word.startswith(method) for method in LOSSY_METHODS):
                yield f"lossy verification: {arm.name} accepts drafted tokens by {name} {word}: its answers are not the target's"
        elif name in THRESHOLDS and (number := _number(word)) is not None and number < 1:
            yield f"lossy verification: {arm.name} accepts drafted tokens by {name} {number:g}: its answers are not the target's"
        elif name in [key.replace("_", "-") for key in POSTERIOR] and value is not None:
            yield f"lossy verification: {arm.name} sets {name}: its answers are not the target's"


def out_of_order(trials: Sequence[Trial], slack_s: float = 60.0) -> list[str]:
    """Blocks that began before the one before them by more than a clock's correction (`slack_s`)."""
    began: dict[int, float] = {}
    for trial in trials:
        if trial.traffic == "own" and trial.samples:
            began[trial.block] = min(trial.started_unix_s, began.get(trial.block, trial.started_unix_s))
    return [
        f"samples.jsonl: block {late} began {began[early] - began[late]:.0f} s before block {early}: the order in time is not kept"
        for early, late in pairwise(sorted(began))
        if began[late] < began[early] - slack_s
    ]


def _settings(arm: Arm) -> Iterator[tuple[str, Any]]:
    """Names and values: of the speculative config, of the flags, of a whole command and the JSON in it."""
    yield from (arm.spec_config or {}).items()
    words = [*arm.flags, *(arm.command or ())]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if not word.startswith("-"):
            continue
        name, _, value = word.partition("=")
        value = value or following
        yield name, value
        if value.lstrip().startswith("{"):
            try:
                inside = json.loads(value)
            except (ValueError, RecursionError):
                continue
            yield from inside.items() if isinstance(inside, dict) else ()


def _trained_on(plan: ComparisonPlan) -> Iterator[str]:
    if plan.trained_on:
        yield f"{plan.trained_on} of the {plan.n_prompts} held-out prompts are rows that the draft was trained on"


def _unread(plan: ComparisonPlan, arms: Sequence[Arm]) -> Iterator[str]:
    """Plans of before there was a journal do not say."""
    of_target = [arm.name for arm in arms if arm.command is None and arm.endpoint is None]
    if plan.journal_sha256 is not None and plan.target_sha256 is None and of_target:
        yield "the target's weights were not read, so which model was served rests on its folder's name"


def _models(arms: Sequence[Arm]) -> Iterator[str]:
    """Whole commands name the model that they serve."""
    named = {arm.name: model for arm in arms if (model := _model(arm.command))}
    if len(set(named.values())) > 1:
        yield "not the same model: " + ", ".join(f"{arm} serves {model}" for arm, model in named.items())


def _model(command: tuple[str, ...] | None) -> str | None:
    words = command or ()
    for word, following in zip(words, (*words[1:], ""), strict=False):
        name, _, value = word.partition("=")
        if name in ("--model", "--model-path"):
            return value or following
        if word == "serve" and following and not following.startswith("-"):
            return following
    return None


def _answers(plan: ComparisonPlan, arms: Sequence[Arm], trials: Sequence[Trial]) -> Iterator[str]:
    names, margin = {arm.name for arm in arms}, plan.thresholds.answers_margin
    for divergence in divergences(plan, trials):
        if divergence.arm in names and divergence.beyond_noise and divergence.share > margin:
            yield f"{divergence.arm} answers something else than {plan.baseline} at {divergence.point}: {sentence(divergence)}"


def _apart(
    arms: Sequence[Arm],
    own: Sequence[Trial],
    title: str,
    of: Callable[[Sequence[Trial]], float | None],
    differs: Callable[[float, float], bool],
    form: str,
) -> Iterator[str]:
    values = {arm.name: of([trial for trial in own if trial.arm == arm.name]) for arm in arms}
    base = values[arms[0].name]
    for name, value in values.items():
        if base is not None and value is not None and differs(base, value):
            yield f"{title} was not the same: {form.format(base)} for {arms[0].name}, {form.format(value)} for {name}"


def _clock(trials: Sequence[Trial]) -> float | None:
    clocks = [float(value) for t in trials if isinstance(value := t.hardware.get(CLOCK), int | float) and value > 0]
    return statistics.fmean(clocks) if clocks else None


def _cached(trials: Sequence[Trial]) -> float | None:
    """Share of the prompt tokens that came from the prefix cache; None if no engine said."""
    samples = [s for t in trials for s in t.samples if s.cached_tokens is not None and s.prompt_tokens]
    tokens = sum(s.prompt_tokens or 0 for s in samples)
    return sum(s.cached_tokens or 0 for s in samples) / tokens if tokens else None


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
