"""One access record becomes one row of engine token ids, or a reason why it cannot. Pure; no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.base import canonical

Ids = NDArray[np.int32]

# The API layer renames an ordinary stop to `tool_calls` or `function_call` when it parses the answer; the tokens are the same.
FINISHED = frozenset({"stop", "length", "tool_calls", "function_call"})

# A prompt that leaves less room than this for its answer teaches next to nothing and is refused instead of cut.
MIN_ANSWER_TOKENS = 8

# Request parameters that say who asked, or repeat the request; none of them changes an answer.
IDENTITY = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "extra_headers", "messages", "prompt", "input"}
)

REASONS = {
    "error": "the request failed",
    "unfinished": "finish_reason is neither stop nor length: aborted, filtered, or not recorded",
    "no_token_ids": "the engine's own token ids of prompt and answer are missing",
    "no_text": "neither token ids nor messages: nothing can be replayed",
    "empty_prompt": "no prompt token",
    "empty_answer": "no answer token, so the loss mask would be all zero",
    "id_out_of_vocabulary": "a token id lies outside the target's vocabulary",
    "prompt_over_length": "the prompt alone fills max_length",
    "duplicate_id": "the same request again (same id, same tokens)",
    "duplicate": "token for token equal to an earlier row",
    "repeats_heldout": "the same tokens or the same prompt as a held-out row",
    "near_duplicate": "nearly equal to a held-out row",
    "redacted_prompt": "the prompt holds personal data or a secret",
    "redacted_answer": "the answer holds personal data or a secret; a redacted answer would be off-policy",
    "hard_elsewhere": "a request of the hard log whose conversation is held out or validates",
    "over_max_rows": "beyond max_rows; chosen so that the mix is kept",
}


@dataclass(frozen=True)
class Limits:
    """What a row must satisfy. `max_length` counts prompt and answer tokens together."""

    vocab_size: int
    max_length: int
    keep_text: bool = True


@dataclass(frozen=True)
class Row:
    """A usable request. `input_ids` is prompt then answer; the loss mask is 0 before `prompt_tokens` and 1 from it on.

    `by_tokens`: the log had no messages, so `own_key` is over the prompt's token ids and `parent_keys` are not known yet.
    """

    id: str
    conversation: str | None
    content_class: str
    time_s: float | None
    input_ids: Ids
    prompt_tokens: int
    params: str
    messages: str | None
    own_key: int
    parent_keys: tuple[int, ...]
    acceptance: float | None
    by_tokens: bool = False
    cut: str | None = None


@dataclass(frozen=True)
class Refused:
    """A record without a row; `reason` is a key of REASONS."""

    reason: str


def to_row(record: AccessRecord, limits: Limits) -> Row | Refused:
    """Check and convert one record. Never raises on bad data: the reason comes back instead.

    Where `limits.keep_text` is off, messages and texts in the parameters are left out and names become hashes.
    """
    reason = refusal(record)
    if reason:
        return Refused(reason)
    prompt = np.asarray(record.prompt_token_ids, dtype=np.int64)
    answer = np.asarray(record.output_token_ids, dtype=np.int64)
    both = np.concatenate([prompt, answer])
    if both.min() < 0 or both.max() >= limits.vocab_size:
        return Refused("id_out_of_vocabulary")
    if len(prompt) + min(len(answer), MIN_ANSWER_TOKENS) > limits.max_length:
        return Refused("prompt_over_length")
    own, parents = dialogue_keys(record)
    conversation = record.conversation or None
    return Row(
        id=record.id if limits.keep_text else pseudonym(record.id),
        conversation=pseudonym(conversation) if conversation and not limits.keep_text else conversation,
        content_class=content_class(record),
        time_s=record.timing.start_unix_s if record.timing else None,
        input_ids=both[: limits.max_length].astype(np.int32),
        prompt_tokens=len(prompt),
        params=canonical(sampling(record.params, limits.keep_text)),
        messages=canonical(record.messages) if record.messages and limits.keep_text else None,
        own_key=own,
        parent_keys=parents,
        acceptance=acceptance(record),
        by_tokens=not record.messages,
        cut="answer_over_length" if len(both) > limits.max_length else None,
    )


def refusal(record: AccessRecord) -> str | None:
    """Why this record has no usable answer of the engine's own; None if it has one."""
    if record.error:
        return "error"
    if record.prompt_token_ids is None or record.output_token_ids is None:
        return "no_token_ids"
    if not record.prompt_token_ids:
        return "empty_prompt"
    if not record.output_token_ids:
        return "empty_answer"
    return None if record.finish_reason in FINISHED else "unfinished"


def acceptance(record: AccessRecord) -> float | None:
    """Share of drafted tokens that the target accepted in this request; None without drafts."""
    spec = record.spec
    return spec.accepted_tokens / spec.draft_tokens if spec and spec.draft_tokens else None


def sampling(params: dict[str, Any], keep_text: bool = True) -> dict[str, Any]:
    """The parameters without what names a user; without `keep_text`, numbers and switches alone."""
    kept = {name: value for name, value in params.items() if name not in IDENTITY}
    return kept if keep_text else {name: v for name, v in kept.items() if isinstance(v, bool | int | float)}


def pseudonym(name: str) -> str:
    """A hash in place of a name: the same for the same name."""
    return f"{key64(name.encode()):016x}"


def key64(data: bytes) -> int:
    """A stable 63-bit key (fits a signed column)."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def dialogue_keys(record: AccessRecord) -> tuple[int, tuple[int, ...]]:
    """(key of this prompt, keys of the shorter prompts it continues, longest first).

    A prompt is the whole list of messages that was sent, so requests that merely share a system prompt or worked
    examples have different keys. A shorter prompt is every prefix that the assistant answered later in the list: if
    such a prefix was itself a request, this record is a later turn of the same dialogue.
    """
    if not record.messages:
        return key64(np.asarray(record.prompt_token_ids or [], dtype=np.int32).tobytes()), ()
    state = hashlib.blake2b(digest_size=8)
    keys = []
    for place, message in enumerate(record.messages):
        if place and message.get("role") == "assistant":
            keys.append(_head(state))
        state.update(canonical(_said(message)).encode() + b"\x1e")
    return _head(state), tuple(reversed(keys))


def _head(state: Any) -> int:
    return int.from_bytes(state.digest(), "big") >> 1


def _said(message: dict[str, Any]) -> dict[str, Any]:
    # Clients send an answer back trimmed, or with extra keys; neither makes it another dialogue.
    content = message.get("content")
    kept = {k: message[k] for k in ("role", "tool_calls", "tool_call_id", "name") if message.get(k)}
    return {**kept, "content": content.strip() if isinstance(content, str) else content}


def content_class(record: AccessRecord) -> str:
    """The content class as the profile sees it."""
    from draftsmith.traffic.classes import classify

    return classify(record)


def asked(messages: Sequence[dict[str, Any]] | str | None) -> str:
    """All text of the messages (a list, or its JSON), one part a line: what redaction scans."""
    if not messages:
        return ""
    loaded = json.loads(messages) if isinstance(messages, str) else messages
    return "\n".join(_strings(loaded))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() if key != "role" for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return []
