"""The table of docs/targets.md is what the code says of the published configurations."""

from __future__ import annotations

import pytest
from targets_page import PAGE, TARGETS, table, written


@pytest.mark.skipif(not TARGETS.is_dir(), reason="the published configurations are not beside this repository")
def test_the_table_is_that_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, table()), "run `python tests/docs/targets_page.py`"
