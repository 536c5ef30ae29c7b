"""Batch prompts and batch answers live in two files. Prompts wait in a temporary database on disk until answers come."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import orjson

from draftsmith.traffic.importers.base import Fields


class Pairing:
    """Joins by `custom_id` with bounded memory. The database is unnamed: the system removes it with the process."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("create table prompts (id text primary key, fields blob)")

    def add(self, fields: Fields) -> bool:
        """Keep a prompt. False if its id was there already."""
        try:
            self._database.execute("insert into prompts values (?, ?)", (str(fields["pair_key"]), orjson.dumps(fields)))
        except sqlite3.IntegrityError:
            return False
        return True

    def join(self, answer: Fields) -> Fields:
        """The answer with its prompt, if the prompt is here; its parameters and messages come from the prompt."""
        key = str(answer["pair_key"])
        row = self._database.execute("select fields from prompts where id = ?", (key,)).fetchone()
        if row is None:
            return answer
        self._database.execute("delete from prompts where id = ?", (key,))
        return {**orjson.loads(row[0]), **{name: value for name, value in answer.items() if value}}

    def rest(self) -> Iterator[Fields]:
        """Prompts that nobody answered."""
        for (row,) in self._database.execute("select fields from prompts"):
            yield orjson.loads(row)

    def close(self) -> None:
        """Free the database."""
        self._database.close()
