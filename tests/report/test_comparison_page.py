"""The comparison's part of the page: how it was asked, what every arm held, whether answers are the same, K by load."""

from __future__ import annotations

from dataclasses import replace

from demo import parts

from draftsmith.report.numbers import asked_prompts, measured_speedup
from draftsmith.report.page import render_report
from draftsmith.report.parts import ReportParts
from draftsmith.report.summary import summary_md
from draftsmith.report.tables import answers, load, resources


def text(table: object) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]  # type: ignore[attr-defined]


def answered(found: ReportParts, leaves: str, many: int) -> ReportParts:
    """The same run with hashes of answers; the first `many` of one arm's are not the baseline's."""
    trials = []
    for trial in found.trials:
        samples = tuple(
            s.model_copy(
                update={
                    "output_sha256": f"{s.prompt_id}{'-other' if trial.arm == leaves and i < many else ''}",
                    "first_divergence_hint": 9 if trial.arm == leaves and i < many else None,
                    "cached_tokens": (s.prompt_tokens or 0) // 2,
                }
            )
            for i, s in enumerate(trial.samples)
        )
        trials.append(trial.model_copy(update={"samples": samples}))
    return replace(found, trials=trials)


def test_every_point_says_how_requests_were_sent() -> None:
    found = parts()
    rows = text(load(found))
    assert [row[0] for row in rows] == [point.name for point in found.points]
    assert rows[0][1] == "closed loop, 1 in flight"
    assert "cold prefix cache" in rows[0][4]
    assert found.plan is not None
    points = (found.plan.points[0].model_copy(update={"arrivals_s": (0.0, 2.5), "sampling": {"temperature": 0.7}}),)
    plan = found.plan.model_copy(update={"points": points, "sampling_seen": {"top_p": {"0.9": 24}}})
    [row] = text(load(ReportParts(plan=plan)))
    assert row[1] == "open loop, recorded arrivals over 2.5 s"
    assert row[3] == "set to temperature 0.7"
    plain = plan.model_copy(update={"points": (points[0].model_copy(update={"sampling": {}}),)})
    assert text(load(ReportParts(plan=plain)))[0][3] == "top_p 0.9"


def test_every_arm_shows_what_it_held() -> None:
    found = answered(parts(), "tailored", 0)
    rows = {(row[0], row[1]): row for row in text(resources(found))}
    assert found.plan is not None
    assert len(rows) == len(found.plan.arms) * len(found.points)
    assert all(row[6].startswith(("50", "49")) for row in rows.values()), "the share of cached prompt tokens"


def test_answers_that_differ_are_counted_beside_equal_servers() -> None:
    rows = {(row[0], row[1]): row for row in text(answers(answered(parts(), "tailored", 12)))}
    tailored = next(row for (arm, _), row in rows.items() if arm == "tailored")
    assert tailored[3] == "48"
    assert tailored[5] == "9"
    assert tailored[6] == "more than equal servers differ"
    assert any(arm.endswith("(A/A)") for arm, _ in rows)


def test_page_and_summary_propose_k_by_load_and_name_the_answers() -> None:
    found = answered(parts(), "tailored", 12)
    page, summary = render_report(found), summary_md(found)
    for words in (page, summary):
        assert "the best speculation length changes with the load" in words
    assert "of 96 answers differ" in summary or "48 of" in summary
    for title in ("How it was asked", "What every arm held", "Same answers"):
        assert title in page


def test_a_speedup_names_what_was_compared_and_how_many_prompts_were_asked() -> None:
    found = parts()
    assert found.decision is not None
    assert found.plan is not None
    pair = found.decision.pairs[0]
    told = measured_speedup(found, pair.candidate, pair.point)
    assert told is not None
    assert told.unit == "x in median TPOT", "the first edition compares that"
    cost = found.decision.model_copy(update={"pairs": (pair.model_copy(update={"measure": "cost"}),)})
    told = measured_speedup(replace(found, decision=cost), pair.candidate, pair.point)
    assert told is not None
    assert told.unit == "x in server seconds per output token"
    assert asked_prompts(found.plan) == f"{found.plan.n_prompts} prompts a trial"
    asked = found.plan.model_copy(update={"n_prompts": 180, "block_prompts": 24})
    assert asked_prompts(asked) == "24 of 180 prompts a block"
