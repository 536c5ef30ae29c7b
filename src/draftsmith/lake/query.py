"""SQL over a lake, through DuckDB. It reads the three tables and nothing else: no file, no network, no setting."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import InputError, PrerequisiteError
from draftsmith.lake.contents import contents
from draftsmith.lake.places import INSTALL, Place
from draftsmith.lake.questions import QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ROWS = 10_000
LONGEST_S, MEMORY = 120.0, "4GB"  # of one question: somebody's SQL is not to take the machine
MANY_LOOSE = 500


class Answer(Frozen):
    """Rows of an answer. `cut`: there were more than are shown."""

    model_config = Frozen.model_config | {"ser_json_bytes": "base64"}  # SQL may give bytes that are no text

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
    contents_read = contents(place)
    notes = contents_read.notes
    if contents_read.loose > MANY_LOOSE:
        notes += (
            f"{contents_read.loose} campaigns are in no snapshot: `draftsmith lake compact --at URL` makes questions fast",
        )
    connection = duckdb.connect(":memory:")
    try:
        for name, table in contents_read.tables.items():
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
