"""Bad trials are set aside with their reason, and never averaged in."""

from __future__ import annotations

import math
from typing import Any

import pytest
from campaign import PROMPTS, World, plan_of

from draftsmith.contract.measure import Trial
from draftsmith.verdict.samples import bundle_digest
from draftsmith.verdict.validate import inspect_trials, valid_trials

FAST = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.0265}


def first(**update: Any) -> Any:
    """Change the first request of the candidate's trial in block 1."""
    return lambda t: {"samples": (t.samples[0].model_copy(update=update), *t.samples[1:])}


def counters(**update: Any) -> Any:
    return lambda t: {"counters": t.counters.model_copy(update=update)}


def plain(**update: Any) -> Any:
    return lambda t: update


BAD = {
    "NaN first token": (first(ttft_s=math.nan), "missing or not a finite number"),
    "infinite latency": (first(latency_s=math.inf), "missing or not a finite number"),
    "no latency": (first(latency_s=None), "missing or not a finite number"),
    "negative first token": (first(ttft_s=-0.1), "negative"),
    "negative latency": (first(latency_s=-0.1), "a latency is negative"),
    "infinite first token": (first(ttft_s=math.inf), "a time to first token is missing or not a finite number"),
    "negative server time": (counters(server_tpot_sum_s=-1.0), "server's time per output token"),
    "NaN duration": (plain(wall_s=math.nan), "not a positive, finite time"),
    "no duration": (plain(wall_s=0.0), "not a positive, finite time"),
    "nobody in flight": (plain(peak_concurrency=0), "peak concurrency"),
    "NaN server time": (counters(server_tpot_sum_s=math.nan), "server's time per output token"),
    "missing usage": (first(output_tokens=None), "usage is missing for 1 requests"),
    "cut off": (lambda t: {"samples": t.samples[:10]}, f"cut off: 10 of {PROMPTS}"),
    "empty arm": (plain(samples=()), "the arm is empty"),
    "too many": (
        lambda t: {"samples": (*t.samples, t.samples[0].model_copy(update={"prompt_id": "extra"}))},
        f"25 requests were recorded where the plan has {PROMPTS}",
    ),
    "prompt twice": (first(prompt_id="p1"), "more than once"),
    "other prompts": (first(prompt_id="other"), "not those of the baseline"),
    "other lengths": (first(prompt_tokens=999), "other lengths"),
    "foreign requests": (counters(requests=PROMPTS + 3), "foreign traffic: the server counted 27 requests"),
    "foreign tokens": (counters(generation_tokens=5000), "foreign traffic: the server generated 5000 tokens"),
    "counters backwards": (counters(drafts=-4), "counters ran backwards"),
    "counters restarted": (counters(requests=3), "replaced during the trial: it counted 3 of 24 answers"),
    "tokens lost": (counters(generation_tokens=30), "replaced during the trial: it counted 30 of 1200 tokens"),
    "accepted undrafted": (counters(draft_tokens=1), "more tokens accepted than drafted"),
    "token after the end": (first(ttft_s=1000.0), "first token came after the last"),
    "long request": (first(latency_s=1000.0), "longer than the whole trial"),
    "wall too short": (lambda t: {"wall_s": t.wall_s / 2}, "than the trial had room for"),
    "wall too long": (lambda t: {"wall_s": t.wall_s * 30}, "far longer than its requests"),
    "another plan": (plain(plan_sha256="f" * 64), "another plan"),
    "unknown arm": (plain(arm="stranger"), "no arm stranger"),
    "unknown point": (plain(point="c99"), "no operating point c99"),
    "one server, two arms": (plain(engine_start_id="standing@1"), "one server start was measured as two arms"),
    "marked by the runner": (plain(invalid="the engine died"), "the engine died"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_trial_is_set_aside_with_its_reason(case: str) -> None:
    spoil, words = BAD[case]

    def change(trial: Trial) -> Trial:
        target = (trial.arm, trial.block, trial.traffic) == ("tailored", 1, "own")
        return trial.model_copy(update=spoil(trial)) if target else trial

    world = World(plan_of(), FAST, change=change)
    decision = world.decide(4)
    notes = [note for note in decision.notes if "c1/1/tailored/own was set aside" in note]
    assert len(notes) == 1
    assert words in notes[0]
    pair = next(p for p in decision.pairs if p.candidate == "tailored")
    assert pair.blocks == 3
    clean = World(plan_of(), FAST, change=lambda t: None if (t.arm, t.block) == ("tailored", 1) else t).decide(4)
    unspoiled = next(p for p in clean.pairs if p.candidate == "tailored")
    assert (pair.block_ratios, pair.speedup) == (unspoiled.block_ratios, unspoiled.speedup)


def test_clean_trials_stay() -> None:
    world = World(plan_of(), FAST, aa=True)
    trials = world.trials(2)
    good, notes = valid_trials(world.plan, trials)
    assert (len(good), notes) == (len(trials), ())


def test_a_server_replaced_during_the_block_voids_the_arm_in_that_block() -> None:
    def change(trial: Trial) -> Trial:
        swapped = (trial.arm, trial.block, trial.traffic) == ("tailored", 0, "general")
        return trial.model_copy(update={"engine_start_id": "tailored@again"}) if swapped else trial

    world = World(plan_of(), FAST, change=change)
    _, notes = valid_trials(world.plan, world.trials(2))
    assert len(notes) == 2
    assert all("replaced during the block" in note for note in notes)


def test_one_id_for_two_different_trials_voids_both_but_a_repeated_line_is_one_trial() -> None:
    world = World(plan_of(), FAST)
    trials = world.trials(1)
    clash = trials[0].model_copy(update={"wall_s": trials[0].wall_s + 0.2})
    assert [t.invalid is None for t in inspect_trials(world.plan, [trials[0], clash])] == [False, False]
    assert len(inspect_trials(world.plan, [*trials, trials[0]])) == len(trials)
    assert valid_trials(world.plan, [*trials, trials[0]])[1] == ()


def test_failed_requests_count_as_errors_and_do_not_void_the_trial() -> None:
    def change(trial: Trial) -> Trial:
        lost = trial.samples[0].model_copy(update={"error": "timeout", "latency_s": None, "ttft_s": None})
        return trial.model_copy(update={"samples": (lost, *trial.samples[1:])})

    world = World(plan_of(), FAST, change=change)
    good, notes = valid_trials(world.plan, world.trials(1))
    assert notes == ()
    assert all(trial.samples[0].tpot_s is None for trial in good)


def test_a_server_without_counters_is_not_accused() -> None:
    def change(trial: Trial) -> Trial:
        return trial.model_copy(update={"counters": type(trial.counters)()})

    world = World(plan_of(), FAST, change=change)
    assert valid_trials(world.plan, world.trials(1))[1] == ()


def test_the_digest_of_the_evidence_ignores_order_and_nothing_else() -> None:
    trials = World(plan_of(), FAST).trials(2)
    whole = bundle_digest(trials)
    assert bundle_digest(reversed(trials)) == whole
    assert bundle_digest(trials[1:]) != whole
    assert bundle_digest([*trials, trials[0]]) != whole
    slower = trials[0].samples[0].model_copy(update={"latency_s": 2.0})
    edited = trials[0].model_copy(update={"samples": (slower, *trials[0].samples[1:])})
    assert bundle_digest([edited, *trials[1:]]) != whole


def test_broken_numbers_read_the_same_before_and_after_a_file() -> None:
    world = World(plan_of(), FAST)
    trial = world.trials(1)[0]
    broken = trial.model_copy(update=first(ttft_s=math.nan)(trial))
    again = Trial.model_validate_json(broken.model_dump_json())
    assert bundle_digest([broken]) == bundle_digest([again])
    assert inspect_trials(world.plan, [broken])[0].invalid == inspect_trials(world.plan, [again])[0].invalid
