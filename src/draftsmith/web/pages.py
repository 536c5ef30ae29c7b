"""HTML from views. Everything that a log, a draft or an operator named is escaped; no template runs a script."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from draftsmith.contract.control import ControlEvent
from draftsmith.kit import clock
from draftsmith.kit.clock import duration

NAMES_CUT = 200


@cache
def _environment() -> Any:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("draftsmith.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "utc": utc,
        "span": span,
        "cut": cut,
        "figure": figure,
        "speculation": speculation,
        "act": act_name,
        "kind": kind,
    }
    return made


def render(name: str, **values: Any) -> str:
    """A page by the name of its template."""
    return str(_environment().get_template(f"{name}.html.j2").render(**values))


def utc(unix_s: float | None) -> str:
    """`2026-03-01 12:30:05`, in UTC."""
    return "" if unix_s is None else clock.utc(unix_s)


def span(seconds: float | None) -> str:
    """A length of time for people; empty if it is not known."""
    return "" if seconds is None else duration(seconds)


def cut(text: object, most: int = NAMES_CUT) -> str:
    """Text from elsewhere, at most `most` characters, without characters that reorder or hide what follows."""
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def figure(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A figure with its unit, or `not known`."""
    return "not known" if value is None or not math.isfinite(value) else f"{value:.{digits}f}{unit}"


def speculation(config: dict[str, Any] | None) -> str:
    """The standing configuration in a few words, without the place of a draft."""
    if not config:
        return "no speculation"
    draft = str(config.get("model") or "").rstrip("/").rpartition("/")[2]
    k = config.get("num_speculative_tokens")
    return cut(
        str(config.get("method", "speculation"))
        + (f", {k} tokens" if k else "")
        + (f", draft {draft}" if draft else "")
    )


def act_name(event: ControlEvent) -> str:
    """What an event of the controller is about, in one or two words."""
    return cut(event.name, 30)


def kind(schema: dict[str, Any]) -> str:
    """What a value of an OpenAPI schema is, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(choice) for choice in schema["anyOf"]))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {kind(schema['items'])}"
    return " or ".join(map(str, schema.get("enum", ()))) or str(schema.get("type", "one of several"))
