"""The command that prints a log as Draftsmith reads it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show

Map = Annotated[
    Path | None, typer.Option("--map", help="TOML file that maps prompt, answer, counts and times to fields of the log")
]


def records(
    sources: Annotated[list[str] | None, typer.Argument(help="access logs: files, folders, globs, URLs or -")] = None,
    format: Annotated[str | None, typer.Option("--format", help="name of the format; default: detected")] = None,
    map: Map = None,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="print the lines that gave no record or lost a field, with the reason")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="maximum number of records", min=1)] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="output file; default: standard output")] = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Print a log as Draftsmith reads it: one JSON record per line (messages, answer, reasoning, calls, counts, times, parameters).

    The lines are a native log, so that with --out a log of any kind becomes one that all other commands read. With --skipped
    it prints the rest: where, why, and the line itself. With --json they are the `rows` of one JSON value, beside the counts.
    """
    from draftsmith.api.records import Understood, rows
    from draftsmith.api.settings import sources_of

    counts = Understood()
    selected = rows(
        sources_of(o.configuration(config), sources), format_of(format, map), counts, skipped=skipped, limit=limit
    )
    first = next(selected, None)  # a log that cannot be read is said before a file is touched
    every = chain([first] if first is not None else [], selected)
    if out is not None:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            _lines(every, file)
        show({**counts.as_json(), "written": str(out)}, f"{counts.sentence()}\nwritten to {out}")
        return
    try:
        if json:
            _value(every, counts, sys.stdout.buffer)
        else:
            _lines(every, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader closed the pipe. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if not json:
        print(counts.sentence(), file=sys.stderr)


def _lines(rows: Iterable[Any], file: IO[bytes]) -> None:
    import orjson

    for row in rows:
        file.write(orjson.dumps(row) + b"\n")


def _value(rows: Iterable[Any], counts: Any, file: IO[bytes]) -> None:
    """One JSON value, written as the rows come: a log may be larger than memory."""
    import orjson

    file.write(b'{"rows": [')
    for number, row in enumerate(rows):
        file.write((b",\n" if number else b"\n") + orjson.dumps(row))
    file.write(b"\n], " + orjson.dumps(counts.as_json())[1:] + b"\n")


def format_of(format: str | None, map: Path | None) -> str | None:
    """The name of the format to read by: the mapping's, where one is given."""
    return f"map:{map}" if map is not None else format
