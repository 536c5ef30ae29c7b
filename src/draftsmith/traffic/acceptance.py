"""Expected acceptance of the methods that need no training: sampled requests replayed, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draftsmith.contract.profile import ExpectedAcceptance
from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.observe import Sample
from draftsmith.traffic.simulate import SimCounts, simulate_ngram_many, simulate_suffix_many

NGRAM_K = (3, 5)
LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
SUFFIX_K = 16
MIN_OUTPUT_TOKENS = 200


def expected_by_class(samples: Sequence[Sample]) -> dict[str, tuple[ExpectedAcceptance, ...]]:
    """Class -> what n-gram lookup and suffix decoding would reach. Samples without ids of both sides do not count."""
    usable = [one for one in samples if not one.words and len(one.prompt) and len(one.output) > 1]
    grouped: dict[str, list[Sample]] = {}
    for one in usable:
        grouped.setdefault(CLASSES[one.code], []).append(one)
    found = {}
    for name, mine in grouped.items():
        rows = tuple(_measured(*one) for one in _replays([(sample.prompt, sample.output) for sample in mine]))
        if rows and rows[0].output_tokens >= MIN_OUTPUT_TOKENS:
            found[name] = rows
    return found


def _replays(pairs: list[tuple[Any, Any]]) -> list[tuple[str, int, dict[str, Any], SimCounts]]:
    low, high = LOOKUP["prompt_lookup_min"], LOOKUP["prompt_lookup_max"]
    runs: list[tuple[str, int, dict[str, Any], list[SimCounts]]] = [
        ("ngram", k, dict(LOOKUP), simulate_ngram_many(pairs, k=k, lookup_min=low, lookup_max=high)) for k in NGRAM_K
    ]
    runs.append(("suffix", SUFFIX_K, {"approximated": True}, simulate_suffix_many(pairs, k=SUFFIX_K)))
    return [(name, k, settings, sum(counts, SimCounts())) for name, k, settings, counts in runs]


def _measured(name: str, k: int, settings: dict[str, Any], counts: SimCounts) -> ExpectedAcceptance:
    return ExpectedAcceptance(
        method="ngram" if name == "ngram" else "suffix",
        num_speculative_tokens=k,
        acceptance_length=counts.acceptance_length,
        tokens_per_step=counts.tokens_per_step,
        draft_rate=counts.draft_rate,
        settings=settings,
        output_tokens=counts.output_tokens,
    )


def pooled(by_class: dict[str, tuple[ExpectedAcceptance, ...]]) -> tuple[ExpectedAcceptance, ...]:
    """The whole traffic. Samples are taken at random over the log, so their tokens weigh the classes as the log does."""
    rows = [row for found in by_class.values() for row in found]
    kinds = dict.fromkeys((row.method, row.num_speculative_tokens) for row in rows)
    return tuple(_pool([row for row in rows if (row.method, row.num_speculative_tokens) == kind]) for kind in kinds)


def _pool(rows: list[ExpectedAcceptance]) -> ExpectedAcceptance:
    """Pool by steps: tokens / tokens-per-step gives the steps back, their draft rate the drafts."""
    steps = [row.output_tokens / (row.tokens_per_step or 1.0) for row in rows]
    drafts = [at * (row.draft_rate or 0.0) for at, row in zip(steps, rows, strict=True)]
    accepted = [at * ((row.acceptance_length or 1.0) - 1) for at, row in zip(drafts, rows, strict=True)]
    total, drafted, won = sum(steps), sum(drafts), sum(accepted)
    return rows[0].model_copy(
        update={
            "acceptance_length": 1 + won / drafted if drafted else None,
            "tokens_per_step": 1 + won / total if total else None,
            "draft_rate": drafted / total if total else None,
            "output_tokens": sum(row.output_tokens for row in rows),
        }
    )
