"""The pinned prompts of a comparison: chosen once, in a stable order, hashed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.base import Frozen, canonical, digest
from draftsmith.contract.errors import InputError
from draftsmith.corpus import matching
from draftsmith.corpus.reading import CorpusRow, iter_rows
from draftsmith.corpus.rows import content_class, key64
from draftsmith.corpus.splits import HELDOUT, VALIDATION, unit_hash
from draftsmith.kit.files import read_lines, write_atomic

LIMITS = ("max_completion_tokens", "max_tokens")


class Prompt(Frozen):
    """One request to replay. Without `messages` (zero retention) the token ids are sent as they are."""

    prompt_id: str
    content_class: str
    messages: list[dict[str, Any]] | None = None
    prompt_token_ids: list[int] | None = Field(None, description="the engine's ids of the rendered prompt, if known")
    params: dict[str, Any] = Field(default_factory=dict, description="sampling parameters as in the log")
    max_tokens: int = Field(description="limit of output tokens")


class PromptSet(Frozen):
    """Prompts in the order they are sent. `sha256` is over the canonical JSON of the list."""

    prompts: tuple[Prompt, ...]
    sha256: str


def heldout_prompts(
    corpus_dir: Path, n: int, seed: int = 0, *, split: str = HELDOUT, max_tokens: int | None = None
) -> PromptSet:
    """`n` prompts of the held-out split (or all, if it has fewer), classes in proportion, one conversation once if possible.

    `max_tokens` overrides the log's limit; without either, the logged answer's length is the limit. Raises InputError
    if the split is empty.
    """
    rows: dict[int, CorpusRow] = {}
    for row in iter_rows(corpus_dir, split):
        rows.setdefault(key64(row.input_ids[: row.prompt_tokens].tobytes()), row)
    fresh = _one_per_conversation(list(rows.values()), n, seed)
    if not fresh:
        raise InputError(f"the {split} split of {corpus_dir} has no rows", "build the corpus again with a larger share")
    chosen = matching.choose([r.content_class for r in fresh], [r.id for r in fresh], n, seed)
    return pinned([_prompt(fresh[place], max_tokens) for place in chosen], seed)


def tuning_prompts(corpus_dir: Path, n: int, seed: int = 0, *, max_tokens: int | None = None) -> PromptSet:
    """Prompts of the validation split, for choices (such as K) that must not see the held-out ones."""
    return heldout_prompts(corpus_dir, n, seed, split=VALIDATION, max_tokens=max_tokens)


def general_prompts(
    records: Iterable[AccessRecord] | None, n: int, seed: int = 0, *, max_tokens: int = 128
) -> PromptSet:
    """Prompts of traffic the draft was not trained for, to see what it forgot; a small built-in set without records."""
    source = [r for r in records if r.messages] if records is not None else _built_in()
    if not source:
        raise InputError("no general prompt has messages", "give a log with messages, or none for the built-in set")
    classes = [content_class(r) for r in source]
    chosen = matching.choose(classes, [r.id for r in source], n, seed)
    return pinned(
        [
            Prompt(
                prompt_id=source[p].id,
                content_class=classes[p],
                messages=source[p].messages,
                params=_sampling(source[p].params),
                max_tokens=_limit(source[p].params) or max_tokens,
            )
            for p in chosen
        ],
        seed,
    )


def pinned(prompts: Sequence[Prompt], seed: int) -> PromptSet:
    """The set in its order: by hash of the id, so that neither class nor time of the log shows in it."""
    ordered = sorted(prompts, key=lambda p: (unit_hash(p.prompt_id, seed), p.prompt_id))
    return PromptSet(prompts=tuple(ordered), sha256=digest([p.model_dump(mode="json") for p in ordered]))


def write_prompts(path: Path, prompts: PromptSet) -> Path:
    """One JSON object a line; private."""
    return write_atomic(path, "".join(canonical(p) + "\n" for p in prompts.prompts))


def read_prompts(path: Path, sha256: str | None = None) -> PromptSet:
    """Raises InputError if the file is unreadable, or is not the set with this hash."""
    try:
        prompts = tuple(Prompt.model_validate(orjson.loads(line)) for line in read_lines(path))
    except ValueError as error:
        raise InputError(f"{path.name} cannot be read: {type(error).__name__}", "pin the prompts again") from None
    prompt_set = PromptSet(prompts=prompts, sha256=digest([p.model_dump(mode="json") for p in prompts]))
    if not prompts or (sha256 is not None and prompt_set.sha256 != sha256):
        raise InputError(f"{path.name} is not the set of prompts that was pinned", "pin the prompts again")
    return prompt_set


def _one_per_conversation(rows: list[CorpusRow], n: int, seed: int) -> list[CorpusRow]:
    """One row of each conversation, drawn by hash; further rows only while there are fewer than `n`."""
    drawn = sorted(rows, key=lambda row: (unit_hash(row.id, seed), row.row))
    first: dict[str, CorpusRow] = {}
    rest = []
    for row in drawn:
        if first.setdefault(row.conversation, row) is not row:
            rest.append(row)
    fresh = [*first.values(), *rest[: max(0, n - len(first))]]
    return sorted(fresh, key=lambda row: row.row)


def _prompt(row: CorpusRow, max_tokens: int | None) -> Prompt:
    params = json.loads(row.params)
    return Prompt(
        prompt_id=row.id,
        content_class=row.content_class,
        messages=json.loads(row.messages) if row.messages else None,
        prompt_token_ids=row.input_ids[: row.prompt_tokens].tolist(),
        params=_sampling(params),
        max_tokens=max_tokens or _limit(params) or len(row.input_ids) - row.prompt_tokens,
    )


def _limit(params: dict[str, Any]) -> int | None:
    limits = [int(params[name]) for name in LIMITS if isinstance(params.get(name), int) and params[name] > 0]
    return limits[0] if limits else None


def _sampling(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name not in {*LIMITS, "stream", "stream_options", "n"}}


def _built_in() -> list[AccessRecord]:
    from draftsmith.corpus.general import GENERAL_PROMPTS

    return [
        AccessRecord(id=f"general-{number:02d}", route=kind, messages=[{"role": "user", "content": text}])
        for number, (kind, text) in enumerate(GENERAL_PROMPTS, start=1)
    ]
