"""From the copied bytes of one request and its answer to an access record. Pure; runs in the writer thread.

Parsing holds the interpreter's lock that the server's event loop needs, so streams are parsed a few events at a time, and
`rest` is called in between.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract.access import AccessRecord, Timing
from draftsmith.contract.wire import SAMPLING_PARAMETERS, EventStream, StreamedAnswer, has_media
from draftsmith.recorder.policy import by_body

EVENTS_AT_ONCE = 16
CONVERSATION_FIELDS = ("conversation", "conversation_id", "session_id", "thread_id")

Rest = Callable[[], None]


@dataclass
class Exchange:
    """Copies of one request and its answer. `chunks` are (seconds since the start, bytes) as they were sent on."""

    path: str
    route: str | None
    start_unix_s: float
    request: list[bytes] = field(default_factory=list)
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    status: int = 0
    content_type: bytes = b""
    encoded: bool = False
    ended: bool = False
    size: int = 0


class UnusableError(Exception):
    """This exchange gives no record. `reason` is one of a fixed set of words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def line_of(exchange: Exchange, rate: float, by: str, rest: Rest = lambda: None) -> bytes:
    """The record's line, without its newline. Raises UnusableError with the reason to count."""
    if exchange.status != 200:
        raise UnusableError("failed")
    body = _object(b"".join(exchange.request))
    if not by_body(body):
        raise UnusableError("opted_out")
    messages, prompt_ids = _prompt(body)
    if not sampled(body, messages, prompt_ids, rate, by):
        raise UnusableError("not_sampled")
    answer = _answer(exchange, rest)
    return _record(exchange, body, messages, prompt_ids, answer).model_dump_json(exclude_none=True).encode()


def _record(
    exchange: Exchange,
    body: dict[str, Any],
    messages: list[dict[str, Any]] | None,
    prompt_ids: list[int] | None,
    answer: StreamedAnswer,
) -> AccessRecord:
    model = body.get("model")
    choice = answer.first
    timing = Timing(start_unix_s=exchange.start_unix_s, ttft_s=choice.first_s, latency_s=choice.last_s)
    known: dict[str, Any] = {
        # Not the server's id: it may repeat what the client sent in a header.
        "id": os.urandom(8).hex(),
        "conversation": _conversation(body),
        "model": model if isinstance(model, str) else None,
        "route": exchange.route,
    }
    if answer.failed or choice.finish is None:
        # A broken or abandoned answer counts, and teaches nothing: none of its text is kept.
        error = "stream_error" if answer.failed else "unfinished" if exchange.ended else "disconnected"
        return AccessRecord(**known, timing=timing, error=error)
    params = {name: body[name] for name in SAMPLING_PARAMETERS if body.get(name) is not None}
    return AccessRecord(
        **known,
        messages=messages,
        completion=choice.text(),
        answer=choice.parts(),
        params=params,
        prompt_token_ids=answer.prompt_ids or prompt_ids,
        output_token_ids=choice.token_ids or None,
        usage=answer.usage_of_first(),
        timing=timing,
        finish_reason=choice.finish,
        spec=answer.spec_of_first(),
    )


def sampled(
    body: dict[str, Any], messages: list[dict[str, Any]] | None, prompt_ids: list[int] | None, rate: float, by: str
) -> bool:
    """Whether this request is in the sample. By conversation: all turns of one, or none of them.

    A conversation is known by its id in the request, else by what stands before the first answer in its messages.
    """
    if rate >= 1.0:
        return True
    if by == "request":
        return int.from_bytes(os.urandom(7), "big") / (1 << 56) < rate
    opening: Any = _conversation(body)
    if opening is None and messages is not None:
        roles = [message.get("role") for message in messages]
        opening = messages[: roles.index("assistant")] if "assistant" in roles else messages
    raw = json.dumps(opening if opening is not None else (prompt_ids or [])[:256], sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=7).digest(), "big") / (1 << 56) < rate


def _conversation(body: dict[str, Any]) -> str | None:
    """The conversation that the client names, as a hash: such names often hold a user's."""
    metadata = body.get("metadata")
    for place in (body, metadata if isinstance(metadata, dict) else {}):
        for name in CONVERSATION_FIELDS:
            value = place.get(name)
            if isinstance(value, str) and value:
                return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return None


def _prompt(body: dict[str, Any]) -> tuple[list[dict[str, Any]] | None, list[int] | None]:
    """(messages, token ids) of the request. Raises UnusableError for media, several prompts, echoed prompts, and for a prompt
    that is more than its messages: it could not be asked again."""
    if body.get("documents") or body.get("continue_final_message") or body.get("add_generation_prompt") is False:
        raise UnusableError("unsupported")
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list) and messages:
        if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
            raise UnusableError("unreadable")
        if has_media(messages):
            raise UnusableError("unsupported")
        return messages, None
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if body.get("echo") or prompt is None:
        raise UnusableError("unsupported")
    if isinstance(prompt, str) and prompt:
        return [{"role": "user", "content": prompt}], None
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return None, prompt
    raise UnusableError("unsupported")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnusableError("unreadable") from None
    if not isinstance(value, dict):
        raise UnusableError("unreadable")
    return value


def _answer(exchange: Exchange, rest: Rest) -> StreamedAnswer:
    """The answer, read from the chunks that were sent on. A torn last event is left out."""
    if exchange.encoded:
        raise UnusableError("unreadable")
    answer = StreamedAnswer()
    if not exchange.content_type.lower().startswith(b"text/event-stream"):
        if exchange.ended:  # else it was cut off by the client: nothing to parse
            body = _object(b"".join(data for _, data in exchange.chunks))
            answer.add_whole(body, exchange.chunks[-1][0] if exchange.chunks else 0.0)
        return answer
    events, number = EventStream(), 0
    for seconds, data in exchange.chunks:
        for payload in events.add(data):
            answer.add(_object(payload), seconds)
            number += 1
            if number % EVENTS_AT_ONCE == 0:
                rest()
    return answer
