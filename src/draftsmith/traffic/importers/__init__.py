"""Importers: any known traffic log becomes a stream of AccessRecord. See `catalog.CATALOG` for the formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import orjson

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers.base import Fields, Importer, SkipError
from draftsmith.traffic.importers.catalog import CATALOG, find, nearest
from draftsmith.traffic.importers.stream import Located, open_files, read_files, stream
from draftsmith.traffic.importers.tables import looks_like_table
from draftsmith.traffic.importers.unknown import starting_map

__all__ = ["CATALOG", "Importer", "Located", "SkipError", "detect", "keeps_record", "read_records", "stream"]

_FIELDS = frozenset(AccessRecord.model_fields) - {"schema_"}


def detect(lines: Sequence[str]) -> str:
    """The format of sample lines. Raises InputError if none of them is known."""
    for line in lines:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            cells = dict.fromkeys(cell.strip() for cell in line.split(","))
            found = (
                find("text", line) or find("csv", cells) or (find("json", cells) if looks_like_table(line) else None)
            )
        else:
            found = find("json", value) if isinstance(value, dict) else None
        if found:
            return found.name
    raise InputError("the format of the traffic is not known", f"use one of: {', '.join(CATALOG)}")


def read_records(
    sources: Sequence[str],
    format: str | None = None,
    on_skip: Callable[[str, str, bytes], None] | None = None,
) -> Iterator[AccessRecord]:
    """Stream the records of files, globs, folders, '-' or URLs, in bounded memory.

    `on_skip(reason, "file:line", raw bytes)` hears of every value that gave no record, and of records kept with a flaw.
    Raises InputError if a source does not exist, or if it gave no usable record at all.
    """
    reasons: dict[str, int] = {}
    made = 0

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] = reasons.get(reason, 0) + 1
        if on_skip:
            on_skip(reason, where, raw)

    files = open_files(sources, format)
    for item in read_files(files, skip):
        record = to_record(item.fields, item.where)
        if record is None:
            skip("record does not fit the schema", item.where, b"")
            continue
        made += 1
        yield record
    if not made:
        raise no_usable_record(reasons, next((one.reader.strange for one in files if one.reader.strange), ()))


def to_record(fields: Fields, where: str) -> AccessRecord | None:
    """An AccessRecord; its id is the place in the log where the log has none. None if the fields do not fit."""
    try:
        kept = {key: value for key, value in fields.items() if key in _FIELDS and value is not None}
        return AccessRecord.model_validate({"id": where, **kept})
    except ValueError:
        return None


def keeps_record(reason: str) -> bool:
    """Whether a reason names what was lost of a record that is kept, and not why there is no record."""
    return "(kept" in reason or reason.endswith("(left out)")


def no_usable_record(reasons: dict[str, int], strange: Sequence[str] = ()) -> InputError:
    """The error for traffic without one usable record, with the reasons counted.

    `strange`: names of the fields of a value that no format knows. They, and never values, are shown.
    """
    said = ", ".join(f"{reason}: {number}" for reason, number in sorted(reasons.items())) or "the sources are empty"
    what = f"no usable request in the traffic ({said})"
    if not strange:
        return InputError(what, "name the format with --format, or see --rejects")
    near = nearest(strange)
    like = f"; nearest known format: {near}" if near else ""
    start = starting_map(strange).replace("\n", "\n    ")
    return InputError(
        f"{what}; fields seen: {', '.join(strange)}{like}",
        "convert it to a known format (docs/profile.md), or say where things are: give --map FILE.toml with lines such as\n    "
        + start,
    )
