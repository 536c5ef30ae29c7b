"""Names that others chose, in plots: they are drawn as they are, whatever a plotting library makes of their signs."""

from __future__ import annotations

import pytest

from draftsmith.report.svg import draw


@pytest.mark.parametrize("name", [r"$\x$", "$$", "$", r"\frac{", "<script>hit()</script>", "a & b", "名前"])
def test_a_name_is_drawn_as_it_is_written(name: str) -> None:
    def paint(figure: object) -> None:
        axes = figure.subplots()  # type: ignore[attr-defined]
        axes.plot([1, 2], label=name)
        axes.set_title(name)
        axes.set_xlabel(name)
        axes.set_xticks([0, 1], [name, name])
        axes.legend()

    drawn = draw("plot", f"a plot of {name}", paint)
    assert "<script" not in drawn
    written = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert drawn.count(f">{written}<") >= 5, "title, axis, two ticks and legend"
