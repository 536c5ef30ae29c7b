"""Expected acceptance of the methods that need no training: sampled requests replayed, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from draftsmith.contract.profile import ExpectedAcceptance
from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.observe import Sample
from draftsmith.traffic.simulate import SimCounts, simulate_ngram_many, simulate_suffix_many

NGRAM_K = (3, 5)
LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
SUFFIX_K = 16
MIN_OUTPUT_TOKENS = 200

_Run = tuple[Literal["ngram", "suffix"], int]


@dataclass(frozen=True)
class Expected:
    """Expected acceptance of the whole traffic, and of every class with enough sampled answers to tell."""

    overall: tuple[ExpectedAcceptance, ...] = ()
    by_class: dict[str, tuple[ExpectedAcceptance, ...]] = field(default_factory=dict)


def expected(samples: Sequence[Sample]) -> Expected:
    """Replay the samples that have token ids of both sides. They were taken at random, so they weigh the classes rightly."""
    grouped: dict[str, list[tuple[Any, Any]]] = {}
    for one in samples:
        if not one.words and len(one.prompt) and len(one.output) > 1:
            grouped.setdefault(CLASSES[one.code], []).append((one.prompt, one.output))
    counted = {name: _replays(pairs) for name, pairs in grouped.items()}
    total: dict[_Run, SimCounts] = {}
    for runs in counted.values():
        for run, counts in runs.items():
            total[run] = total.get(run, SimCounts()) + counts
    by_class = {name: found for name, runs in counted.items() if (found := _measured(runs))}
    return Expected(_measured(total), by_class)


def _replays(pairs: list[tuple[Any, Any]]) -> dict[_Run, SimCounts]:
    low, high = LOOKUP["prompt_lookup_min"], LOOKUP["prompt_lookup_max"]
    found: dict[_Run, list[SimCounts]] = {
        ("ngram", k): simulate_ngram_many(pairs, k=k, lookup_min=low, lookup_max=high) for k in NGRAM_K
    }
    found["suffix", SUFFIX_K] = simulate_suffix_many(pairs, k=SUFFIX_K)
    return {run: sum(counts, SimCounts()) for run, counts in found.items()}


def _measured(runs: dict[_Run, SimCounts]) -> tuple[ExpectedAcceptance, ...]:
    return tuple(
        ExpectedAcceptance(
            method=method,
            num_speculative_tokens=k,
            acceptance_length=counts.acceptance_length,
            tokens_per_step=counts.tokens_per_step,
            draft_rate=counts.draft_rate,
            settings=dict(LOOKUP) if method == "ngram" else {"approximated": True},
            output_tokens=counts.output_tokens,
        )
        for (method, k), counts in runs.items()
        if counts.output_tokens >= MIN_OUTPUT_TOKENS
    )
