"""The pages' templates, which lie beside this file."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def template(name: str) -> Any:
    """A template by its file name; values are escaped, and one that is missing is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("draftsmith.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
