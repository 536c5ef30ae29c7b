"""The second edition of the gate: prompts, starts and the twin are in the error, and the plan says what is compared."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from draftsmith.contract.base import digest
from draftsmith.contract.compare_config import CompareConfig
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import ComparisonPlan, OperatingPoint, RequestSample, Thresholds, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.verdict.decide import decide
from draftsmith.verdict.measures import BlockPair
from draftsmith.verdict.rule import Look, Rule, corrected, looks, shares
from draftsmith.verdict.spread import bounded, starts_needed

Change = Callable[[Trial], Trial | None]


class Story:
    """One simulated campaign, block after block, with a say in what is recorded."""

    def __init__(self, worlds: ModuleType, seed: int = 0, **world: Any) -> None:
        self.lab = worlds.Lab(worlds.World("story", **world), np.random.default_rng(seed))
        self.trials: list[Trial] = []

    def blocks(self, number: int, change: Change = lambda trial: trial) -> Story:
        for _ in range(number):
            self.trials += [kept for trial in self.lab.block() if (kept := change(trial)) is not None]
        return self

    def start(self) -> Story:
        self.lab.restart()
        return self

    def decide(self, **plan: Any) -> Decision:
        frozen: ComparisonPlan = self.lab.plan.model_copy(update=plan)
        sha = digest(frozen)
        trials = [trial.model_copy(update={"plan_sha256": sha}) for trial in self.trials]
        return decide(frozen, trials, self.lab.facts, samples_sha256="x")


def test_a_large_gain_survives_the_worst_start_and_ends_after_two(worlds: ModuleType) -> None:
    story = Story(worlds, gain=1.5, noise=0.01).blocks(3)
    one = story.decide()
    assert (one.outcome, one.need) == ("INCONCLUSIVE", "start")
    assert "one start of each server says little of the next" in one.reason
    decision = story.start().blocks(1).decide()
    assert (decision.outcome, decision.tier, decision.need, decision.winner) == ("WIN", "verdict", "done", "tailored")
    pair = decision.pairs[0]
    assert pair.speedup
    assert pair.these_starts
    assert (pair.measure, pair.starts, pair.prompts) == ("cost", 2, 32)
    assert pair.speedup.low < 1.5 < pair.these_starts.low
    assert "32 prompts and 2 starts" in decision.reason


@pytest.mark.parametrize(("second", "doubt"), [(1.49, None), (1.2, "starts_differ")])
def test_starts_that_do_not_agree_carry_no_claim(second: float, doubt: str | None) -> None:
    """A lucky start may lie beyond the largest effect on record: with few of them they have to agree, too."""
    rule = Rule.of(Thresholds())
    shown = [(1.49, "a"), (1.5, "a"), (1.51, "a"), (second, "b"), (second, "b")]
    found = rule.estimate([BlockPair(n, log, (start,), {str(n): 0.0}) for n, (log, start) in enumerate(shown)])
    assert found is not None
    assert rule.doubt(found) == doubt
    assert rule.settle(found, Look(5, 0.1, final=False)).call == ("open" if doubt else "faster")


@pytest.mark.parametrize(("above", "of", "chance"), [(4, 4, 0.0625), (7, 9, 0.0898), (8, 9, 0.0195), (17, 24, 0.032)])
def test_blocks_above_the_bar_are_counted_exactly(above: int, of: int, chance: float) -> None:
    pairs = [BlockPair(n, 0.1 if n < above else 0.0, (f"s{n}",), {str(n): 0.0}) for n in range(of)]
    found = Rule.of(Thresholds()).estimate(pairs)
    assert found is not None
    assert found.share_by_chance(0.015) == pytest.approx(chance, abs=1e-4)


def test_a_smaller_gain_has_to_be_seen_on_other_starts_too(worlds: ModuleType) -> None:
    story = Story(worlds, gain=0.5).blocks(4)
    first = story.decide()
    assert (first.outcome, first.need) == ("INCONCLUSIVE", "start")
    assert "worst start effect on record (1.65x)" in first.reason
    seen = [first.need]
    while (decision := story.decide()).need != "done":
        seen.append(decision.need)
        (story.start() if decision.need == "start" else story).blocks(1)
    assert (decision.outcome, decision.tier) == ("WIN", "verdict")
    assert decision.pairs[0].starts == starts_needed(0.01)
    assert "start" in seen


def test_servers_that_are_never_started_anew_speak_for_themselves_alone(worlds: ModuleType) -> None:
    decision = Story(worlds, gain=0.5).blocks(5).decide(restarts=False)
    assert (decision.outcome, decision.tier) == ("WIN", "draft")
    assert any("for these servers alone" in reason for reason in decision.tier_reasons)


def test_blocks_between_two_looks_wait_for_the_next(worlds: ModuleType) -> None:
    assert looks(3, 24) == (3, 4, 5, 7, 9, 12, 15, 19, 24)
    assert sum(shares(3, 24).values()) == pytest.approx(1)
    story = Story(worlds, gain=0.2).blocks(5)
    five, six = story.decide(), story.blocks(1).decide()
    assert (five.pairs[0].blocks, six.pairs[0].blocks) == (5, 5)
    assert five.pairs[0].speedup == six.pairs[0].speedup


def test_prompts_that_come_again_say_nothing_new_of_the_traffic(worlds: ModuleType) -> None:
    few = Story(worlds, tau=0.3, held_out=10, seed=4)
    many = Story(worlds, tau=0.3, held_out=400, seed=4)
    widths = []
    for story in (few, many):
        for _ in range(8):
            story.start().blocks(2)
        pair = story.decide().pairs[0]
        assert pair.speedup
        widths.append((pair.prompts, pair.speedup.high / pair.speedup.low))
    assert [prompts for prompts, _ in widths] == [10, 120]
    assert widths[0][1] > 1.5 * widths[1][1]


@pytest.mark.parametrize(("held_out", "outcome"), [(3, "INCONCLUSIVE"), (10, "WIN"), (10_000, "WIN")])
def test_held_out_sets_of_any_size_are_decided(worlds: ModuleType, held_out: int, outcome: str) -> None:
    story = Story(worlds, gain=1.0, tau=0.2, held_out=held_out, seed=2).blocks(3)
    while (decision := story.decide()).need != "done" and story.lab.blocks < 24:
        (story.start() if decision.need == "start" else story).blocks(1)
    assert decision.outcome == outcome
    assert f"{min(held_out, 8 * decision.pairs[0].blocks)} prompts" in decision.reason


def test_the_second_pass_of_the_baseline_is_required_and_no_veto(worlds: ModuleType) -> None:
    def without(trial: Trial) -> Trial | None:
        return None if trial.traffic == "aa" else trial

    story = Story(worlds, gain=1.5, noise=0.01).blocks(3, without)
    alone = story.start().blocks(1, without).start().blocks(1, without).decide()
    assert (alone.outcome, alone.tier) == ("WIN", "draft")
    assert any(reason.startswith("A/A is missing: 0 of 5") for reason in alone.tier_reasons)

    def busy(trial: Trial) -> Trial:
        return slowed(trial, 3.0) if trial.traffic == "aa" and trial.block == 1 else trial

    story = Story(worlds, gain=1.5).blocks(5, busy)
    for _ in range(4):
        story.start().blocks(2)
    noisy = story.decide()
    assert noisy.outcome == "WIN", noisy.reason
    assert noisy.aa_floor is not None
    assert noisy.aa_floor > 0.2


def test_a_twin_that_is_always_slower_is_no_twin(worlds: ModuleType) -> None:
    decision = (
        Story(worlds, gain=1.5).blocks(5, lambda t: slowed(t, 1.3) if t.traffic == "aa" else t).decide(restarts=False)
    )
    assert decision.tier == "draft"
    assert any("two passes of the baseline differ by" in reason for reason in decision.tier_reasons)


def test_a_twin_with_another_flag_is_not_used(worlds: ModuleType) -> None:
    def elsewhere(trial: Trial) -> Trial:
        return trial.model_copy(update={"engine_start_id": "twin@1"}) if trial.traffic == "aa" else trial

    story = Story(worlds, gain=1.5).blocks(3, elsewhere)
    fact = next(fact for arm, fact in story.lab.facts if arm == "standing")
    story.lab.facts.append(("standing#b", fact.model_copy(update={"start_id": "twin@1", "dtype": "other"})))
    decision = story.decide()
    assert decision.tier == "draft"
    assert any("is no twin of standing and was not used: dtype differs" in note for note in decision.notes)


def test_an_arm_that_dies_in_a_visit_costs_the_block_or_the_win(worlds: ModuleType) -> None:
    def spoiled(trial: Trial) -> Trial:
        if (trial.arm, trial.block, trial.traffic) != ("tailored", 1, "own"):
            return trial
        return trial.model_copy(update={"samples": trial.samples[:3], "invalid": "the server died"})

    decision = Story(worlds, gain=1.5, noise=0.01).blocks(3, spoiled).start().blocks(2, spoiled).decide()
    assert (decision.pairs[0].blocks, decision.outcome) == (4, "WIN")
    assert any("the server died" in note for note in decision.notes)

    def failing(trial: Trial) -> Trial:
        if (trial.arm, trial.traffic) != ("tailored", "own"):
            return trial
        lost = tuple(s.model_copy(update={"error": "refused"}) if i > 4 else s for i, s in enumerate(trial.samples))
        tokens = sum(s.output_tokens or 0 for s in lost if not s.error)
        told = trial.counters.model_copy(update={"generation_tokens": tokens, "requests": 5})
        return trial.model_copy(update={"samples": lost, "counters": told})

    story = Story(worlds, gain=1.0).blocks(5, failing)
    decision = story.decide()
    assert decision.outcome != "WIN"
    assert "errors" in decision.reason


def test_a_spoiled_visit_is_repeated_under_its_name(worlds: ModuleType) -> None:
    story = Story(worlds, gain=1.0).blocks(3)
    good = story.trials[0]
    story.trials.insert(0, slowed(good, 9.0).model_copy(update={"invalid": "the machine was busy"}))
    assert story.decide().pairs[0].blocks == 3
    again = good.model_copy(update={"trial_id": "another", "visit": 1})
    story.trials.append(again)
    decision = story.decide()
    assert decision.pairs[0].blocks == 3
    assert any("another visit to this arm in the same block" in note for note in decision.notes)


def test_a_clock_that_jumps_costs_the_visit(worlds: ModuleType) -> None:
    def jumped(trial: Trial) -> Trial:
        return trial.model_copy(update={"wall_s": trial.wall_s / 10}) if trial.block == 0 else trial

    decision = Story(worlds, gain=1.0).blocks(4, jumped).decide()
    assert decision.pairs[0].blocks == 3
    assert any("the clock jumped" in note for note in decision.notes)


def test_short_answers_cannot_fool_the_cost(worlds: ModuleType) -> None:
    """A quarter of the tokens at the same time per token: no gain, since every answer pays for its prefill."""

    def short(trial: Trial) -> Trial:
        if (trial.arm, trial.traffic) != ("tailored", "own"):
            return trial
        cut = tuple(
            s.model_copy(
                update={
                    "output_tokens": (n := (s.output_tokens or 0) // 4),
                    "latency_s": (s.ttft_s or 0.0) + (n - 1) * (s.tpot_s or 0.0),
                }
            )
            for s in trial.samples
        )
        told = trial.counters.model_copy(update={"generation_tokens": sum(s.output_tokens or 0 for s in cut)})
        wall = sum(s.latency_s or 0.0 for s in cut)
        return trial.model_copy(update={"samples": cut, "counters": told, "wall_s": wall + 0.01})

    decision = Story(worlds, gain=0.0).blocks(5, short).decide(restarts=False)
    assert decision.pairs[0].speedup
    assert decision.pairs[0].speedup.value < 0.95


def test_general_traffic_may_lose_what_own_traffic_saves_and_no_more(worlds: ModuleType) -> None:
    gone = Story(worlds, gain=0.2, general=1.5).blocks(5).decide(restarts=False)
    assert gone.outcome == "LOSS"
    assert "forgetting" in gone.reason
    kept = Story(worlds, gain=1.0, general=1.3).blocks(5).decide(restarts=False)
    assert kept.outcome == "WIN"
    guard = next(g for g in kept.pairs[0].guards if g.name == "forgetting")
    assert guard.limit == pytest.approx(0.5, abs=0.05)


def test_goodput_counts_requests_within_both_limits(worlds: ModuleType) -> None:
    plan = {"primary": "goodput", "slo_ttft_s": 1.0, "slo_tpot_s": 0.025, "restarts": False}
    decision = Story(worlds, gain=0.5).blocks(5).decide(**plan)
    assert decision.pairs[0].speedup
    assert decision.pairs[0].speedup.value > 1.5
    assert "requests within the latency limits" in decision.reason
    with pytest.raises(InputError, match="no latency limit"):
        Story(worlds).blocks(3).decide(primary="goodput")


def test_several_points_decide_together(worlds: ModuleType) -> None:
    points = (
        OperatingPoint(name="c1", concurrency=1, primary=True),
        OperatingPoint(name="c8", concurrency=8),
    )
    story, slow = Story(worlds, gain=1.0).blocks(5), Story(worlds, gain=-0.3).blocks(5)
    equal = Story(worlds, gain=0.01).blocks(5)

    def at_c8(trials: list[Trial]) -> list[Trial]:
        return [t.model_copy(update={"point": "c8", "trial_id": f"{t.trial_id}@c8"}) for t in trials]

    first = list(story.trials)
    plan = {"points": points, "restarts": False}
    story.trials = first + at_c8(slow.trials)
    assert story.decide(**plan).outcome == "WIN"
    decision = story.decide(**plan, deciding=("c1", "c8"))
    assert decision.outcome == "LOSS"
    assert "worse at another deciding point" in decision.reason
    story.trials = first + at_c8(equal.trials)
    assert story.decide(**plan, deciding=("c1", "c8")).outcome == "WIN"
    with pytest.raises(InputError, match="decide together"):
        story.decide(**plan, deciding=("c8", "c99"))


def test_the_published_gain_is_corrected_near_the_threshold_only() -> None:
    assert corrected(0.7, 0.05, 0.2, 0.5) == pytest.approx(0.7, abs=1e-3)
    near = corrected(0.22, 0.05, 0.2, 0.1)
    assert 0.1 <= near < 0.2
    assert corrected(0.2001, 0.05, 0.2, 0.1) == pytest.approx(0.1)


def test_few_starts_have_to_survive_the_worst_of_them() -> None:
    limits = [bounded(0.005, 0.02, 10, starts, 0.5) for starts in (1, 2, 3, 4, 8)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > 0.5
    assert limits[2] > 0.5
    assert limits[3] < 0.5
    assert [starts_needed(alpha) for alpha in (0.01, 0.0075, 0.0025)] == [4, 4, 5]


def test_a_new_plan_has_more_blocks_unless_the_user_says() -> None:
    assert CompareConfig().thresholds.max_blocks == 48
    asked = CompareConfig.model_validate({"thresholds": {"max_blocks": 8, "min_gain": 0.05}})
    again = CompareConfig.model_validate(asked.model_dump(mode="json", exclude_defaults=True))
    assert asked.thresholds.max_blocks == again.thresholds.max_blocks == 8
    assert CompareConfig.model_validate({"thresholds": {"min_gain": 0.05}}).thresholds.max_blocks == 48


def slowed(trial: Trial, factor: float) -> Trial:
    samples: tuple[RequestSample, ...] = tuple(
        s.model_copy(update={"ttft_s": (s.ttft_s or 0.0) * factor, "latency_s": (s.latency_s or 0.0) * factor})
        for s in trial.samples
    )
    told = trial.counters.model_copy(update={"server_tpot_sum_s": (trial.counters.server_tpot_sum_s or 0.0) * factor})
    return trial.model_copy(update={"samples": samples, "wall_s": trial.wall_s * factor, "counters": told})
