"""corpus/: rows of engine token ids with a loss mask, and the manifest that describes them.

    corpus/
      rows.parquet     columns below, one row a request
      manifest.json    CorpusManifest, written last
      token_freq.parquet   token_id, count (answers of the training split), validation, heldout (answers), prompt (training)

Columns of rows.parquet: row (int), id, conversation, split ('train' | 'validation' | 'heldout'), content_class, time_s (nullable),
input_ids (list<int32>, prompt then answer, the engine's own ids), prompt_tokens (int: the loss mask is 0 before it and 1
from it on), weight (float: how much a training row counts for the corpus to have the profile's mix; 1 elsewhere), params (JSON text of the sampling parameters), messages (JSON text; held-out rows need it to be replayed;
null in zero-retention mode).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen


class SplitCounts(Frozen):
    """Size of one split."""

    rows: int
    prompt_tokens: int
    answer_tokens: int


class DraftVocabulary(Frozen):
    """The reduced vocabulary of the draft. `coverage` is the share of answer tokens it holds, per split."""

    size: int
    distinct_answer_tokens: int
    coverage: dict[str, float]
    sha256: str = Field(description="of the sorted token ids")


class CorpusManifest(Frozen):
    """manifest.json of a corpus."""

    schema_: Literal["draftsmith_corpus_v1"] = Field("draftsmith_corpus_v1", alias="schema")
    target_sha256: str
    tokenizer_sha256: str
    profile_sha256: str | None = None
    rows_sha256: str
    splits: dict[str, SplitCounts]
    vocabulary: DraftVocabulary | None = None
    dropped: dict[str, int] = Field(default_factory=dict, description="reason -> rows refused")
    cut: dict[str, int] = Field(default_factory=dict, description="reason -> rows shortened")
    regenerated: int = Field(0, description="answers made anew by the target")
    class_weights: dict[str, float] = Field(
        default_factory=dict, description="what a training row of each class counts for the profile's class mix"
    )
    length_weights: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="`input` and `output`: bucket of tokens -> mean weight of its training rows, matched together with the classes",
    )
    max_length: int
    split_by: tuple[str, ...] = ("conversation", "time")
    seed: int = 0
    capture_bytes_estimate: int = Field(0, description="hidden states that capturing train and validation will take")
    draftsmith_version: str = ""

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
