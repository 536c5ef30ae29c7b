"""Which logged answers are the target's own, and which prompts it must answer again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.access import AccessRecord, Usage
from draftsmith.corpus.rows import refusal
from draftsmith.corpus.target_tokens import TargetTokens


@dataclass(frozen=True)
class Sorted:
    """`ready` can be built from at once, `replay` must be answered by the target first, `dropped` counts the rest."""

    ready: list[AccessRecord]
    replay: list[AccessRecord]
    dropped: dict[str, int]


def triage(
    record: AccessRecord,
    regenerate: Literal["auto", "always", "never"] = "auto",
    *,
    tokens: TargetTokens | None = None,
    served_as: Collection[str] = (),
) -> str:
    """'ready', 'replay', or the reason (a key of REASONS) why this record is of no use.

    An answer is the target's own if its ids are there, the log's model is in `served_as` (where given), and its text
    agrees with its ids under the target's tokenizer (where given).
    """
    why = refusal(record)
    if why == "error":
        return why
    foreign = bool(served_as) and record.model not in served_as
    foreign = foreign or (tokens is not None and tokens.made_here(record) is False)
    if regenerate != "always" and why is None and not foreign:
        return "ready"
    if regenerate == "never":
        return why or "no_token_ids"
    return "replay" if record.messages else "no_text"


def needs_answers(
    records: Iterable[AccessRecord],
    regenerate: Literal["auto", "always", "never"] = "auto",
    *,
    tokens: TargetTokens | None = None,
    served_as: Collection[str] = (),
) -> Sorted:
    """Sort records by `triage`. A replayed record must keep its id, conversation and original timing."""
    ready, replay, dropped = [], [], Counter[str]()
    for record in records:
        kind = triage(record, regenerate, tokens=tokens, served_as=served_as)
        if kind == "ready":
            ready.append(record)
        elif kind == "replay":
            replay.append(record)
        else:
            dropped[kind] += 1
    return Sorted(ready, replay, dict(sorted(dropped.items())))


def answered(
    request: AccessRecord, *, prompt_ids: list[int], output_ids: list[int], text: str | None, finish_reason: str | None
) -> AccessRecord:
    """The logged request with the target's new answer. Identity, conversation, time and acceptance stay the log's.

    The time decides what is held out: the time of the replay would shuffle the traffic.
    """
    usage = Usage(prompt_tokens=len(prompt_ids), completion_tokens=len(output_ids))
    answer = {"prompt_token_ids": prompt_ids, "output_token_ids": output_ids, "completion": text, "usage": usage}
    # Otherwise the parts of the old answer would be used as parts of the new answer.
    return request.model_copy(update={**answer, "answer": None, "finish_reason": finish_reason, "error": None})
