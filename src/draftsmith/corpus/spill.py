"""Rows on disk while a corpus is built: memory stays at one chunk and a few numbers per row."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.corpus.rows import Ids, Row, key64
from draftsmith.kit.files import PRIVATE_DIR, PRIVATE_FILE, private_dir

if TYPE_CHECKING:
    import polars as pl

CHUNK_ROWS = 16_384
CHUNK_TOKENS = 8_000_000
ROW_GROUP = 4_096  # fixed, so that the same rows give the same bytes whatever the number of threads

NUMBERS = (
    "seq", "id", "conversation", "content_class", "time_s", "prompt_tokens", "answer_tokens",
    "own_key", "parent_keys", "by_tokens", "prompt_key", "row_key", "acceptance",
)  # fmt: skip


def schema() -> dict[str, pl.DataType]:
    """Columns of a chunk."""
    import polars as pl

    return {
        "seq": pl.Int64(),
        "id": pl.String(),
        "conversation": pl.String(),
        "content_class": pl.String(),
        "time_s": pl.Float64(),
        "input_ids": pl.List(pl.Int32()),
        "prompt_tokens": pl.Int64(),
        "answer_tokens": pl.Int64(),
        "params": pl.String(),
        "messages": pl.String(),
        "own_key": pl.Int64(),
        "parent_keys": pl.List(pl.Int64()),
        "by_tokens": pl.Boolean(),
        "prompt_key": pl.Int64(),
        "row_key": pl.Int64(),
        "acceptance": pl.Float64(),
    }


class Spill:
    """Append rows; read them back a chunk at a time, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_dir(folder)
        self.rows = 0
        self.tokens = 0
        self._pending: list[Row] = []
        self._pending_tokens = 0
        self._chunks: list[Path] = []

    def add(self, row: Row) -> None:
        """Keep one row; writes a chunk when enough have gathered."""
        self._pending.append(row)
        self._pending_tokens += len(row.input_ids)
        self.rows += 1
        self.tokens += len(row.input_ids)
        if len(self._pending) >= CHUNK_ROWS or self._pending_tokens >= CHUNK_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        if not self._pending:
            return
        frame = _frame(self._pending, first=self.rows - len(self._pending))
        path = self.folder / f"chunk-{len(self._chunks):06d}.parquet"
        write_frame(frame, path)
        self._chunks.append(path)
        self._pending, self._pending_tokens = [], 0

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Every chunk in order, whole."""
        import polars as pl

        self.flush()
        for path in self._chunks:
            yield pl.read_parquet(path)

    def numbers(self) -> pl.DataFrame:
        """One line a row without its tokens and text: everything that decisions need."""
        import polars as pl

        self.flush()
        return pl.concat([pl.read_parquet(path, columns=list(NUMBERS)) for path in self._chunks])


def _frame(rows: list[Row], first: int) -> pl.DataFrame:
    import polars as pl

    columns: dict[str, list[Any]] = {name: [] for name in schema()}
    for place, row in enumerate(rows, start=first):
        prompt = row.input_ids[: row.prompt_tokens].tobytes()
        values = (
            place, row.id, row.conversation, row.content_class, row.time_s, row.input_ids, row.prompt_tokens,
            len(row.input_ids) - row.prompt_tokens, row.params, row.messages, row.own_key, list(row.parent_keys),
            row.by_tokens, key64(prompt), key64(row.prompt_tokens.to_bytes(8, "big") + row.input_ids.tobytes()), row.acceptance,
        )  # fmt: skip
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return pl.DataFrame(columns, schema=schema())


def ragged(frame: pl.DataFrame) -> tuple[Ids, NDArray[np.int64]]:
    """(all input_ids of the frame in one array, where each row starts, and the end): row i is flat[at[i] : at[i + 1]]."""
    flat = frame["input_ids"].explode().to_numpy().astype(np.int32, copy=False)
    return flat, np.concatenate([[0], np.cumsum(frame["input_ids"].list.len().to_numpy(), dtype=np.int64)])


def write_frame(frame: pl.DataFrame, path: Path) -> Path:
    """Write one private Parquet file with fixed settings."""
    path.touch(mode=PRIVATE_FILE)
    frame.write_parquet(path, compression="zstd", row_group_size=ROW_GROUP)
    return path


def concatenate(parts: list[Path], path: Path) -> Path:
    """Join Parquet files of one schema into one, streaming; rows keep their order, bytes do not depend on threads."""
    import polars as pl

    path.touch(mode=PRIVATE_FILE)
    pl.scan_parquet(parts).sink_parquet(path, compression="zstd", row_group_size=ROW_GROUP, maintain_order=True)
    return path


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A private folder inside `out` for work in progress; always removed, also what a killed run left there.

    Raises PrerequisiteError when the disk is full.
    """
    private_dir(out).chmod(PRIVATE_DIR)
    folder = out / ".building"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield private_dir(folder)
    except Exception as error:
        if not _disk_full(error):
            raise
        raise PrerequisiteError(
            f"the disk that holds {out} is full; the corpus was not changed",
            f"free space there ({_mib(folder)} MiB were written so far), or point workspace at a larger disk",
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _disk_full(error: Exception) -> bool:
    # Polars reports the operating system's error as text.
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error) or "os error 28" in str(error)


def _mib(folder: Path) -> str:
    return f"{sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 2**20:.1f}"
