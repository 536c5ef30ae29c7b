"""What a table of a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.contract.verdict import Outcome

TONE: dict[Outcome, str] = {"WIN": "win", "LOSS": "loss", "INCONCLUSIVE": "open"}


@dataclass(frozen=True)
class Cell:
    """One cell. `arm`: colour slot of a marker before the text; `tone`: win, loss, open or soft; `share`: a bar, 0 to 1."""

    text: str
    arm: int | None = None
    tone: str | None = None
    share: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """`numeric`: which columns are set to the right. Units stand in the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()


def table(head: Sequence[str], rows: Sequence[Sequence[Cell | str]], numeric: Sequence[int] = ()) -> Table | None:
    """A table of cells and texts; None without rows."""
    if not rows:
        return None
    cells = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
    return Table(tuple(head), cells, frozenset(numeric))


def word(value: object) -> str:
    """A fact of any kind in words."""
    if value is None:
        return "not said"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{key} {item}" for key, item in value.items()) or "not said"
    if isinstance(value, tuple):
        return "; ".join(str(item) for item in value) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
