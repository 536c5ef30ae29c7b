"""The tables of docs/configuration.md, from the fields themselves. Run as a program, it writes them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from draftsmith.contract.config import Config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: written by `make docs` -->", "<!-- end of settings -->"


def tables() -> str:
    """One table a section of the file, in the order of the fields."""
    return "\n\n".join("\n".join(table) for table in _sections(Config, ""))


def with_tables(page: str) -> str:
    """`page` with its tables as they are in the code."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def _sections(model: type[BaseModel], section: str) -> Iterator[list[str]]:
    nested = {name: field.annotation for name, field in model.model_fields.items() if _is_section(field)}
    title = f"### `[{section}]`" if section else "### Top of the file"
    table = [
        title,
        "",
        (model.__doc__ or "").strip().splitlines()[0],
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    table += [_row(name, field) for name, field in model.model_fields.items() if name not in nested]
    yield table
    for name, inner in nested.items():
        assert isinstance(inner, type)
        yield from _sections(inner, f"{section}.{name}".strip("."))


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _row(name: str, field: FieldInfo) -> str:
    cells = (f"`{name}`", _type(field.annotation), _default(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is Annotated:  # a number with its bounds
        return _type(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(
        annotation, str(annotation)
    )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
