"""Public prompts in place of traffic of which only lengths and classes are known: weights, and prompts drawn by them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.corpus.matching import choose, plan_public_mix, quotas
from draftsmith.corpus.rows import content_class
from draftsmith.kit.files import write_atomic
from draftsmith.traffic.importers import read_records
from draftsmith.traffic.tokens import Counter


@dataclass(frozen=True)
class Mix:
    """The plan (see `matching.plan_public_mix`) and how many requests of each set are there and were drawn."""

    plan: dict[str, Any]
    available: dict[str, int]
    drawn: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """All of it as one JSON value."""
        return self.plan | {"available": self.available, "drawn": self.drawn}


def plan_mix(
    profile: WorkloadProfile,
    sets: Mapping[str, str],
    counter: Counter | None,
    *,
    prompts: Path | None = None,
    rows: int = 0,
    seed: int = 0,
) -> Mix:
    """Weights over `sets` (name -> file, folder, glob or URL in any known format); with `prompts`, `rows` of them drawn.

    The drawn prompts are lines that `replay` reads, so that the target answers them. Raises InputError for a set that
    cannot be read or has no lengths, for more rows than there are, and when there is nothing to match.
    """
    known = {name: [_measured(record, counter) for record in _requests(source)] for name, source in sets.items()}
    plan = plan_public_mix(profile, known)
    available = {name: len(rows_known) for name, rows_known in known.items()}
    if prompts is None:
        return Mix(plan, available, {})
    wanted = _counts(plan["weights"], available, rows)
    limit = profile.output_tokens.p99
    lines = [
        line
        for name, count in wanted.items()
        for line in _lines(name, sets[name], available[name], count, seed, math.ceil(limit) if limit else None)
    ]
    write_atomic(prompts, b"".join(lines))
    return Mix(plan, available, wanted)


def _counts(weights: Mapping[str, float], available: Mapping[str, int], rows: int) -> dict[str, int]:
    usable = {name: available[name] for name, weight in weights.items() if weight > 0}
    if rows > sum(usable.values()):
        raise InputError(
            f"{rows} prompts were asked for, and the sets with a weight hold {sum(usable.values())}",
            "ask for fewer with --rows, or name larger sets",
        )
    # quotas() takes a weight per row; what is planned are shares of the whole.
    taken = quotas(usable, {name: weights[name] / count for name, count in usable.items()}, rows)
    return {name: count for name, count in taken.items() if count}


def _requests(source: str) -> Iterator[AccessRecord]:
    return (record for record in read_records([source]) if record.messages)


def _measured(record: AccessRecord, counter: Counter | None) -> dict[str, Any]:
    prompt, answer = record.usage.prompt_tokens, record.usage.completion_tokens
    if counter is not None:
        prompt = prompt if prompt is not None else counter.count(counter.render(record.messages or ()))
        answer = answer if answer is not None else counter.count(record.completion) if record.completion else None
    if prompt is None:
        raise InputError("a public set has no token counts, and no tokenizer was given", "give --target or --tokenizer")
    return {"prompt_tokens": prompt, "answer_tokens": answer, "content_class": content_class(record)}


def _lines(name: str, source: str, available: int, count: int, seed: int, limit: int | None) -> Iterator[bytes]:
    drawn = set(choose([name] * available, [f"{name}/{place}" for place in range(available)], count, seed))
    for place, record in enumerate(_requests(source)):
        if place in drawn:
            line: dict[str, Any] = {"id": f"{name}-{place}", "route": name, "messages": record.messages}
            yield orjson.dumps(line | ({"max_tokens": limit} if limit else {})) + b"\n"
