"""The page on the profile names every format, and the table says what each gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.importers import CATALOG, read_records
from draftsmith.traffic.importers.catalog import gives

from .written import DEFAULT, FORMATS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "profile.md").read_text(encoding="utf-8")


def test_the_table_of_formats_is_the_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "docs"))
    import formats_page

    assert formats_page.with_table(PAGE) == PAGE, "run `make docs`"
    sys.modules.pop("formats_page")


@pytest.mark.parametrize("name", CATALOG)
def test_every_format_gives_what_the_table_says(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(FORMATS[name].write(DEFAULT))
    record = next(iter(read_records([str(path)])))
    timing = record.timing
    text = {(True, True): "yes", (True, False): "prompts", (False, True): "answers", (False, False): "no"}
    times = {(True, True): "yes", (True, False): "arrivals", (False, True): "latency", (False, False): "no"}
    found = {
        "text": text[bool(record.messages), bool(record.completion)],
        "ids": "yes" if record.output_token_ids or record.prompt_token_ids else "no",
        "times": times[timing is not None, timing is not None and timing.latency_s is not None],
        "parameters": "yes" if set(record.params) - {"tools"} else "no",
        "tools": "yes" if record.params.get("tools") else "no",
    }
    said = gives(CATALOG[name])
    if said["ids"] == "yes":
        said["ids"] = found["ids"]  # of these some logs have them
    assert found == said


def test_every_class_is_named() -> None:
    assert f"`{' '.join(CLASSES)}`" in PAGE
