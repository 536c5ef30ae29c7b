"""Put the rows of a bundle into a lake: append-only, and once, however often it is asked."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import EvidenceError, PrerequisiteError
from draftsmith.lake.places import INSTALL, Place, plainly
from draftsmith.lake.rows import SCHEMA_VERSION, BundleRows

# The campaign's own row goes last: it is the mark that everything else of it is there, and questions read nothing without it.
ORDER = ("pairs", "arms", "campaigns")
LONGEST_FAMILY, DIGEST = 200, 16  # characters of a folder's name: file systems take 255 bytes, `family=` with it


class Shipped(Frozen):
    """Where a bundle lies in a lake. `written`: the objects put now; `kept`: those that were there already."""

    campaign: str
    address: str
    tier: str
    manifest_sha256: str
    written: tuple[str, ...]
    kept: tuple[str, ...]


def put(rows: BundleRows, place: Place) -> Shipped:
    """Write what is missing of a bundle. An object that is there and whole stays; a torn one is written again.

    Raises BackendError if the place broke off (call again to go on), PrerequisiteError if it is full or forbidden,
    EvidenceError for a value that a column cannot hold.
    """
    written: list[str] = []
    kept: list[str] = []
    for name in ORDER:
        path = f"{place.root}/{part_path(name, rows)}"
        with plainly(place.url):
            if _whole(place, path, rows.manifest_sha256):
                kept.append(path)
                continue
            write_table(place, path, _table(name, rows))
        written.append(path)
    return Shipped(
        campaign=rows.campaign,
        address=f"{place.url.rstrip('/')}/{part_path('campaigns', rows)}",
        tier=rows.tier,
        manifest_sha256=rows.manifest_sha256,
        written=tuple(written),
        kept=tuple(kept),
    )


def _table(name: str, rows: BundleRows) -> Any:
    import pyarrow as pa

    from draftsmith.lake.schema import table_of

    try:
        return table_of(name, rows.tables[name], rows.manifest_sha256)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError) as problem:
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise EvidenceError(
            f"the bundle holds a value that the table {name} cannot hold ({reason})",
            "measure again: it was made by other means",
        ) from None


def part_path(table: str, rows: BundleRows) -> str:
    """`<table>/schema=1/family=F/date=D/part-<manifest sha256>.parquet`: the same for the same bundle, on every machine."""
    family = _folder(rows.family)
    return f"{table}/schema={SCHEMA_VERSION}/family={family}/date={rows.date}/part-{rows.manifest_sha256}.parquet"


def _folder(family: str) -> str:
    """A family as the name of a folder. One that no file system would take is cut, and a digest keeps it apart from others."""
    quoted = quote(family.encode(errors="replace"), safe="")
    if len(quoted) <= LONGEST_FAMILY:
        return quoted
    kept = family
    while len(quote(kept.encode(errors="replace"), safe="")) > LONGEST_FAMILY - DIGEST - 1:
        kept = kept[:-1]
    digest = hashlib.sha256(family.encode(errors="replace")).hexdigest()[:DIGEST]
    return f"{quote(kept.encode(errors='replace'), safe='')}-{digest}"


def _whole(place: Place, path: str, manifest_sha256: str) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = place.files.get_file_info(path)
    if not info.is_file:
        return False
    try:
        with place.files.open_input_file(path) as source:
            metadata = pq.read_metadata(source).metadata or {}
    except pa.ArrowInvalid:
        return False
    return bool(metadata.get(b"draftsmith.manifest_sha256") == manifest_sha256.encode())


def write_table(place: Place, path: str, table: Any) -> None:
    """Write one Parquet file: it appears whole or not at all. Raises PrerequisiteError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise PrerequisiteError("pyarrow is not installed, and the lake is Parquet", INSTALL) from None
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    if not place.local:  # an object appears whole or not at all
        with place.files.open_output_stream(path) as out:
            out.write(buffer.getvalue())
        return
    place.files.create_dir(str(PurePosixPath(path).parent), recursive=True)
    folder, _, name = path.rpartition("/")
    beside = f"{folder}/.{name}.{secrets.token_hex(4)}"  # two may publish the same bundle at once
    with place.files.open_output_stream(beside) as out:
        out.write(buffer.getvalue())
    place.files.move(beside, path)
