"""Each lever is pulled by the evidence that speaks for it, and by nothing else."""

from __future__ import annotations

from typing import Any

import demo
import pytest

from draftsmith.contract.corpus import DraftVocabulary
from draftsmith.contract.frontier import Lever
from draftsmith.contract.verdict import ArmSummary, Decision
from draftsmith.report.next_lever import next_levers
from draftsmith.report.parts import ReportParts


@pytest.fixture(scope="module")
def whole() -> ReportParts:
    return demo.parts()


def quiet(**changes: Any) -> ReportParts:
    """A comparison that went well and points nowhere."""
    frozen = demo.plan(points=1)
    measured = demo.trials(frozen)
    decision = demo.judged(frozen, measured)
    base = {"plan": frozen, "trials": measured, "decision": with_arm(decision, (0.9, 0.82, 0.75), speed=3.0)}
    return ReportParts(**(base | changes))


def with_arm(decision: Decision, shares: tuple[float, ...], *, speed: float) -> Decision:
    """The candidate as if it had this acceptance, and this speed against the baseline."""

    def change(row: ArmSummary) -> ArmSummary:
        if row.arm != "tailored":
            return row
        base = next(r for r in decision.arms if r.arm == "standing" and r.point == row.point)
        return row.model_copy(
            update={
                "acceptance_by_position": shares,
                "acceptance_length": 1 + sum(shares),
                "median_tpot_s": (base.median_tpot_s or 0) / speed,
            }
        )

    return decision.model_copy(update={"arms": tuple(change(row) for row in decision.arms)})


def lever(parts: ReportParts, key: str) -> Lever | None:
    return next((found for found in next_levers(parts) if found.key == key), None)


def keys(parts: ReportParts) -> list[str]:
    return [found.key for found in next_levers(parts)]


def test_a_good_run_is_told_to_watch_for_drift() -> None:
    assert keys(quiet()) == ["watch"]


def test_every_lever_has_a_reason_a_gain_and_a_gate(whole: ReportParts) -> None:
    found = next_levers(whole)
    assert {"load", "price", "vocabulary", "epochs"} <= {one.key for one in found}
    for one in found:
        assert one.title
        assert one.why
        assert one.expected
        assert "compare" in one.gate
    assert next_levers(whole) == found


def test_levers_are_ordered_by_gain_behind_the_urgent(whole: ReportParts) -> None:
    gains = [one.gain or 1.0 for one in next_levers(whole) if not one.urgent]
    assert gains == sorted(gains, reverse=True)


def test_serving_far_below_validation_means_wiring_before_anything_else() -> None:
    base = quiet()
    assert base.decision is not None
    broken = quiet(decision=with_arm(base.decision, (0.2, 0.1, 0.05), speed=1.1), draft=demo.draft())
    first = next_levers(broken)[0]
    assert first.key == "wiring"
    assert "vocabulary map" in first.why
    assert first.gain == pytest.approx((1 + 0.835 + 0.695 + 0.604) / 1.35)
    fine = quiet(draft=demo.draft(validation_acceptance=(0.93, 0.85, 0.78)))
    assert lever(fine, "wiring") is None


def test_a_drop_at_one_position_asks_for_training_there() -> None:
    base = quiet()
    assert base.decision is not None
    found = lever(quiet(decision=with_arm(base.decision, (0.8, 0.68, 0.34), speed=2.6)), "late_positions")
    assert found is not None
    assert "position 3" in found.title
    # Position 3 given position 2 goes from 0.5 to 0.85, so its share from 0.34 to 0.578.
    assert found.gain == pytest.approx((1 + 0.8 + 0.68 + 0.578) / (1 + 0.8 + 0.68 + 0.34))
    assert lever(quiet(decision=with_arm(base.decision, (0.8, 0.64, 0.512), speed=2.6)), "late_positions") is None


def test_high_acceptance_and_little_gain_means_the_draft_costs_too_much() -> None:
    base = quiet()
    assert base.decision is not None
    found = lever(quiet(decision=with_arm(base.decision, (0.8, 0.7, 0.6), speed=1.55)), "price")
    assert found is not None
    assert "cheaper" in found.title
    assert found.gain == pytest.approx(2.0 / 1.5)
    useless = lever(quiet(decision=with_arm(base.decision, (0.6, 0.1, 0.02), speed=0.9)), "price")
    assert useless is not None
    assert useless.title == "Shorten K from 3 to 1"


def test_a_narrow_vocabulary_is_seen_on_the_held_out_rows() -> None:
    def corpus(heldout: float) -> Any:
        vocabulary = DraftVocabulary(
            size=512, distinct_answer_tokens=900, coverage={"train": 0.999, "heldout": heldout}, sha256="0" * 64
        )
        return demo.corpus(vocabulary=vocabulary, splits={})

    found = lever(quiet(corpus=corpus(0.93)), "vocabulary")
    assert found is not None
    assert "93 % of the heldout answer tokens" in found.why
    assert found.gain is not None
    assert 1.0 < found.gain < 1.15
    assert lever(quiet(corpus=corpus(0.997)), "vocabulary") is None


def test_a_loss_at_high_concurrency_asks_for_a_schedule(whole: ReportParts) -> None:
    found = lever(whole, "load")
    assert found is not None
    assert "K=0" in found.title
    pair = whole.pair("tailored", "c16")
    assert pair is not None
    assert pair.speedup is not None
    assert found.gain == pytest.approx(1 / pair.speedup.value)


def test_an_untrained_arm_that_is_faster_is_proposed() -> None:
    slow = demo.parts(points=1, speed={"tailored": 2.2, "tailored-k2": 2.2})
    found = lever(slow, "better_arm")
    assert found is not None
    assert found.title == "Turn speculation off"
    fast_ngram = demo.parts(points=1, speed={"tailored": 1.5, "tailored-k2": 1.5, "ngram": 0.65})
    assert fast_ngram.decision is not None
    assert fast_ngram.decision.winner == "ngram"
    assert lever(fast_ngram, "better_arm") is None


def test_a_win_at_tier_draft_asks_for_the_missing_proof_first() -> None:
    base = quiet()
    assert base.decision is not None
    doubted = base.decision.model_copy(update={"tier": "draft", "tier_reasons": ("the arms ran on two nodes",)})
    first = next_levers(quiet(decision=doubted))[0]
    assert first.key == "tier"
    assert "two nodes" in first.why


def test_an_open_question_asks_for_blocks() -> None:
    frozen = demo.plan(points=1)
    measured = demo.trials(frozen, blocks=1)
    decision = demo.judged(frozen, measured)
    assert decision.need_more_blocks
    found = lever(ReportParts(plan=frozen, trials=measured, decision=decision), "blocks")
    assert found is not None
    assert found.urgent


def test_a_weak_class_with_weight_is_named() -> None:
    found = lever(demo.parts(points=1), "class")
    assert found is not None
    assert found.title.startswith("Give chat more weight")
    assert found.gain is not None
    assert 1.0 < found.gain < 1.2


def test_training_that_was_still_rising_asks_for_more() -> None:
    rising = [{"val": {"full_acc_0_epoch": a, "full_acc_1_epoch": a / 2}, "epoch": e} for e, a in enumerate((0.4, 0.6))]
    found = lever(quiet(training=rising), "epochs")
    assert found is not None
    assert found.gain == pytest.approx(1 + 0.3 / 1.9)
    flat = [*rising, {"val": {"full_acc_0_epoch": 0.6, "full_acc_1_epoch": 0.3}, "epoch": 2}]
    assert lever(quiet(training=flat), "epochs") is None


def test_a_small_corpus_asks_for_a_learning_curve() -> None:
    found = lever(quiet(corpus=demo.corpus(vocabulary=None)), "corpus")
    assert found is not None
    assert "375,000 answer tokens" in found.why
    assert found.gain is None


def test_a_profile_alone_points_at_the_recommended_method() -> None:
    first = next_levers(ReportParts(profile=demo.profile()))[0]
    assert first.title == "Try eagle3"
    assert "suffix without training: 1.52 tokens per step" in first.expected
