"""The three tables of a lake as they are now: its newest snapshot, and the objects that came after it.

A campaign is there once its own row is: that one is written last. A snapshot is the same rows in one object a table, so that a
question opens three objects and not three for each campaign. It is written beside them, and nothing is altered or deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, EvidenceError, InputError, PrerequisiteError
from draftsmith.lake.places import INSTALL, Place, plainly
from draftsmith.lake.put import ORDER, write_table
from draftsmith.lake.rows import SCHEMA_VERSION

OBJECT = re.compile(r"part-([0-9a-f]{64})\.parquet")
SNAPSHOTS = f"snapshots/schema={SCHEMA_VERSION}"
MARK = "campaigns.parquet"
AT_ONCE = 16  # objects that are opened at the same time
UNREADABLE = ("Parquet", "thrift")


@dataclass(frozen=True)
class Contents:
    """Arrow tables by name. `loose`: campaigns that no snapshot holds. `notes`: what was left alone, and why."""

    tables: dict[str, Any]
    loose: int
    notes: tuple[str, ...]

    @property
    def campaigns(self) -> int:
        """How many campaigns there are."""
        return int(self.tables["campaigns"].num_rows)


class Snapshot(Frozen):
    """A snapshot of a lake. `address` None: every campaign was in one already, so none was written."""

    campaigns: int
    added: int
    address: str | None = None


def contents(place: Place) -> Contents:
    """Everything that is whole in a lake. Raises InputError for an empty one, EvidenceError for a torn object, BackendError."""
    try:
        import pyarrow as pa
    except ImportError:
        raise PrerequisiteError("pyarrow is not installed, and the lake is Parquet", INSTALL) from None
    notes = list(_newer(place))
    kept = _newest_snapshot(place, notes)
    covered = set(kept["campaigns"].column("manifest_sha256").to_pylist()) if kept else set()
    with _reading(place):
        root = f"{place.root}/campaigns/schema={SCHEMA_VERSION}"
        named = [(path, OBJECT.fullmatch(path.rpartition("/")[2])) for path in _files(place, root)]
        loose = [path.removeprefix(f"{root}/") for path, name in named if name and name[1] not in covered]
        if kept is None and not loose:
            raise InputError(f"{place.url} holds no campaigns", "publish one: `draftsmith publish --to URL`")
        tables = {}
        for table in ORDER:
            pieces = [kept[table]] if kept else []
            pieces += [_parts(place, table, loose)] if loose else []
            tables[table] = pa.concat_tables(pieces)
    return Contents(tables, len(loose), tuple(notes))


def compact(place: Place) -> Snapshot:
    """Write a snapshot of all campaigns that are there now, unless the newest one has them all. See contents for errors."""
    contents_before = contents(place)
    if not contents_before.loose:
        return Snapshot(campaigns=contents_before.campaigns, added=0)
    digests = sorted(contents_before.tables["campaigns"].column("manifest_sha256").to_pylist())
    name = f"{contents_before.campaigns:08}-{sha256(''.join(digests).encode()).hexdigest()[:16]}"
    for table in ORDER:
        with plainly(place.url):
            write_table(place, f"{place.root}/{SNAPSHOTS}/{name}/{table}.parquet", contents_before.tables[table])
    address = f"{place.url.rstrip('/')}/{SNAPSHOTS}/{name}"
    return Snapshot(campaigns=contents_before.campaigns, added=contents_before.loose, address=address)


def _newest_snapshot(place: Place, notes: list[str]) -> dict[str, Any] | None:
    """The tables of the largest snapshot that is whole; what is torn is passed over, for its rows are elsewhere too."""
    with plainly(place.url):
        marks = [path for path in _files(place, f"{place.root}/{SNAPSHOTS}") if path.endswith(f"/{MARK}")]
    for mark in sorted(marks, reverse=True):
        folder = mark.removesuffix(f"/{MARK}")
        try:
            with _reading(place):
                return {table: _table(place, table, [f"{folder}/{table}.parquet"], None) for table in ORDER}
        except EvidenceError:
            notes.append(f"the snapshot {folder.rpartition('/')[2]} cannot be read, so the objects themselves were")
    return None


def _parts(place: Place, table: str, names: list[str]) -> Any:
    root = f"{place.root}/{table}/schema={SCHEMA_VERSION}"
    return _table(place, table, [f"{root}/{name}" for name in names], root)


def _table(place: Place, table: str, paths: list[str], root: str | None) -> Any:
    """Objects as one table; under a `root` the names of folders are the columns family and date, else they are stored ones."""
    import pyarrow as pa
    from pyarrow import dataset

    from draftsmith.lake.schema import PARTITIONS, schema_of

    kinds = pa.schema([(name, kind) for name, kind in PARTITIONS.items() if name != "schema"])
    whole = pa.schema([*schema_of(table), *kinds])
    # A family may have the name by which Hive means null: here only a name that no folder can have means that.
    hive = dataset.HivePartitioning(kinds, null_fallback="/")
    options = {"partitioning": hive, "partition_base_dir": root} if root else {}
    result = dataset.dataset(paths, schema=whole, filesystem=place.files, format="parquet", **options)
    return result.to_table(fragment_readahead=AT_ONCE)


def _files(place: Place, folder: str) -> list[str]:
    from pyarrow import fs

    infos = place.files.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
    return [info.path for info in infos if info.is_file]


@contextmanager
def _reading(place: Place) -> Iterator[None]:
    """An object that is torn or gone, apart from a lake that is away."""
    import pyarrow as pa

    try:
        with plainly(place.url):
            yield
    except (pa.ArrowInvalid, pa.ArrowKeyError, BackendError) as problem:
        cause = problem.__cause__ if isinstance(problem, BackendError) else problem
        reason = str(cause).splitlines()[0][:300]
        vanished = isinstance(cause, FileNotFoundError) or any(word in reason for word in UNREADABLE)
        if isinstance(problem, BackendError) and not vanished:
            raise
        raise EvidenceError(f"an object of the lake cannot be read: {reason}", "publish its bundle again") from problem


def _newer(place: Place) -> tuple[str, ...]:
    """A note for every version of the tables that this Draftsmith does not know."""
    from pyarrow import fs

    with plainly(place.url):
        infos = place.files.get_file_info(fs.FileSelector(f"{place.root}/campaigns", allow_not_found=True))
    names = sorted(entry.base_name for entry in infos)
    known = f"schema={SCHEMA_VERSION}"
    return tuple(
        f"{name} is of a newer version and was not read"
        for name in names
        if name.startswith("schema=") and name != known
    )
