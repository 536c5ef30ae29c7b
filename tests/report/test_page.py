"""The page as its reader and its printer meet it: whole, on its own, and with no number without a context."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import demo
import pytest

from draftsmith.contract.context import Context
from draftsmith.contract.measure import EngineFacts, Trial
from draftsmith.report.numbers import base_context, milliseconds, percent, point_context, significant
from draftsmith.report.page import render_report
from draftsmith.report.parts import PhaseTiming, ReportParts
from draftsmith.report.summary import summary_md


class Page(HTMLParser):
    """Tags, ids, and which figures hold a caption."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "figcaption":
            self.captions.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "figcaption" in self.open:
            self.captions[-1] += data


@pytest.fixture(scope="module")
def full() -> str:
    return render_report(demo.parts())


@pytest.fixture(scope="module")
def page(full: str) -> Page:
    return Page(full)


def test_every_section_is_there(page: Page) -> None:
    assert page.open == []
    for words in (
        "WIN",
        "tier verdict",
        "Path of the decision",
        "Time per output token against concurrency",
        "Block by block",
        "All arms",
        "Guards",
        "By position",
        "By content class",
        "By length",
        "Share of the memory-traffic ceiling",
        "Trainless methods",
        "Load over time",
        "answers that end in a loop",
        "chosen epoch",
        "refused: near-duplicate",
        "What the engine said",
        "Wall time by phase",
        "Next lever",
    ):
        assert words in page.text, words


def test_it_ends_with_the_next_lever_its_gain_and_its_gate(page: Page) -> None:
    last = page.text[page.text.index("Next lever") :]
    assert last.index("Why") < last.index("Expected gain") < last.index("Gate")


def test_the_page_stands_alone(full: str, page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img", "form", "image"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert value is not None
                assert value.startswith("#"), (tag, value)
    assert "http://" not in full
    assert "https://" not in full
    assert "@import" not in full
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", full))


def test_ids_are_unique_and_references_resolve(full: str, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]*)\)", full)) | set(re.findall(r'xlink:href="#([^"]*)"', full))
    assert wanted <= set(ids)


def test_every_plot_and_table_carries_its_context(page: Page) -> None:
    figures = sum(1 for tag, _ in page.tags if tag == "figure")
    assert figures == len(page.captions) > 15
    for caption in page.captions:
        assert caption.count(" · ") >= 3, caption
    served = [caption for caption in page.captions if "vllm 0.32.0" in caption and "ISL p50" in caption]
    for caption in served:
        for part in ("SmolLM2", "FIXTURE", "bfloat16", "concurrency", "trials 4", "against standing", "ceiling"):
            assert part in caption


def test_colours_follow_the_page_in_light_and_dark(full: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", full, flags=re.DOTALL))
    assert "var(--arm1)" in drawn
    assert re.findall(r"#[0-9a-fA-F]{6}\b", drawn) == []
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", full))
    for block in re.findall(r":root \{(.*?)\}", full, flags=re.DOTALL):
        assert used <= set(re.findall(r"--([a-z0-9]+):", block))
    assert "prefers-color-scheme: dark" in full
    assert "@media print" in full


def test_plots_are_read_aloud_and_keep_their_text(page: Page) -> None:
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 11
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in plots)
    for unit in (
        "ms per token",
        "speed-up over the baseline (×)",
        "concurrency (requests in flight)",
        "optimiser step",
    ):
        assert unit in page.text


def test_the_same_parts_give_the_same_page(full: str) -> None:
    assert render_report(demo.parts()) == full


PARTIAL: dict[str, dict[str, Any]] = {
    "nothing": {},
    "profile": {"profile": demo.profile()},
    "corpus": {"profile": demo.profile(), "corpus": demo.corpus()},
    "training": {"training": demo.training_records(2, 5), "draft": demo.draft(epoch=None)},
    "stopped at once": {"training": [{"stopped": {"reason": "loss is nan", "hint": ""}}]},
    "timings": {"timings": (PhaseTiming("profile", 3.0),)},
}


@pytest.mark.parametrize("given", PARTIAL.values(), ids=PARTIAL.keys())
def test_a_partial_run_has_a_page_too(given: dict[str, Any]) -> None:
    page = Page(render_report(ReportParts(**given)))
    assert "No verdict" in page.text
    assert "Next lever" in page.text
    assert "not stated" in page.text or "counted from the log" in page.text
    assert summary_md(ReportParts(**given)).startswith("# ")


def test_a_comparison_alone_has_a_page() -> None:
    frozen = demo.plan(points=1)
    measured = demo.trials(frozen, blocks=1)
    lone = ReportParts(plan=frozen, trials=measured, decision=demo.judged(frozen, measured))
    assert lone.decision is not None
    assert lone.decision.outcome == "INCONCLUSIVE"
    page = Page(render_report(lone))
    assert "INCONCLUSIVE" in page.text
    assert "hardware not stated" in page.text
    assert "%SoL not computed" in page.text


def test_set_aside_trials_are_counted_and_not_drawn() -> None:
    frozen = demo.plan(points=1)
    measured = demo.trials(frozen)
    spoiled = [_slow(t) if t.arm == "tailored" and t.block == 0 and t.traffic == "own" else t for t in measured]
    parts = ReportParts(plan=frozen, trials=spoiled, decision=demo.judged(frozen, spoiled))
    assert len(parts.good_trials) == len(measured) - 1
    assert "1 set aside" in Page(render_report(parts)).text


def _slow(trial: Trial) -> Trial:
    return trial.model_copy(update={"invalid": "the node was shared"})


def test_hostile_names_stay_text() -> None:
    evil = "<script>alert(1)</script>&\"'"
    timings = (PhaseTiming(evil, 1.0, evil),)
    profile = demo.profile().model_copy(update={"content_class_mix": {evil: 0.6, "日本語": 0.4}})
    text = render_report(ReportParts(run_id=evil, profile=profile, timings=timings, hardware={"cpu": evil}))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert "日本語" in page.text


def test_every_point_has_a_context_of_its_own() -> None:
    parts = demo.parts(points=3)
    text = summary_md(parts)
    for point in parts.points:
        assert str(point_context(parts, point.name)) in text
    assert "concurrency 1, 4" not in text


def test_a_context_says_what_decides_speed() -> None:
    parts = demo.parts(points=1)
    settings = {
        "tensor_parallel_size": "8",
        "pipeline_parallel_size": "1",
        "quantization": "fp8",
        "kv_cache_dtype": "auto",
    }
    fact = EngineFacts(
        start_id="a",
        max_num_seqs=32,
        memory_share=0.44,
        max_batched_tokens=2048,
        async_scheduling=True,
        settings=settings,
    )
    told = point_context(replace(parts, facts=[("standing", fact)]), "c1", arm=parts.arms[0].name)
    words = str(told)
    for expected in (
        "TP8 PP1", "weights fp8, KV cache auto", "memory share 0.44", "max-num-batched-tokens 2048", "async scheduling on",
        "latency tier", "± ", "measured by draftsmith", "rigor L",
    ):  # fmt: skip
        assert expected in words, words


def test_the_summary_names_the_context_of_its_figures() -> None:
    parts = demo.parts(points=1)
    text = summary_md(parts)
    assert "**WIN** at tier `verdict`" in text
    assert "| tailored | c1 |" in text
    assert str(point_context(parts, "c1")) in text
    assert "- Gate: compare against standing at c1" in text


def test_a_given_context_wins_over_a_derived_one() -> None:
    told = Context(model="M", hardware="H", engine="E")
    parts = demo.parts(points=1, context=told)
    assert base_context(parts) == told
    assert str(point_context(parts, "c1")).startswith("M · H · E")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0265, "26.5"), (0.07, "70.0"), (0.1191, "119"), (0.00512, "5.12"), (None, "–"), (1.2, "1,200")],
)
def test_milliseconds(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (211, "211"), (21.04, "21"), (0.7, "0.7"), (0.00001, "1.0e-05"), (-0.341, "-0.341")],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_percent_of_nothing_is_a_dash() -> None:
    assert (percent(None), percent(0.0526), percent(0.99134, 4)) == ("–", "5.26 %", "99.13 %")
