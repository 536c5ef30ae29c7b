"""Prompts of an exact length, made of real ones: text of the traffic before, and the prompt's own end last. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from draftsmith.contract.campaign import CampaignCell
from draftsmith.contract.errors import InputError
from draftsmith.corpus.prompts import Prompt


def prompts_of(cell: CampaignCell, sources: Sequence[Prompt], count: int) -> tuple[Prompt, ...]:
    """`count` prompts of `cell.isl` tokens each (or as many as there are different ones), limited to `cell.osl` of answer.

    Those nearest in length come first. One that is longer loses its beginning; before one that is shorter stand others, so
    that the end, which asks for the answer, is always its own. No two of a cell are equal. Raises InputError without a source
    that has token ids.
    """
    known = [source for source in sources if source.prompt_token_ids]
    if not known:
        raise InputError("no prompt has token ids", "give prompts with messages and a target with its tokenizer")
    nearest = sorted(known, key=lambda item: (abs(len(item.prompt_token_ids or ()) - cell.isl), item.prompt_id))
    made: dict[tuple[int, ...], Prompt] = {}
    for source in nearest:
        if len(made) == count:
            break
        ids = _fitted(source, known, cell.isl)
        made.setdefault(
            tuple(ids),
            Prompt(
                prompt_id=f"{source.prompt_id}@{cell.isl}",
                content_class=source.content_class,
                prompt_token_ids=ids,
                params=source.params,
                max_tokens=cell.osl,
            ),
        )
    return tuple(made.values())


def _fitted(source: Prompt, pool: Sequence[Prompt], length: int) -> list[int]:
    own = source.prompt_token_ids or []
    if len(own) >= length:
        return own[-length:]
    start = next((place for place, item in enumerate(pool) if item.prompt_id == source.prompt_id), 0) + 1
    before: list[int] = []
    for other in itertools.cycle([*pool[start:], *pool[:start]]):
        before = [*(other.prompt_token_ids or []), *before]
        if len(before) + len(own) >= length:
            break
    return [*before, *own][-length:]
