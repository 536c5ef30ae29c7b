"""SQL over a lake, through DuckDB. It reads the three tables and nothing else: no file, no network, no setting."""

from __future__ import annotations

from typing import Any

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import EvidenceError, InputError, PrerequisiteError
from draftsmith.lake.places import INSTALL, Place, plainly
from draftsmith.lake.questions import QUESTIONS
from draftsmith.lake.rows import SCHEMA_VERSION

MOST_ROWS = 10_000


class Answer(Frozen):
    """Rows of an answer. `cut`: there were more than are shown."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    cut: bool = False
    notes: tuple[str, ...] = ()


def ask(place: Place, question: str, *, most: int = MOST_ROWS) -> Answer:
    """Answer a ready question by name, or SQL over campaigns, arms and pairs.

    Raises InputError for SQL that DuckDB refuses or a lake that is empty, EvidenceError for a torn object.
    """
    try:
        import duckdb
        import pyarrow as pa
    except ImportError:
        raise PrerequisiteError("duckdb and pyarrow are needed to ask a lake", INSTALL) from None
    sql = QUESTIONS[question].sql if question in QUESTIONS else question
    if question not in QUESTIONS and " " not in question.strip():
        raise InputError(f"no ready question {question!r}", f"ready: {', '.join(QUESTIONS)}; or give SQL")
    notes = _newer(place)
    connection = duckdb.connect(":memory:")
    try:
        tables = {name: _dataset(place, name) for name in ("campaigns", "arms", "pairs")}
        campaigns = tables["campaigns"].to_table()
        finished = pa.compute.SetLookupOptions(campaigns.column("manifest_sha256").combine_chunks())
        connection.register("campaigns", campaigns)
        for name in ("arms", "pairs"):  # what a broken upload left without its campaign is not there yet
            here = pa.compute.is_in(pa.compute.field("manifest_sha256"), options=finished)
            connection.register(name, tables[name].to_table(filter=here))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        result = connection.execute(sql)
        columns = tuple(column[0] for column in result.description or ())
        rows = result.fetchmany(most + 1)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as problem:
        said = str(problem).splitlines()[0][:300]
        raise EvidenceError(f"an object of the lake cannot be read: {said}", "publish its bundle again") from problem
    except duckdb.Error as problem:
        raise InputError(
            f"DuckDB refuses this: {str(problem).splitlines()[0][:300]}",
            "it reads the tables campaigns, arms and pairs, and nothing else",
        ) from problem
    finally:
        connection.close()
    return Answer(sql=sql, columns=columns, rows=tuple(rows[:most]), cut=len(rows) > most, notes=notes)


def _dataset(place: Place, table: str) -> Any:
    import pyarrow as pa
    from pyarrow import dataset

    from draftsmith.lake.schema import PARTITIONS, schema_of

    root = f"{place.root}/{table}/schema={SCHEMA_VERSION}"
    with plainly(place.url):
        if place.files.get_file_info(root).type.name == "NotFound":
            raise InputError(f"{place.url} holds no campaigns", "publish one: `draftsmith publish --to URL`")
        kinds = pa.schema([(name, kind) for name, kind in PARTITIONS.items() if name != "schema"])
        whole = pa.schema([*schema_of(table), *kinds])
        hive = dataset.HivePartitioning(kinds)
        return dataset.dataset(
            root, schema=whole, filesystem=place.files, format="parquet", partitioning=hive, exclude_invalid_files=False
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
