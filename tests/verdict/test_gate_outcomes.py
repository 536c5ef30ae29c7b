"""Every way a comparison can end, told with servers whose true speed is known."""

from __future__ import annotations

import random

import pytest
from campaign import C1, CANDIDATE, NGRAM, NO_SPEC, STANDING, World, plan_of

from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Arm, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest

EQUAL = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.045}
FAST = {**EQUAL, "tailored": 0.0265}
SLIGHTLY = {**EQUAL, "tailored": 0.045 / 1.05}


def test_a_large_gain_wins_after_three_blocks() -> None:
    decision = World(plan_of(), FAST).decide(3)
    assert (decision.outcome, decision.tier, decision.winner) == ("WIN", "verdict", "tailored")
    assert not decision.need_more_blocks
    pair = next(p for p in decision.pairs if p.candidate == "tailored")
    assert pair.speedup is not None
    assert pair.speedup.low > pair.min_speedup == pytest.approx(1.015)
    assert all(guard.passed for guard in pair.guards)
    assert len(pair.block_ratios) == 3
    assert "1.686x" in decision.reason
    assert "standing" in decision.reason
    assert decision.reason.count("\n") == 0
    assert decision.reason.endswith(".")


@pytest.mark.parametrize("blocks", [1, 2])
def test_too_few_blocks_never_win_however_large_the_gain(blocks: int) -> None:
    decision = World(plan_of(), FAST, block_noise=0.0001).decide(blocks)
    assert (decision.outcome, decision.tier, decision.winner) == ("INCONCLUSIVE", "draft", None)
    assert decision.need_more_blocks
    assert "fewer than 3 blocks" in decision.reason


def test_a_small_gain_asks_for_more_blocks_and_then_wins() -> None:
    world = World(plan_of(), SLIGHTLY)
    early, late = world.decide(3), world.decide(8)
    assert (early.outcome, early.need_more_blocks) == ("INCONCLUSIVE", True)
    assert (late.outcome, late.need_more_blocks, late.tier) == ("WIN", False, "verdict")


def test_an_equal_draft_loses_because_no_gain_worth_claiming_is_left() -> None:
    decision = World(plan_of(), EQUAL).decide(8)
    assert (decision.outcome, decision.winner, decision.need_more_blocks) == ("LOSS", None, False)
    assert "worth having" in decision.reason


def test_a_machine_too_noisy_to_show_a_gain_is_no_evidence_against_the_draft() -> None:
    def uneven(trial: Trial) -> Trial:
        """The twins of the baseline differ much, the arms themselves little."""
        if trial.traffic != "aa":
            return trial
        factor = 1.0 + 0.25 * (trial.block % 3) * (1 if trial.arm.endswith("a") else -1)
        samples = tuple(
            s.model_copy(update={"latency_s": (s.ttft_s or 0.0) + ((s.latency_s or 0.0) - (s.ttft_s or 0.0)) * factor})
            for s in trial.samples
        )
        return trial.model_copy(update={"samples": samples})

    tpot = {"standing": 0.045, "no-spec": 0.045, "tailored": 0.041}
    quiet = World(plan_of(), tpot, aa=True).decide(8)
    noisy = World(plan_of(), tpot, aa=True, change=uneven).decide(8)
    assert (quiet.outcome, noisy.outcome) == ("WIN", "INCONCLUSIVE")
    assert "chance is not excluded" in noisy.reason
    slight = World(plan_of(), tpot | {"tailored": 0.044}, aa=True, change=uneven).decide(8)
    assert slight.outcome == "INCONCLUSIVE"
    assert "hides any gain" in slight.reason


def test_a_slower_draft_loses() -> None:
    decision = World(plan_of(), {**EQUAL, "tailored": 0.050}).decide(8)
    assert decision.outcome == "LOSS"


def test_noise_that_never_settles_ends_at_the_preset_limit() -> None:
    decision = World(plan_of(), SLIGHTLY, block_noise=0.25).decide(8)
    assert (decision.outcome, decision.need_more_blocks) == ("INCONCLUSIVE", False)


def test_blocks_beyond_the_preset_limit_do_not_count() -> None:
    world = World(plan_of(), SLIGHTLY)
    assert world.decide(12).pairs == world.decide(8).pairs


def test_the_order_of_the_trials_changes_nothing() -> None:
    world = World(plan_of(), FAST, aa=True)
    trials = world.trials(4)
    facts = world.facts(trials)
    mixed = random.Random(1).sample(trials, len(trials))
    first, second = (decide(world.plan, t, facts, samples_sha256=bundle_digest(t)) for t in (trials, mixed))
    assert first == second
    assert Decision.model_validate_json(first.model_dump_json()) == first


def test_no_speculation_wins_where_the_standing_draft_is_worse_than_nothing() -> None:
    decision = World(plan_of(), {"standing": 0.060, "no-spec": 0.040, "tailored": 0.050}).decide(4)
    assert (decision.outcome, decision.winner) == ("WIN", "no-spec")
    tailored = next(p for p in decision.pairs if p.candidate == "tailored")
    assert tailored.outcome == "LOSS"
    assert "without speculation" in tailored.reason
    assert "tailored" in decision.reason


def test_a_draft_slower_than_nothing_is_no_win_even_if_nothing_cannot_win() -> None:
    def crowd_out(trial):  # type: ignore[no-untyped-def]
        return trial.model_copy(update={"kv_tokens": 5_000}) if trial.arm == "no-spec" else trial

    world = World(plan_of(), {"standing": 0.060, "no-spec": 0.040, "tailored": 0.050}, change=crowd_out)
    decision = world.decide(4)
    assert (decision.outcome, decision.winner) == ("LOSS", None)
    assert any("turning speculation off is the better proposal" in note for note in decision.notes)


def test_the_faster_of_two_winners_is_promoted() -> None:
    plan = plan_of(STANDING, NO_SPEC, CANDIDATE, NGRAM)
    decision = World(plan, {**FAST, "ngram": 0.020}, acceptance=3.5).decide(4)
    assert [p.outcome for p in decision.pairs if p.candidate != "no-spec"] == ["WIN", "WIN"]
    assert decision.winner == "ngram"


def test_without_any_speculation_serving_the_baseline_is_no_spec() -> None:
    plan = plan_of(NO_SPEC, CANDIDATE, baseline="no-spec")
    decision = World(plan, {"no-spec": 0.045, "tailored": 0.0265}).decide(3)
    assert (decision.outcome, decision.tier, decision.winner) == ("WIN", "verdict", "tailored")


def test_several_candidates_share_the_allowed_error() -> None:
    rivals = [CANDIDATE.model_copy(update={"name": f"rival{i}"}) for i in range(3)]
    speeds = {**SLIGHTLY, **{f"rival{i}": 0.045 for i in range(3)}}
    alone = World(plan_of(STANDING, CANDIDATE), speeds).decide(8)
    crowd = World(plan_of(STANDING, CANDIDATE, *rivals), speeds).decide(8)
    widths = [
        pair.speedup.high - pair.speedup.low
        for decision in (alone, crowd)
        for pair in decision.pairs
        if pair.candidate == "tailored" and pair.speedup
    ]
    assert widths[1] > 1.2 * widths[0]


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        ({"present": False, "drafts": 0, "draft_tokens": 0, "accepted_tokens": 0}, "counted no drafts"),
        ({"accepted_tokens": 0}, "no drafted token was accepted"),
    ],
)
def test_a_gain_without_acceptance_is_suspect(counters: dict[str, int], words: str) -> None:
    def change(trial):  # type: ignore[no-untyped-def]
        if trial.arm != "tailored":
            return trial
        return trial.model_copy(update={"counters": trial.counters.model_copy(update=counters)})

    decision = World(plan_of(), FAST, change=change).decide(3)
    assert (decision.outcome, decision.winner, decision.need_more_blocks) == ("INCONCLUSIVE", None, False)
    assert words in decision.reason


def test_a_gain_beyond_the_acceptance_length_is_suspect() -> None:
    plan = plan_of(NO_SPEC, CANDIDATE, baseline="no-spec")
    decision = World(plan, {"no-spec": 0.060, "tailored": 0.020}, acceptance=1.5).decide(3)
    assert decision.outcome == "INCONCLUSIVE"
    assert "acceptance length of 1.50" in decision.reason


def test_a_campaign_whose_blocks_keep_failing_ends() -> None:
    def crash(trial):  # type: ignore[no-untyped-def]
        return trial.model_copy(update={"samples": trial.samples[:5]}) if trial.arm == "tailored" else trial

    world = World(plan_of(), FAST, change=crash)
    assert world.decide(4).need_more_blocks
    decision = world.decide(16)
    assert (decision.outcome, decision.need_more_blocks) == ("INCONCLUSIVE", False)
    assert "no block in which both gave times to compare" in decision.reason


def test_only_the_primary_point_decides_and_the_others_are_told() -> None:
    busy = OperatingPoint(name="c8", concurrency=8)
    world = World(plan_of(points=(busy, C1)), FAST)
    trials = [
        t.model_copy(
            update={"samples": tuple(s.model_copy(update={"latency_s": 3.5}) for s in t.samples), "wall_s": 90.0}
        )
        if (t.point, t.arm) == ("c8", "tailored")
        else t
        for t in world.trials(4)
    ]
    decision = decide(world.plan, trials, world.facts(trials), samples_sha256="x")
    assert (decision.outcome, decision.primary_point) == ("WIN", "c1")
    assert any(note.startswith("at c8, not primary: tailored") for note in decision.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": ()}, "no operating point"),
        ({"points": (C1, C1.model_copy(update={"name": "other"}))}, "more than one"),
        ({"baseline": "gone"}, "no arm 'gone'"),
        ({"arms": (STANDING,)}, "with nothing"),
        ({"arms": (STANDING, STANDING)}, "unique"),
        ({"arms": (STANDING, Arm(name="a#b", role="candidate"))}, "unique"),
    ],
)
def test_a_plan_that_cannot_be_judged_is_refused(change: dict[str, object], words: str) -> None:
    plan = plan_of().model_copy(update=change)
    with pytest.raises(InputError, match=words) as caught:
        decide(plan, [], [], samples_sha256="x")
    assert caught.value.next_step


def test_the_arms_are_summed_up_over_their_valid_trials() -> None:
    def change(trial):  # type: ignore[no-untyped-def]
        told = trial.counters.model_copy(update={"decode_steps": 588, "accepted_per_position": (300, 200)})
        return trial.model_copy(update={"counters": told})

    decision = World(plan_of(), FAST, change=change).decide(3)
    tailored = next(arm for arm in decision.arms if arm.arm == "tailored")
    assert (tailored.trials, tailored.requests, tailored.errors, tailored.kv_tokens) == (3, 72, 0, 10_000)
    assert tailored.median_tpot_s == pytest.approx(0.0265, rel=0.05)
    assert tailored.server_mean_tpot_s == pytest.approx(0.0262, rel=0.05)
    assert tailored.acceptance_length == pytest.approx(2.1, rel=0.01)
    assert tailored.acceptance_by_position == pytest.approx((300 / 571, 200 / 571))
    assert tailored.tokens_per_step == pytest.approx(2.0)
    assert tailored.throughput_tok_s == pytest.approx(1200 / (24 * (0.2 + 49 * 0.0265)), rel=0.05)
    nothing = next(arm for arm in decision.arms if arm.arm == "no-spec")
    assert nothing.acceptance_length is None


def test_a_draft_whose_requests_all_fail_loses_although_it_gave_no_times() -> None:
    def dies(trial):  # type: ignore[no-untyped-def]
        if trial.arm != "tailored":
            return trial
        lost = {"error": "connection refused", "ttft_s": None, "latency_s": None, "output_tokens": None}
        none = type(trial.counters)()
        return trial.model_copy(
            update={"samples": tuple(s.model_copy(update=lost) for s in trial.samples), "counters": none}
        )

    world = World(plan_of(), FAST, change=dies)
    assert world.decide(2).outcome == "INCONCLUSIVE"
    decision = world.decide(3)
    assert (decision.outcome, decision.need_more_blocks) == ("LOSS", False)
    assert "72 failed requests in 72" in decision.reason


def test_a_block_in_which_most_requests_fail_counts_for_the_errors_though_not_for_the_ratio() -> None:
    def change(trial):  # type: ignore[no-untyped-def]
        if (trial.arm, trial.block, trial.traffic) != ("tailored", 1, "own"):
            return trial
        lost = [s.model_copy(update={"error": "timeout"}) if i else s for i, s in enumerate(trial.samples)]
        return trial.model_copy(update={"samples": tuple(lost)})

    decision = World(plan_of(), FAST, change=change).decide(4)
    pair = next(p for p in decision.pairs if p.candidate == "tailored")
    assert (pair.blocks, pair.outcome) == (3, "LOSS")
    assert "23 failed requests in 96" in pair.reason
