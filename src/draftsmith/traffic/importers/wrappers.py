"""Lists of records inside one object: pages of an API, exports, search results."""

from __future__ import annotations

from typing import Any

from draftsmith.traffic.importers.base import Importer, embedded
from draftsmith.traffic.importers.gateways import is_observation
from draftsmith.traffic.importers.otel import is_span

_LISTS = ("data", "items", "results", "records", "logs", "rows", "entries", "requests", "traces", "value", "events", "logEvents", "generations", "runs",
          "calls", "objects", "messages_list", "spend_logs", "list", "content", "samples", "examples", "conversations", "loglines")  # fmt: skip
_ENVELOPES = ("_source", "fields", "attributes", "log", "message", "jsonPayload", "json_payload", "record", "event", "data", "doc", "payload", "properties",
              "row", "node")  # fmt: skip
# What these read may be no more than the envelope of something that another format knows better.
_WEAK = ("precounted",)


def unwrapped(value: dict[str, Any], known: Importer | None) -> list[dict[str, Any]] | None:
    """The records that an object wraps, if it is not a record itself; else None. Calls of one trace stay together."""
    if known is not None and known.name not in _WEAK and known.name != "map":
        return None
    if known is not None and known.name == "map":
        return None
    tables = value.get("tables")
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return [row for table in tables for row in _table(table)] or None
    hits = value.get("hits")
    rows = hits.get("hits") if isinstance(hits, dict) else None
    for key in _LISTS:
        if rows is None and isinstance(value.get(key), list):
            rows = value[key]
            break
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        return _together([row["node"] if isinstance(row.get("node"), dict) and len(row) <= 2 else row for row in rows])
    if known is not None:
        return None
    for key in _ENVELOPES:
        inner = value.get(key)
        inner = embedded(inner) if isinstance(inner, str) and inner.lstrip()[:1] == "{" else inner
        if isinstance(inner, dict) and inner:
            return [inner]
    groups = list(value.values())
    if groups and all(
        isinstance(group, list) and group and all(isinstance(row, dict) for row in group) for group in groups
    ):
        return [row for group in groups for row in _together(group)]  # lists of records by name
    return None


def _together(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records, those of one trace as one value."""
    if all(is_observation(row) for row in rows):
        return [{"observations": rows}]
    if all(is_span(row) and "span_kind" not in row.get("attributes", {}) for row in rows):
        return [{"spans": rows}]
    return rows


def _table(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a query's answer: names of columns once, then values."""
    columns, rows = table.get("columns"), table.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return []
    names = [str(column.get("name")) if isinstance(column, dict) else str(column) for column in columns]
    return [dict(zip(names, row, strict=False)) for row in rows if isinstance(row, list)]
