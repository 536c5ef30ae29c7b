"""CSV and its kin: cells with line breaks in them, any of the usual separators, values typed as JSON would be."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers.sources import MAX_LINE

csv.field_size_limit(MAX_LINE)
_NAME = re.compile(r"[A-Za-z_@][\w .\-/()\[\]:]{0,60}")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?")
SEPARATORS = (",", "\t", ";", "|")


def separator(header: str) -> str:
    """The separator of a table by its header."""
    return max(SEPARATORS, key=header.count)


def looks_like_table(line: str) -> bool:
    """Whether a line can be the header of a table: at least two different names, and nothing else."""
    cells = [cell.strip().strip('"') for cell in line.strip("\r\n\ufeff").split(separator(line))]
    return len(cells) > 1 and len(set(cells)) == len(cells) and all(_NAME.fullmatch(cell) for cell in cells)


@dataclass
class Table:
    """Rows of one file, in order. A row is a dictionary, or its bytes where it does not fit the header."""

    header: list[str] | None = None
    _separator: str = ","
    _held: list[str] = field(default_factory=list)
    _size: int = 0
    _from: int = 0
    _open: bool = False
    _swallowed: tuple[int, bytes] | None = None

    def add(self, first_line: int, data: bytes) -> Iterator[tuple[int, dict[str, Any] | bytes]]:
        """The rows that these lines complete, each with the number of its first line."""
        for number, raw in enumerate(data.split(b"\n"), first_line):
            line = raw.decode("utf-8", "replace").rstrip("\r")
            if not self._held and not line.strip():
                continue
            if not self._held:
                self._from = number
            self._held.append(line)
            self._size += len(line)
            # A quote inside a quoted cell is doubled, so an odd number of them means that a cell is still open.
            self._open = self._open != (line.count('"') % 2 == 1)
            if not self._open or self._size > MAX_LINE:
                yield from self._close()

    def end(self) -> Iterator[tuple[int, dict[str, Any] | bytes]]:
        """The last row, if a cell in it was never closed; and a header that took in all there was."""
        if self._held:
            yield from self._close()
        if self._swallowed is not None:
            yield self._swallowed

    def _close(self) -> Iterator[tuple[int, dict[str, Any] | bytes]]:
        text, number, cut = "\n".join(self._held), self._from, self._open
        self._held, self._size, self._open = [], 0, False
        if self.header is None and cut:
            # A header with a cell that is never closed would swallow the whole file.
            yield number, text.encode("utf-8", "replace")
            return
        if self.header is None:
            self._separator = separator(text)
        try:
            cells = next(
                csv.reader([text] if "\n" not in text else text.splitlines(keepends=True), delimiter=self._separator),
                [],
            )
        except csv.Error:
            cells = []
        if self.header is None:
            self.header = [cell.strip().lstrip("\ufeff") for cell in cells]
            self._swallowed = (number, text.encode("utf-8", "replace")) if "\n" in text else None
            return
        self._swallowed = None
        if len(cells) != len(self.header):
            yield number, text.encode("utf-8", "replace")
        else:
            yield number, dict(zip(self.header, cells, strict=True))

    @staticmethod
    def typed(row: dict[str, Any]) -> dict[str, Any]:
        """Cells as JSON would hold them: empty ones left out, numbers and truth as such. Text that holds JSON stays text."""
        return {key: _typed(value) for key, value in row.items() if value not in ("", "null", "NULL", "None", "\\N")}


def _typed(value: str) -> Any:
    if _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    low = value.lower()
    return low == "true" if low in ("true", "false") else value
