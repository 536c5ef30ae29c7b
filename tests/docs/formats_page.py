"""The table of formats in docs/profile.md, from the catalog itself. Run as a program, it writes it."""

from __future__ import annotations

from pathlib import Path

from draftsmith.traffic.importers.catalog import table

PAGE = Path(__file__).parents[2] / "docs" / "profile.md"
BEGIN, END = "<!-- formats: written by `make docs` -->", "<!-- end of formats -->"


def with_table(page: str) -> str:
    """`page` with its table as the catalog has it."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
