"""From the copied bytes of one request and its answer to an access record. Pure; runs in the writer thread.

Parsing holds the interpreter's lock that the server's event loop needs, so streams are parsed a few events at a time, and
`rest` is called in between.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract.access import AccessRecord, SpecStats, Timing, Usage
from draftsmith.recorder.policy import by_body

EVENTS_AT_ONCE = 16
# What changes an answer. Anything else of a request (user, metadata, cache keys, ...) is never stored.
PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "min_tokens", "n", "stop",
    "stop_token_ids", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs",
    "top_logprobs", "ignore_eos", "skip_special_tokens", "bad_words", "allowed_token_ids", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar", "reasoning_effort", "include_reasoning", "chat_template_kwargs", "prediction", "stream",
)  # fmt: skip
CONVERSATION_FIELDS = ("conversation", "conversation_id", "session_id", "thread_id")

TEXT_PARTS = ("text", "input_text", "refusal", "thinking")

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
    answer = _Answer()
    for seconds, event in _events(exchange, rest):
        answer.add(event, seconds)
    return _record(exchange, body, messages, prompt_ids, answer).model_dump_json(exclude_none=True).encode()


def _record(
    exchange: Exchange,
    body: dict[str, Any],
    messages: list[dict[str, Any]] | None,
    prompt_ids: list[int] | None,
    answer: _Answer,
) -> AccessRecord:
    model = body.get("model")
    timing = Timing(start_unix_s=exchange.start_unix_s, ttft_s=answer.first_s, latency_s=answer.last_s)
    known: dict[str, Any] = {
        # Not the server's id: it may repeat what the client sent in a header.
        "id": os.urandom(8).hex(),
        "conversation": _conversation(body),
        "model": model if isinstance(model, str) else None,
        "route": exchange.route,
    }
    if answer.failed or answer.finish is None:
        # A broken or abandoned answer counts, and teaches nothing: none of its text is kept.
        error = "stream_error" if answer.failed else "unfinished" if exchange.ended else "disconnected"
        return AccessRecord(**known, timing=timing, error=error)
    params = {name: body[name] for name in PARAMETERS if body.get(name) is not None}
    usage = answer.usage
    if answer.choices > 1:  # the counts are of all choices, the text is of the first
        usage = usage.model_copy(update={"completion_tokens": len(answer.output_ids) or None})
    return AccessRecord(
        **known,
        messages=messages,
        completion=answer.text(),
        params=params,
        prompt_token_ids=answer.prompt_ids or prompt_ids,
        output_token_ids=answer.output_ids or None,
        usage=usage,
        timing=timing,
        finish_reason=answer.finish,
        spec=answer.spec if answer.choices <= 1 else None,
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
    """(messages, token ids) of the request. Raises UnusableError for media, several prompts, and echoed prompts."""
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list) and messages:
        if not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages):
            raise UnusableError("unreadable")
        if any(_media(one.get("content")) for one in messages):
            raise UnusableError("unsupported")
        return messages, None
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if body.get("echo") or prompt is None:
        raise UnusableError("unsupported")
    if isinstance(prompt, str) and prompt:
        return [{"role": "user", "content": prompt}], None
    if isinstance(prompt, list) and prompt and all(type(one) is int for one in prompt):
        return None, prompt
    raise UnusableError("unsupported")


def _media(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") not in TEXT_PARTS for part in content
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnusableError("unreadable") from None
    if not isinstance(value, dict):
        raise UnusableError("unreadable")
    return value


def _events(exchange: Exchange, rest: Rest) -> Iterator[tuple[float, dict[str, Any]]]:
    """(seconds, JSON object) of each event of a stream, or of the one body of a plain answer."""
    if exchange.encoded:
        raise UnusableError("unreadable")
    if not exchange.content_type.lower().startswith(b"text/event-stream"):
        if not exchange.ended:
            return  # cut off by the client: nothing to parse
        last = exchange.chunks[-1][0] if exchange.chunks else 0.0
        yield last, _object(b"".join(data for _, data in exchange.chunks)) | {"plain": True}
        return
    for number, (seconds, payload) in enumerate(_payloads(exchange.chunks), start=1):
        yield seconds, _object(payload)
        if number % EVENTS_AT_ONCE == 0:
            rest()


def _payloads(chunks: list[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Payloads of server-sent events with the time of the chunk that completed them. A torn last event is left out."""
    left = b""
    for seconds, data in chunks:
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (payload := line[5:].strip()) and payload != b"[DONE]":
                yield seconds, payload


@dataclass
class _Answer:
    """What has been read of one answer: its first choice, its counts and times."""

    said: dict[str, list[str]] = field(default_factory=lambda: {"reasoning": [], "content": []})
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    output_ids: list[int] = field(default_factory=list)
    prompt_ids: list[int] | None = None
    first_s: float | None = None
    last_s: float | None = None
    finish: str | None = None
    usage: Usage = field(default_factory=Usage)
    spec: SpecStats | None = None
    choices: int = 0
    failed: bool = False

    def add(self, event: dict[str, Any], seconds: float) -> None:
        """Take in one event, or a whole plain answer."""
        self.failed = self.failed or bool(event.get("error"))
        self.prompt_ids = _ids(event.get("prompt_token_ids")) or self.prompt_ids
        if isinstance(event.get("usage"), dict):
            self.usage = _usage(event["usage"])
        self.spec = _spec(event) or self.spec
        for choice in event.get("choices") or ():
            if isinstance(choice, dict):
                self._add_choice(choice, None if event.get("plain") else seconds)
        if event.get("plain"):
            self.last_s = seconds

    def _add_choice(self, choice: dict[str, Any], seconds: float | None) -> None:
        index = choice.get("index") or 0
        self.choices = max(self.choices, index + 1)
        if index:
            return
        delta = choice.get("delta") or choice.get("message") or {}
        pieces = (
            ("reasoning", delta.get("reasoning") or delta.get("reasoning_content")),
            ("content", delta.get("content") or choice.get("text")),
        )
        ids = _ids(choice.get("token_ids")) or []
        for kind, piece in pieces:
            if isinstance(piece, str) and piece:
                self.said[kind].append(piece)
        calls = delta.get("tool_calls") or ()
        for place, call in enumerate(calls):
            self._add_call(call, place)
        self.output_ids.extend(ids)
        self.prompt_ids = _ids(choice.get("prompt_token_ids")) or self.prompt_ids
        self.finish = choice.get("finish_reason") or self.finish
        if seconds is not None and (ids or calls or any(piece for _, piece in pieces)):
            self.first_s = seconds if self.first_s is None else self.first_s
            self.last_s = seconds

    def _add_call(self, call: dict[str, Any], place: int) -> None:
        function = call.get("function") or {}
        known = self.calls.setdefault(call.get("index", place), {"name": "", "arguments": ""})
        for key in known:
            known[key] += function.get(key) or ""

    def text(self) -> str:
        """Everything that was generated: reasoning, content, and tool calls as JSON."""
        parts = ["".join(pieces) for pieces in self.said.values()]
        if self.calls:
            shown = [{"name": one["name"], "arguments": _parsed(one["arguments"])} for one in self.calls.values()]
            parts.append(json.dumps(shown if len(shown) > 1 else shown[0], ensure_ascii=False, separators=(",", ":")))
        return "\n".join(part for part in parts if part)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and value else None


def _usage(value: dict[str, Any]) -> Usage:
    details = value.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=value.get("prompt_tokens"),
        completion_tokens=value.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens") if isinstance(details, dict) else None,
    )


def _spec(event: dict[str, Any]) -> SpecStats | None:
    """Per-request speculation counts, where the server reports them."""
    metrics = event.get("metrics")
    found = metrics.get("speculative_decoding") if isinstance(metrics, dict) else None
    if not isinstance(found, dict) or "num_spec_steps" not in found:
        return None
    return SpecStats(
        drafts=int(found["num_spec_steps"]),
        draft_tokens=int(found.get("num_draft_tokens") or 0),
        accepted_tokens=int(found.get("num_accepted_draft_tokens") or 0),
    )
