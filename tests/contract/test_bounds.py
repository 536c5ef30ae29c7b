"""Every setting that is a number has bounds: what no run could use is refused when it is read, not hours later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import ConfigError


def numbers(model: type[BaseModel], path: str = "") -> Iterator[tuple[type[BaseModel], str, str, Any]]:
    """(section, name, dotted path, type) of every setting that is a number or a row of numbers."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        for section in inner:
            yield from numbers(section, f"{path}{name}.")
        flat = str(field.annotation)
        if not inner and ("int" in flat or "float" in flat) and "Any" not in flat:
            rows = any(get_origin(kind) is tuple for kind in kinds)
            yield model, name, path + name, [-1] if rows else -1


@pytest.mark.parametrize(("model", "name", "path", "value"), [pytest.param(*n, id=n[2]) for n in numbers(Config)])
def test_a_number_below_every_meaning_is_refused(model: type[BaseModel], name: str, path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        model.__pydantic_validator__.validate_assignment(model.model_construct(), name, value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_infinity_and_nan_are_no_settings(value: float) -> None:
    with pytest.raises(ConfigError, match=r"no finite number, or a NUL: trainer\.learning_rate, compare\.rates\.1"):
        parse_config({"trainer": {"learning_rate": value}, "compare": {"rates": [1.0, value]}})


def test_a_path_with_a_nul_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match="workspace"):
        parse_config({"workspace": "a\0b"})
