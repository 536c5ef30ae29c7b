"""One recommendation a concurrency, each with its numbers; where nothing is known, that is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from planned import line, made, pair

from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint
from draftsmith.contract.plan import ACTION_MEANING, DraftRecord, Plan, PointPlan, StepSample
from draftsmith.contract.profile import ExpectedAcceptance, Recommendation
from draftsmith.contract.verdict import ArmSummary, Decision, Interval, PairResult
from draftsmith.verdict.advice import Situation, point_plan
from draftsmith.verdict.break_even import CostModel
from draftsmith.verdict.learning_curve import expect
from draftsmith.verdict.plan_check import check


@pytest.fixture
def made_plan() -> Plan:
    return made(CHEAP)


CHEAP, DEAR = line(1, 1.02, 0.05), line(1, 1.6, 1.2)
NGRAM = [pair(1, 3, 1.04, method="ngram")]


def record(run: str = "r1", tokens: int = 20_000, al: float = 2.8, **changed: Any) -> DraftRecord:
    rates = (0.74, 0.59, 0.47) if al == 2.8 else ()
    values = {"run_id": run, "answer_tokens": tokens, "k": 3, "acceptance_length": al, "by_position": rates}
    return DraftRecord(**(values | {"same_traffic": True} | changed))


def replayed(method: str, tokens: float, rate: float = 0.5, k: int = 3) -> ExpectedAcceptance:
    return ExpectedAcceptance(
        method=method, num_speculative_tokens=k, acceptance_length=2.4, tokens_per_step=tokens, draft_rate=rate
    )  # type: ignore[arg-type]


def ask(samples: list[StepSample], records: list[DraftRecord] | None = None, **known: Any) -> PointPlan:
    values: dict[str, Any] = {
        "recommended": Recommendation(method="eagle3", rationale="x"),
        "expected": (),
        "acceptance": expect(records or [], 20_000, 3),
        "min_gain": 0.03,
    }
    return point_plan(CostModel(samples), samples, 1, Situation(**(values | known)))


def test_a_known_draft_that_pays_is_worth_training_with_its_best_k() -> None:
    found = ask(CHEAP, [record()])
    assert found.advice == "train"
    assert found.draft.speedup is not None
    assert found.draft.speedup > 2
    assert found.best_k == found.draft.k
    assert "expected to reach" in found.sentence
    assert found.draft.low is not None
    assert found.draft.low < found.draft.speedup


def test_with_nothing_known_the_need_is_named_and_no_k_is_chosen() -> None:
    found = ask(CHEAP)
    assert found.advice == "train"
    assert "not known beforehand" in found.sentence
    assert found.best_k is None
    assert found.draft.speedup is None
    assert found.draft.basis.startswith("nothing is known")
    assert found.k_by_acceptance["0.9"] > found.k_by_acceptance["0.4"] > 0


def test_a_step_dearer_than_full_acceptance_can_pay_leaves_nothing_to_win() -> None:
    found = ask(DEAR)
    assert found.advice == "nothing"
    assert "even full acceptance" in found.sentence
    assert all(need.per_token is None for need in found.needs)
    assert set(found.k_by_acceptance.values()) == {0}


def test_a_need_that_no_draft_has_met_leaves_nothing_to_win() -> None:
    found = ask(line(1, 2.4, 0.45))
    assert found.advice == "nothing"
    assert "no matched draft has reached" in found.sentence


def test_ngram_that_pays_comes_before_training_what_is_not_known() -> None:
    found = ask(CHEAP + NGRAM, expected=(replayed("ngram", 1.6),))
    assert found.advice == "ngram"
    assert "without training" in found.sentence
    [forecast] = found.trainless
    assert forecast.speedup == pytest.approx(1.6 / 1.02, rel=1e-6)


def test_a_draft_expected_to_be_faster_comes_before_ngram() -> None:
    assert ask(CHEAP + NGRAM, [record()], expected=(replayed("ngram", 1.6),)).advice == "train"


def test_suffix_counts_only_where_it_is_installed_and_says_that_it_is_flattered() -> None:
    expected = (replayed("suffix", 2.4, 0.8, k=16),)
    without = ask(CHEAP + NGRAM, expected=expected)
    assert without.advice == "train"
    assert "not installed" in without.trainless[0].basis
    found = ask(CHEAP + NGRAM, expected=expected, suffix_installed=True)
    assert found.advice == "suffix"
    assert "optimistic" in found.sentence


def test_ngram_whose_steps_were_not_measured_has_no_speed() -> None:
    [forecast] = ask(CHEAP, expected=(replayed("ngram", 1.9),)).trainless
    assert forecast.speedup is None
    assert "not measured" in forecast.basis


def test_heads_of_the_targets_own_are_measured_before_an_unknown_draft_is_trained() -> None:
    found = ask(CHEAP, has_mtp=True)
    assert found.advice == "mtp"
    assert "cost no training" in found.sentence


def test_a_champion_that_serves_raises_the_bar_and_is_kept_if_the_next_would_be_no_better() -> None:
    standing = {"method": "eagle3", "num_speculative_tokens": 3, "model": "d"}
    found = ask(CHEAP, [record()], standing=standing, standing_positions=(0.74, 0.59, 0.47))
    assert found.standing is not None
    assert found.standing.speedup == pytest.approx(2.8 / 1.17, rel=1e-3)
    assert found.needs[0].to_win.value > 2
    assert found.advice == "keep"
    assert "the standing draft with K = 5 instead of 3" in found.sentence, "a larger K needs no training"


def test_a_standing_draft_of_unknown_acceptance_is_said_to_be_unknown() -> None:
    found = ask(CHEAP, standing={"method": "eagle3", "num_speculative_tokens": 3})
    assert found.standing is not None
    assert found.standing.speedup is None
    assert "not known here" in found.standing.basis


def test_traffic_that_cannot_be_speculated_on_is_left_alone() -> None:
    found = ask(CHEAP, [record()], recommended=Recommendation(method="none", rationale="answers have 3 tokens"))
    assert found.advice == "keep"
    assert "answers have 3 tokens" in found.sentence


def test_every_action_has_a_meaning() -> None:
    assert all(ACTION_MEANING.values())


# -- the learning curve -----------------------------------------------------------------------------------------------


def test_no_run_nothing_known() -> None:
    found = expect([], 10_000, 3)
    assert found.by_position == ()
    assert all(volume.acceptance_length is None for volume in found.volumes)
    assert "no earlier run" in found.sentence


def test_runs_of_other_traffic_do_not_count() -> None:
    found = expect([record(same_traffic=False)], 20_000, 3)
    assert found.by_position == ()
    assert "other traffic" in found.sentence


def test_one_run_speaks_for_about_its_own_volume_and_without_a_spread() -> None:
    found = expect([record()], 20_000, 3)
    at = {volume.answer_tokens: volume for volume in found.volumes}
    assert at[20_000].acceptance_length == pytest.approx(2.8)
    assert at[20_000].low is None
    assert at[80_000].acceptance_length is None
    assert "spread not known" in found.sentence
    far = expect([record()], 200_000, 3)
    assert far.by_position == ()
    assert "nothing is known for 200,000" in far.sentence


def test_several_volumes_give_a_rising_line_and_three_runs_an_interval() -> None:
    runs = [record("a", 5_000, 1.9), record("b", 20_000, 2.4), record("c", 80_000, 2.75)]
    found = expect(runs, 40_000, 3)
    known = [v.acceptance_length for v in found.volumes if v.acceptance_length is not None]
    assert known == sorted(known)
    assert 2.4 < known[1] < 2.75
    here = found.volumes[1]
    assert here.low is not None
    assert here.high is not None
    assert here.low < known[1] < here.high <= 4
    assert found.relative_error is not None
    assert expect(runs[:2], 40_000, 3).volumes[1].low is None


def test_more_traffic_is_never_expected_to_give_less() -> None:
    runs = [record("a", 5_000, 2.4), record("b", 20_000, 2.1), record("c", 80_000, 2.0)]
    known = [v.acceptance_length or 0 for v in expect(runs, 20_000, 3).volumes]
    assert known == sorted(known)


# -- afterwards -------------------------------------------------------------------------------------------------------


def compared(k: int = 3, method: str = "eagle3", standing: dict[str, Any] | None = None) -> ComparisonPlan:
    arms = (
        Arm(name="standing", role="standing", spec_config=standing),
        Arm(name="new", role="candidate", spec_config={"method": method, "num_speculative_tokens": k}),
    )
    points = (OperatingPoint(name="c1", concurrency=1, primary=True),)
    return ComparisonPlan(arms=arms, baseline="standing", points=points, prompts_sha256="0", n_prompts=4)


def decided(speedup: float, al: float = 2.8) -> Decision:
    arms = tuple(
        ArmSummary(
            arm=name, point="c1", trials=3, requests=12, errors=0, acceptance_length=length, tokens_per_step=length
        )
        for name, length in (("standing", None), ("new", al))
    )
    span = Interval(value=speedup, low=speedup * 0.95, high=speedup * 1.05, confidence=0.95)
    pair_ = PairResult(candidate="new", baseline="standing", point="c1", blocks=3, speedup=span, min_speedup=1.03,
                       outcome="WIN", reason="")  # fmt: skip
    return Decision(outcome="WIN", tier="verdict", reason="", primary_point="c1", pairs=(pair_,), arms=arms,
                    plan_sha256="", samples_sha256="")  # fmt: skip


def test_a_plan_that_was_right_agrees_and_one_that_was_wrong_says_by_how_much(made_plan: Plan) -> None:
    right = check(made_plan, "run", compared(), decided(2.8 / 1.17))
    [row] = right.rows
    assert row.agrees is True
    assert abs(row.error or 1) < 0.01
    assert "1 of 1" in right.sentence
    wrong = check(made_plan, "run", compared(), decided(1.2))
    assert wrong.rows[0].agrees is False
    assert wrong.rows[0].error == pytest.approx(2.8 / 1.17 / 1.2 - 1, abs=0.01)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"k": 9}, "K = 9 was not planned"), ({"method": "ngram"}, "this is ngram")],
)
def test_what_the_plan_does_not_speak_of_is_left_out_with_its_reason(
    made_plan: Plan, changed: dict[str, Any], reason: str
) -> None:
    found = check(made_plan, "run", compared(**changed), decided(2.0))
    assert found.rows == ()
    assert reason in found.left_out[0]
    assert "nothing in this run" in found.sentence


def test_a_speculating_baseline_gives_no_measured_speed_to_set_beside_the_plan(made_plan: Plan) -> None:
    found = check(made_plan, "run", compared(standing={"method": "ngram", "num_speculative_tokens": 3}), decided(1.1))
    assert [row.agrees for row in found.rows] == [None]
