"""Opening a corpus that was built: verified first, then row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.errors import InputError
from draftsmith.corpus.splits import SPLITS
from draftsmith.kit.files import read_json, sha256_file

COLUMNS = (
    "row", "id", "conversation", "split", "content_class", "time_s", "input_ids", "prompt_tokens", "weight", "params", "messages",
)  # fmt: skip


@dataclass(frozen=True)
class CorpusRow:
    """One row. `input_ids` [T] int32; the loss mask is 0 before `prompt_tokens` and 1 from it on."""

    row: int
    id: str
    conversation: str
    split: str
    content_class: str
    time_s: float | None
    input_ids: NDArray[np.int32]
    prompt_tokens: int
    weight: float
    params: str
    messages: str | None

    @property
    def loss_mask(self) -> NDArray[np.int32]:
        """[T] of 0 (prompt) and 1 (answer)."""
        return (np.arange(len(self.input_ids)) >= self.prompt_tokens).astype(np.int32)


def open_corpus(folder: Path) -> CorpusManifest:
    """The manifest, after the rows were found to match it. Raises InputError if they do not, or there is no corpus."""
    again = "build the corpus again"
    try:
        manifest = CorpusManifest.model_validate(read_json(folder / "manifest.json"))
        actual_sha256 = sha256_file(folder / "rows.parquet")
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise InputError(f"{folder} is not a complete corpus: {missing} is missing", again) from None
    except (ValueError, ValidationError) as error:
        raise InputError(f"the manifest of {folder} cannot be read: {type(error).__name__}", again) from None
    if actual_sha256 != manifest.rows_sha256:
        raise InputError(f"rows.parquet of {folder} is not the file that its manifest describes", again)
    return manifest


def iter_rows(folder: Path, split: str | None = None, *, batch: int = 4096) -> Iterator[CorpusRow]:
    """Rows of one split (or all) in file order; memory stays at one batch. Does not verify: see `open_corpus`."""
    import polars as pl

    if split is not None and split not in SPLITS:
        raise InputError(f"{split!r} is not a split", f"use one of {', '.join(SPLITS)}")
    scan = pl.scan_parquet(folder / "rows.parquet")
    if "weight" not in scan.collect_schema():  # built before rows had one
        scan = scan.with_columns(weight=pl.lit(1.0))
    scan = scan.select(COLUMNS)
    total = int(scan.select(pl.len()).collect().item())
    for start in range(0, total, batch):
        frame = scan.slice(start, batch).collect()
        if split is not None:
            frame = frame.filter(pl.col("split") == split)
        for values in frame.iter_rows(named=True):
            yield _row(values)


def _row(values: dict[str, Any]) -> CorpusRow:
    return CorpusRow(**{**values, "input_ids": np.asarray(values["input_ids"], dtype=np.int32)})
