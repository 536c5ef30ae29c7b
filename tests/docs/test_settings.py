"""docs/configuration.md says what the configuration is, and its example is one."""

from __future__ import annotations

import tomllib

from doc_pages import FENCE
from settings_page import PAGE, with_tables

from draftsmith.contract.config import Config, parse_config


def test_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run `make docs`"


def test_every_setting_says_what_it_means() -> None:
    def silent(model: type, place: str) -> list[str]:
        found = []
        for key, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                found += silent(inner, f"{place}{key}.")
            elif not field.description and key not in ("kind", "method", "seed"):
                found.append(place + key)
        return found

    assert silent(Config, "") == []


def test_example_is_a_valid_file() -> None:
    blocks = [text for language, text in FENCE.findall(PAGE.read_text(encoding="utf-8")) if language == "toml"]
    assert blocks
    for text in blocks:
        assert parse_config(tomllib.loads(text)) != Config()
