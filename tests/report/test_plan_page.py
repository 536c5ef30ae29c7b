"""The plan's page stands alone, escapes what it is given, and shows a dash where nothing is known."""

from __future__ import annotations

import re

from planned import line, made, pair

from draftsmith.contract.plan import DraftRecord
from draftsmith.report.plan_page import budget_lines, render_plan

SAMPLES = line(1, 1.02, 0.05, 0.01) + line(8, 1.2, 0.3, 0.01) + [pair(1, 3, 1.05, method="ngram")]
RECORD = DraftRecord(
    run_id="r", answer_tokens=20_000, k=3, acceptance_length=2.8, by_position=(0.74, 0.59, 0.47), same_traffic=True
)


def test_the_page_needs_nothing_but_itself() -> None:
    page = render_plan(made(SAMPLES))
    assert not re.search(r"<script|src=|https?://(?!www\.w3\.org)", page)
    assert page.count("<svg") == 2
    assert "a &lt;machine&gt;" in page


def test_the_same_plan_gives_the_same_page() -> None:
    assert render_plan(made(SAMPLES)) == render_plan(made(SAMPLES))


def test_what_is_not_known_is_a_dash_or_says_so() -> None:
    unknown, known = render_plan(made(SAMPLES)), render_plan(made(SAMPLES, [RECORD]))
    assert "nothing is known of a draft" in unknown
    assert "expected AL" in known
    assert "expected AL" not in unknown


def test_every_exhibit_carries_its_context() -> None:
    page = render_plan(made(SAMPLES))
    assert page.count("<figure") == page.count("<figcaption") == page.count("vllm 0.32.0") - 1


def test_the_budget_is_known_only_as_a_whole() -> None:
    lines = dict(budget_lines(made(SAMPLES, capture_s=100, compare_s=200)))
    assert lines["wall time"] == "not known"
    assert "not known" in lines["training"]
    lines = dict(budget_lines(made(SAMPLES, capture_s=100, train_s=300, compare_s=200)))
    assert lines["wall time"] == "10 min 00 s"
    assert "GPU hours" not in lines
