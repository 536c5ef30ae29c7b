"""Building corpus/: from access records to rows of the engine's own token ids, split, cleaned and described.

Law: an answer is never rendered or tokenised again. A record whose ids are missing goes back to the target (see
`needs_answers`), or is left out and counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import draftsmith
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.corpus import CorpusManifest, SplitCounts
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.corpus.answers import Sorted, answered, needs_answers, triage
from draftsmith.corpus.reading import COLUMNS, CorpusRow, iter_rows, open_corpus
from draftsmith.corpus.rows import REASONS, Limits, Refused, Row, to_row
from draftsmith.corpus.selection import Decision, Progress, select
from draftsmith.corpus.spill import Spill, concatenate, workshop, write_frame
from draftsmith.corpus.splits import SPLITS, TRAIN, VALIDATION
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.corpus.vocabulary import Counts, choose_draft_vocab
from draftsmith.kit.files import sha256_file, write_json

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CorpusRow",
    "Sorted",
    "answered",
    "build_corpus",
    "iter_rows",
    "needs_answers",
    "open_corpus",
    "storage_estimate",
    "triage",
]

FILES = ("rows.parquet", "token_freq.parquet", "manifest.json")  # in the order they are put in place
CHECKED_ANSWERS = 64
PROMPT = "prompt"
Check = Callable[[Row], Row | str]  # the row (perhaps with other names), or a reason to drop it


def storage_estimate(tokens: int, layers: int, hidden_size: int, state_bytes: int = 2) -> int:
    """Bytes of captured hidden states: tokens x layers x hidden size x bytes an element."""
    return tokens * layers * hidden_size * state_bytes


def build_corpus(
    records: Iterable[AccessRecord],
    out: Path,
    *,
    target: TargetFacts,
    tokenizer_path: Path,
    config: CorpusConfig,
    profile: WorkloadProfile | None = None,
    layers: int = 4,
    state_bytes: int = 2,
    check: Check | None = None,
    dropped: Mapping[str, int] | None = None,
    regenerated: int = 0,
    hard_share: float = 0.0,
    mined: Iterable[AccessRecord] = (),
    draft_vocab: int | None = None,
    on_progress: Progress | None = None,
) -> CorpusManifest:
    """Write `out`/{rows.parquet, token_freq.parquet, manifest.json}; the same input gives the same bytes.

    `layers`: hidden states captured a token. `check`: a further test of each row (see redaction.Redactor.check).
    `dropped` and `regenerated` are carried over from `needs_answers` and the replay. `hard_share`: with max_rows, the part of the
    training rows that goes to the least accepted requests. `mined`: further records that may train and nothing else:
    they were chosen for being hard, so they say nothing about the traffic. `on_progress(stage, done, total)`; total 0 = not known.
    Raises InputError (empty log, nothing usable, wrong tokenizer, too few conversations) or PrerequisiteError (disk
    full); an earlier corpus in `out` then stays as it was.
    """
    report = on_progress or (lambda stage, done, total: None)
    tokens = TargetTokens(tokenizer_path, target)
    zero = config.retention == "zero"
    limits = Limits(target.vocab_size, min(config.max_length, target.max_position_embeddings), keep_text=not zero)
    counts = _Counts(Counter(dropped or {}), Counter())
    with workshop(out) as shop:
        spill = _gather(records, Spill(shop / "rows"), limits, tokens, check, counts, report)
        drawn = spill.rows
        _add(mined, spill, limits, check, counts)
        decision = select(
            spill,
            config,
            specials=tokens.specials,
            profile=profile,
            hard_share=hard_share,
            drawn=drawn,
            on_progress=report,
        )  # fmt: skip
        freq, sizes = _write_rows(spill, decision, shop, target.vocab_size, report)
        _write_freq(freq, shop / "token_freq.parquet")
        captured = sum(s.prompt_tokens + s.answer_tokens for name, s in sizes.items() if name in (TRAIN, VALIDATION))
        _, vocabulary = choose_draft_vocab(
            freq,
            target.vocab_size,
            min_coverage=config.min_vocab_coverage,
            size=draft_vocab,
            always=tokens.specials,
            at_least=config.min_draft_vocab,
        )
        manifest = CorpusManifest(
            target_sha256=target.sha256,
            tokenizer_sha256=target.tokenizer_sha256,
            profile_sha256=profile.sha256 or None if profile else None,
            rows_sha256=sha256_file(shop / "rows.parquet"),
            splits=sizes,
            vocabulary=vocabulary,
            dropped=dict(sorted((counts.dropped + decision.dropped).items())),
            cut=dict(sorted(counts.cut.items())),
            regenerated=regenerated,
            class_weights=decision.class_weights,
            length_weights=decision.length_weights,
            max_length=limits.max_length,
            seed=config.seed,
            capture_bytes_estimate=storage_estimate(captured, layers, target.hidden_size, state_bytes),
            draftsmith_version=draftsmith.__version__,
        )
        write_json(shop / "manifest.json", manifest)
        _put_in_place(shop, out)
    return manifest


@dataclass(frozen=True)
class _Counts:
    dropped: Counter[str]
    cut: Counter[str]


def _gather(
    records: Iterable[AccessRecord],
    spill: Spill,
    limits: Limits,
    tokens: TargetTokens,
    check: Check | None,
    counts: _Counts,
    report: Progress,
) -> Spill:
    """Spill every usable row. Raises InputError if there is none, or the ids are not this target's."""
    seen, agree = 0, Counter[bool | None]()
    before = counts.dropped.total()
    for seen, record in enumerate(records, start=1):
        added = _add([record], spill, limits, check, counts)
        if added and agree[True] + agree[False] < CHECKED_ANSWERS:
            agree[tokens.made_here(record)] += 1
        if seen % 1000 == 0:
            report("rows", seen, 0)
    spill.flush()
    _same_target(seen, counts.dropped, agree)
    if not spill.rows:
        raise _nothing_usable(seen, counts.dropped, before)
    return spill


def _add(records: Iterable[AccessRecord], spill: Spill, limits: Limits, check: Check | None, counts: _Counts) -> int:
    """Spill the usable ones of `records`; returns how many."""
    before = spill.rows
    for record in records:
        row = to_row(record, limits)
        checked = check(row) if check and isinstance(row, Row) else row
        if isinstance(checked, Refused | str):
            counts.dropped[checked if isinstance(checked, str) else checked.reason] += 1
        else:
            spill.add(checked)
            counts.cut.update([checked.cut] if checked.cut else [])
    return spill.rows - before


def _same_target(seen: int, dropped: Counter[str], agree: Counter[bool | None]) -> None:
    if dropped["id_out_of_vocabulary"] * 2 > seen or agree[False] > agree[True]:
        raise InputError(
            "the token ids in the log do not belong to this target: they lie outside its vocabulary, or its tokenizer "
            "reads another text from them than the log holds",
            "check that target is the model that was served, or set corpus.regenerate = 'always'",
        )


def _nothing_usable(seen: int, dropped: Counter[str], before: int) -> InputError:
    if not seen and not before:
        return InputError("the log holds no request", "check the path of the log, or record traffic first")
    reasons = "; ".join(f"{count} x {REASONS.get(name, name)}" for name, count in dropped.most_common())
    return InputError(
        f"no request of the log can be used: {reasons}",
        "let the target answer the prompts again (corpus.regenerate = 'auto'), or record with token ids",
    )


def _write_rows(
    spill: Spill, decision: Decision, shop: Path, vocab_size: int, report: Progress
) -> tuple[dict[str, Counts], dict[str, SplitCounts]]:
    """rows.parquet in the order of the log; returns answer-token counts [vocab_size] and sizes per split."""
    freq: dict[str, Counts] = {name: np.zeros(vocab_size, dtype=np.int64) for name in (*SPLITS, PROMPT)}
    sizes = {name: np.zeros(3, dtype=np.int64) for name in SPLITS}
    parts: list[Path] = []
    written = 0
    for number, chunk in enumerate(spill.chunks()):
        frame = _chosen(chunk, decision, written)
        written += len(frame)
        for name in SPLITS:
            answers, size = _measure(frame, name)
            freq[name] += np.bincount(answers, minlength=vocab_size)
            sizes[name] += size
        freq[PROMPT] += np.bincount(_prompt_ids(frame), minlength=vocab_size)
        parts.append(write_frame(frame, shop / f"part-{number:06d}.parquet"))
        report("writing", written, spill.rows)
    concatenate(parts, shop / "rows.parquet")
    counts = {
        name: SplitCounts(rows=int(n), prompt_tokens=int(p), answer_tokens=int(a)) for name, (n, p, a) in sizes.items()
    }
    return freq, counts


def _chosen(chunk: pl.DataFrame, decision: Decision, written: int) -> pl.DataFrame:
    import polars as pl

    first, last = chunk["seq"][0], chunk["seq"][-1] + 1
    frame = chunk.with_columns(
        pl.Series("id", decision.ids[first:last], dtype=pl.String),
        pl.Series("conversation", decision.conversations[first:last], dtype=pl.String),
        pl.Series("split", decision.splits[first:last], dtype=pl.String),
        pl.Series("weight", decision.weights[first:last], dtype=pl.Float64),
    ).filter(pl.col("split").is_not_null())
    rows = pl.int_range(written, written + pl.len(), dtype=pl.Int64).alias("row")
    return frame.with_columns(rows, pl.col("prompt_tokens").cast(pl.Int32)).select(COLUMNS)


def _measure(frame: pl.DataFrame, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(answer token ids of the split, [rows, prompt tokens, answer tokens])."""
    import polars as pl

    part = frame.filter(pl.col("split") == split)
    prompt = int(part["prompt_tokens"].cast(pl.Int64).sum())
    answers = part.select(pl.col("input_ids").list.slice(pl.col("prompt_tokens")).explode())
    ids = answers["input_ids"].to_numpy().astype(np.int64)
    return ids, np.array([len(part), prompt, len(ids)])


def _prompt_ids(frame: pl.DataFrame) -> NDArray[np.int64]:
    """Token ids of the training prompts."""
    import polars as pl

    part = frame.filter(pl.col("split") == TRAIN)
    prompts = part.select(pl.col("input_ids").list.slice(0, pl.col("prompt_tokens")).explode())
    return prompts["input_ids"].to_numpy().astype(np.int64)


def _write_freq(freq: Mapping[str, Counts], path: Path) -> None:
    import polars as pl

    ids = np.flatnonzero(sum(freq.values()))
    columns = {"token_id": ids, "count": freq["train"][ids]}
    columns |= {name: counts[ids] for name, counts in freq.items() if name != TRAIN}
    write_frame(pl.DataFrame(columns), path)


def _put_in_place(shop: Path, out: Path) -> None:
    # Everything is on disk before the first replacement. A kill between two of them leaves a manifest that does not
    # match its rows, which `open_corpus` refuses.
    for name in FILES:
        with (shop / name).open("rb") as source:
            os.fsync(source.fileno())
    for name in FILES:
        os.replace(shop / name, out / name)
