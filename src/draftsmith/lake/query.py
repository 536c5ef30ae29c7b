"""SQL over a lake, through DuckDB. It reads the three tables and nothing else: no file, no network, no setting."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, EvidenceError, InputError, PrerequisiteError
from draftsmith.lake.places import INSTALL, Place, plainly
from draftsmith.lake.questions import QUESTIONS
from draftsmith.lake.rows import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ROWS = 10_000
LONGEST_S, MEMORY = 120.0, "4GB"  # of one question: somebody's SQL is not to take the machine
OBJECT = re.compile(r"part-[0-9a-f]{64}\.parquet")
UNREADABLE = ("Parquet", "thrift")


class Answer(Frozen):
    """Rows of an answer. `cut`: there were more than are shown."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False
    notes: tuple[str, ...] = ()


def ask(place: Place, question: str, *, most: int = MOST_ROWS) -> Answer:
    """Answer a ready question by name, or SQL over campaigns, arms and pairs.

    Raises InputError for SQL that DuckDB refuses or that takes too long, or a lake that is empty, EvidenceError for a torn
    object, BackendError for a lake that breaks off.
    """
    try:
        import duckdb
        import pyarrow  # noqa: F401  the tables are its own
    except ImportError:
        raise PrerequisiteError("duckdb and pyarrow are needed to ask a lake", INSTALL) from None
    sql = QUESTIONS[question].sql if question in QUESTIONS else question
    if question not in QUESTIONS and " " not in question.strip():
        raise InputError(f"no ready question {question!r}", f"ready: {', '.join(QUESTIONS)}; or give SQL")
    notes = _newer(place)
    connection = duckdb.connect(":memory:")
    try:
        for name, table in _tables(place).items():
            connection.register(name, table)
        for setting in (
            f"memory_limit = '{MEMORY}'",
            "temp_directory = ''",
            "enable_external_access = false",
            "python_enable_replacements = false",
        ):
            connection.execute(f"SET {setting}")
        connection.execute("SET lock_configuration = true")
        with _ended_in_time(connection):
            result = connection.execute(sql)
            if result is None:
                raise InputError("there is no SQL in this", f"ready: {', '.join(QUESTIONS)}; or give SQL")
            columns = tuple(column[0] for column in result.description or ())
            rows = result.fetchmany(most + 1)
    except duckdb.InterruptException:
        raise InputError(
            f"no answer within {LONGEST_S:.0f} s, so the question was ended",
            "ask for less, or read the Parquet yourself",
        ) from None
    except duckdb.Error as problem:
        raise InputError(
            f"DuckDB refuses this: {str(problem).splitlines()[0][:300]}",
            "it reads the tables campaigns, arms and pairs, and nothing else",
        ) from problem
    finally:
        connection.close()
    return Answer(sql=sql, columns=columns, rows=tuple(rows[:most]), cut=len(rows) > most, notes=notes)


@contextmanager
def _ended_in_time(connection: Any) -> Iterator[None]:
    timer = threading.Timer(LONGEST_S, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tables(place: Place) -> dict[str, Any]:
    """The three tables as far as they are whole: what a broken upload left without its campaign is not there yet."""
    import pyarrow as pa
    import pyarrow.compute as pc

    datasets = {name: _dataset(place, name) for name in ("campaigns", "arms", "pairs")}
    try:
        with plainly(place.url):
            campaigns = datasets["campaigns"].to_table()
            finished = pc.SetLookupOptions(campaigns.column("manifest_sha256").combine_chunks())
            here = pc.is_in(pc.field("manifest_sha256"), options=finished)
            return {"campaigns": campaigns} | {name: datasets[name].to_table(filter=here) for name in ("arms", "pairs")}
    except (pa.ArrowInvalid, pa.ArrowKeyError, BackendError) as problem:
        said = str(problem.__cause__ or problem).splitlines()[0][:300]
        if isinstance(problem, BackendError) and not any(words in said for words in UNREADABLE):
            raise
        raise EvidenceError(f"an object of the lake cannot be read: {said}", "publish its bundle again") from problem


def _dataset(place: Place, table: str) -> Any:
    import pyarrow as pa
    from pyarrow import dataset, fs

    from draftsmith.lake.schema import PARTITIONS, schema_of

    root = f"{place.root}/{table}/schema={SCHEMA_VERSION}"
    with plainly(place.url):
        found = place.files.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
        objects = [one.path for one in found if one.is_file and OBJECT.fullmatch(one.base_name)]
        if not objects:
            raise InputError(f"{place.url} holds no campaigns", "publish one: `draftsmith publish --to URL`")
        kinds = pa.schema([(name, kind) for name, kind in PARTITIONS.items() if name != "schema"])
        whole = pa.schema([*schema_of(table), *kinds])
        hive = dataset.HivePartitioning(kinds)
        return dataset.dataset(
            objects, schema=whole, filesystem=place.files, format="parquet", partitioning=hive, partition_base_dir=root
        )


def _newer(place: Place) -> tuple[str, ...]:
    """A note for every version of the tables that this Draftsmith does not know."""
    from pyarrow import fs

    with plainly(place.url):
        found = place.files.get_file_info(fs.FileSelector(f"{place.root}/campaigns", allow_not_found=True))
    names = sorted(entry.base_name for entry in found)
    known = f"schema={SCHEMA_VERSION}"
    return tuple(
        f"{name} is of a newer version and was not read"
        for name in names
        if name.startswith("schema=") and name != known
    )
