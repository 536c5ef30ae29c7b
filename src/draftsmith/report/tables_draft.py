"""Tables of the corpus and of the draft."""

from __future__ import annotations

from draftsmith.report.cells import Table, table, word
from draftsmith.report.numbers import DASH, count, percent, significant
from draftsmith.report.parts import ReportParts


def corpus(parts: ReportParts) -> Table | None:
    """The splits of the corpus."""
    if parts.corpus is None:
        return None
    coverage = parts.corpus.vocabulary.coverage if parts.corpus.vocabulary else {}
    rows = [
        (name, count(s.rows), count(s.prompt_tokens), count(s.answer_tokens), percent(coverage.get(name), 4))
        for name, s in parts.corpus.splits.items()
    ]
    return table(("split", "rows", "prompt tokens", "answer tokens", "draft vocabulary holds"), rows, (1, 2, 3, 4))


def corpus_facts(parts: ReportParts) -> Table | None:
    """What was refused, cut, made anew, and how the split was drawn."""
    manifest = parts.corpus
    if manifest is None:
        return None
    rows: list[tuple[str, str]] = [(f"refused: {reason}", f"{count(n)} rows") for reason, n in manifest.dropped.items()]
    rows += [(f"cut: {reason}", f"{count(n)} rows") for reason, n in manifest.cut.items()]
    if manifest.regenerated:
        rows.append(("answers made anew by the target", f"{count(manifest.regenerated)} rows"))
    if manifest.vocabulary:
        v = manifest.vocabulary
        rows.append(("draft vocabulary", f"{count(v.size)} tokens"))
        rows.append(("distinct answer tokens", f"{count(v.distinct_answer_tokens)} tokens"))
    rows.append(("longest row", f"{count(manifest.max_length)} tokens"))
    rows.append(("split by", " and ".join(manifest.split_by)))
    if manifest.capture_bytes_estimate:
        rows.append(("hidden states to capture", f"{significant(manifest.capture_bytes_estimate / 1e9)} GB"))
    return table(("fact", "value"), rows, (1,))


def draft(parts: ReportParts) -> Table | None:
    """The draft's own facts."""
    manifest = parts.draft
    if manifest is None:
        return None
    rows = [
        ("method", manifest.method),
        (
            "target layers read",
            f"{', '.join(map(str, manifest.layer_ids))} ({manifest.layer_convention.replace('_', ' ')})",
        ),
        ("hidden size", count(manifest.hidden_size)),
        (
            "vocabulary, draft of target",
            f"{count(manifest.draft_vocab_size)} of {count(manifest.target_vocab_size)} tokens",
        ),
        ("own embeddings / own output head", f"{word(manifest.has_own_embeddings)} / {word(manifest.has_own_lm_head)}"),
        ("trainer", manifest.trainer),
        ("chosen epoch", DASH if manifest.epoch is None else str(manifest.epoch + 1)),
        ("validation acceptance by position", ", ".join(percent(a) for a in manifest.validation_acceptance) or DASH),
        ("tokens trained on", count(manifest.trained_tokens)),
        ("started from", manifest.warm_start_from or "nothing"),
        ("weights, sha256", f"{manifest.weights_sha256[:16]}…" if manifest.weights_sha256 else DASH),
    ]
    return table(("fact", "value"), rows)
