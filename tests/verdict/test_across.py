"""Engines side by side: one is chosen only where it is ahead with all that is not known of it."""

from __future__ import annotations

import pytest
from planned import PLAIN, line, made

from draftsmith.contract.errors import InputError
from draftsmith.contract.plan import DraftRecord, Plan
from draftsmith.verdict.across import across

CHEAP = line(1, 1.02, 0.05) + line(8, 1.3, 0.3)
RECORD = DraftRecord(
    run_id="r1", answer_tokens=20_000, k=3, acceptance_length=2.8, by_position=(0.74, 0.59, 0.47), same_traffic=True
)


def slower(plan: Plan, factor: float) -> Plan:
    """The same plan of an engine whose every step takes `factor` times as long."""
    points = tuple(point.model_copy(update={"plain_tpot_s": point.plain_tpot_s * factor}) for point in plan.points)
    return plan.model_copy(update={"points": points})


def test_the_engine_whose_steps_are_faster_is_chosen_with_method_and_k() -> None:
    plan = made(CHEAP, [RECORD])
    found = across({"vllm": slower(plan, 1.5), "sglang": plan})
    [one, eight] = found.points
    assert one.chosen is not None
    assert (one.chosen.engine, one.chosen.method, one.chosen.k) == ("sglang", "draft", plan.points[0].draft.k)
    assert one.chosen.tpot_s == pytest.approx(PLAIN / (plan.points[0].draft.speedup or 0))
    assert one.chosen.low_s <= one.chosen.tpot_s <= one.chosen.high_s
    assert [option.tpot_s for option in one.options] == sorted(option.tpot_s for option in one.options)
    assert found.sentence == one.sentence
    assert "sglang with draft" in one.sentence
    assert (found.primary, eight.concurrency) == (1, 8)


def test_without_speculation_may_be_the_best_of_all() -> None:
    dear = line(1, 4.5, 1.2)
    found = across({"vllm": slower(made(dear), 3.0), "sglang": made(dear)})
    [point] = found.points
    assert point.chosen is not None
    assert (point.chosen.engine, point.chosen.method, point.chosen.k) == ("sglang", "none", None)


def test_engines_that_differ_by_less_than_is_known_are_not_told_apart() -> None:
    plan = made(CHEAP, [RECORD])
    found = across({"vllm": slower(plan, 1.02), "sglang": plan})
    assert found.points[0].chosen is None
    assert "no engine stands out" in found.sentence


def test_where_no_draft_is_known_the_acceptance_that_it_needs_is_told_for_each_engine() -> None:
    plan = made(CHEAP)
    found = across({"vllm": slower(plan, 1.5), "sglang": plan})
    bars = {bar.engine: bar for bar in found.points[0].bars}
    assert bars.keys() == {"vllm", "sglang"}
    assert bars["vllm"].acceptance_length > bars["sglang"].acceptance_length > 1
    best = found.points[0].options[0]
    [need] = [need for need in plan.points[0].needs if need.k == bars["sglang"].k]
    assert bars["sglang"].acceptance_length == pytest.approx(need.break_even.value * PLAIN / best.tpot_s)


@pytest.mark.parametrize("what", ["target_sha256", "profile_sha256"])
def test_plans_of_different_things_are_not_set_side_by_side(what: str) -> None:
    plan = made(CHEAP)
    with pytest.raises(InputError, match="target" if "target" in what else "traffic"):
        across({"vllm": plan, "sglang": plan.model_copy(update={what: "another"})})


def test_what_is_not_installed_with_an_engine_is_no_option() -> None:
    plan = made(CHEAP)
    [ngram] = plan.points[0].trainless
    known = ngram.model_copy(update={"speedup": 9.0, "low": 8.0, "high": 10.0})
    points = (
        plan.points[0].model_copy(update={"trainless": (known.model_copy(update={"usable": False}),)}),
        *plan.points[1:],
    )
    assert "ngram" not in {
        option.method
        for option in across({"a": plan, "b": plan.model_copy(update={"points": points})}).points[0].options
    }
    points = (plan.points[0].model_copy(update={"trainless": (known,)}), *plan.points[1:])
    assert across({"a": plan, "b": plan.model_copy(update={"points": points})}).points[0].options[0].method == "ngram"
