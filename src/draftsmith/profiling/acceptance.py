"""Expected acceptance of the methods that need no training: sampled requests replayed, class by class.

Routes are estimated from the same replay: a request counts for its class and for its route. So what a route's suffix decoding
remembers are earlier answers of the class, whichever route they took.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from draftsmith.contract.profile import ExpectedAcceptance
from draftsmith.profiling.observe import Sample
from draftsmith.profiling.simulate import SimCounts, simulate_ngram_many, simulate_suffix_many
from draftsmith.traffic.classes import CLASSES

NGRAM_K = (3, 5)
LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 5}
SUFFIX_K = 16
MIN_OUTPUT_TOKENS = 200
OTHERS = "(others)"

_Run = tuple[Literal["ngram", "suffix"], int]


@dataclass(frozen=True)
class Expected:
    """Expected acceptance of the whole traffic, and of every class and route with enough sampled answers to tell."""

    overall: tuple[ExpectedAcceptance, ...] = ()
    by_class: dict[str, tuple[ExpectedAcceptance, ...]] = field(default_factory=dict)
    by_route: dict[str, tuple[ExpectedAcceptance, ...]] = field(default_factory=dict)


def expected(samples: Sequence[Sample], routes: Collection[str] = ()) -> Expected:
    """Replay the samples that have token ids of both sides. They were taken at random, so they weigh the classes rightly.

    `routes`: names that the profile knows; samples of further routes count as OTHERS, those without one for none.
    """
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        if not sample.words and len(sample.prompt) and len(sample.output) > 1:
            grouped.setdefault(CLASSES[sample.code], []).append(sample)
    total: dict[_Run, SimCounts] = {}
    calm: dict[_Run, SimCounts] = {}
    looped: dict[_Run, SimCounts] = {}
    by_class: dict[str, dict[_Run, SimCounts]] = {}
    by_route: dict[str, dict[_Run, SimCounts]] = {}
    for name, group in grouped.items():
        for run, each in _replays([(item.prompt, item.output) for item in group]).items():
            for sample, counts in zip(group, each, strict=True):
                tables = [total, by_class.setdefault(name, {})]
                if sample.route:
                    tables.append(by_route.setdefault(sample.route if sample.route in routes else OTHERS, {}))
                for table in tables:
                    table[run] = table.get(run, SimCounts()) + counts
                if sample.looped:
                    looped[run] = looped.get(run, SimCounts()) + counts
                else:
                    calm[run] = calm.get(run, SimCounts()) + counts
    return Expected(_measured(total, calm if looped else {}), _told(by_class), _told(by_route))


def _told(groups: dict[str, dict[_Run, SimCounts]]) -> dict[str, tuple[ExpectedAcceptance, ...]]:
    return {name: measured for name, runs in groups.items() if (measured := _measured(runs))}


def _replays(pairs: list[tuple[Any, Any]]) -> dict[_Run, list[SimCounts]]:
    """What each pair gave, under every method."""
    low, high = LOOKUP["prompt_lookup_min"], LOOKUP["prompt_lookup_max"]
    result: dict[_Run, list[SimCounts]] = {
        ("ngram", k): simulate_ngram_many(pairs, k=k, lookup_min=low, lookup_max=high) for k in NGRAM_K
    }
    result["suffix", SUFFIX_K] = simulate_suffix_many(pairs, k=SUFFIX_K)
    return result


def _measured(runs: dict[_Run, SimCounts], calm: dict[_Run, SimCounts] | None = None) -> tuple[ExpectedAcceptance, ...]:
    """`calm`: the same without answers that loop, where some do."""
    rest = calm or {}
    return tuple(
        ExpectedAcceptance(
            method=method,
            num_speculative_tokens=k,
            acceptance_length=counts.acceptance_length,
            tokens_per_step=counts.tokens_per_step,
            without_loops=rest[method, k].tokens_per_step if (method, k) in rest else None,
            draft_rate=counts.draft_rate,
            settings=dict(LOOKUP) if method == "ngram" else {"approximated": True},
            output_tokens=counts.output_tokens,
        )
        for (method, k), counts in runs.items()
        if counts.output_tokens >= MIN_OUTPUT_TOKENS
    )
