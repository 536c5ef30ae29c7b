"""The wire of an OpenAI-compatible server: the events of an answer, streamed or whole, and the parameters of a request.

The recorder (inside the server) and the load client both read answers here, so one answer gives the same record in both.
What servers send differs: vLLM 0.16 and later name reasoning `reasoning`, SGLang, TGI and older vLLM `reasoning_content`; only
vLLM sends token ids; TGI sends one tool call as an object where others send a list.

Framing is done here and not by httpx-sse: the recorder sees bytes of an ASGI server, not a response of httpx.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract.access import Answer, SpecStats, Usage
from draftsmith.contract.access import ToolCall as Call

# What changes an answer. Anything else of a request (user, metadata, cache keys, ...) is never stored.
SAMPLING_PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of", "stop",
    "stop_token_ids", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs",
    "top_logprobs", "ignore_eos", "skip_special_tokens", "bad_words", "allowed_token_ids", "response_format", "tools",
    "tool_choice", "parallel_tool_calls", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar", "reasoning_effort", "include_reasoning", "chat_template_kwargs", "prediction", "stream",
)  # fmt: skip
DONE = b"[DONE]"
TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "thinking")


def has_media(messages: Any) -> bool:
    """Whether a prompt is more than text: a part of a message that is of no kind of text, known or not."""
    contents = (item.get("content") for item in messages or () if isinstance(item, dict))
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(isinstance(part, dict) and part.get("type") not in TEXT_PARTS for part in parts)


class EventStream:
    """The payloads of server-sent events, wherever the network cuts the bytes.

    Lines end with a line feed, never with another line separator of Unicode: JSON may hold those as they are.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def add(self, data: bytes) -> Iterator[bytes]:
        """Payloads that these bytes complete, without the final `[DONE]`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._line(line)

    def end(self) -> Iterator[bytes]:
        """Payloads left when the connection closed in order: the last one may lack its empty line."""
        yield from self._line(self._rest)
        yield from self._flush()
        self._rest = b""

    def _line(self, line: bytes) -> Iterator[bytes]:
        line = line.strip()
        if not line:
            yield from self._flush()
        elif line.startswith(b"data:"):
            payload = line[5:].strip()
            if not self._data and (payload == DONE or (payload.startswith(b"{") and payload.endswith(b"}"))):
                # Whole already: not all servers put the empty line after it, and it must not get the next chunk's time.
                self._data.append(payload)
                yield from self._flush()
            else:
                self._data.append(payload)

    def _flush(self) -> Iterator[bytes]:
        payload, self._data = b"\n".join(self._data), []
        if payload and payload != DONE:
            yield payload


@dataclass
class ToolCall:
    """One call of a tool: its name, and its arguments as the JSON text that was generated."""

    name: str = ""
    arguments: str = ""


@dataclass
class Choice:
    """One of the n answers to a request. Times are seconds since the request was sent, of its first and last token."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    first_s: float | None = None
    last_s: float | None = None
    finish: str | None = None

    def add(self, choice: dict[str, Any], seconds: float | None) -> None:
        """Take in one `choices[...]` of an event; `seconds` is None for a whole answer, which does not show its tokens."""
        message = _object(choice.get("delta")) or _object(choice.get("message"))
        reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
        content = _text(message.get("content")) or _text(choice.get("text"))
        refusal = _text(message.get("refusal"))
        calls = _calls(message)
        ids = token_ids(choice.get("token_ids")) or []
        self.reasoning += [reasoning] if reasoning else []
        self.content += [piece for piece in (content, refusal) if piece]
        self.token_ids += ids
        for call in calls:
            self._add_call(call)
        finish = _word(choice.get("finish_reason"))
        self.finish = finish or self.finish
        only = (
            finish in ("stop", "length") and self.first_s is None
        )  # nothing to read was generated: its end is the one time there is
        if seconds is not None and (reasoning or content or refusal or calls or ids or only):
            self.first_s = seconds if self.first_s is None else self.first_s
            self.last_s = seconds

    def _add_call(self, call: dict[str, Any]) -> None:
        function = _object(call.get("function")) or call
        name, arguments, index = _word(function.get("name")) or "", function.get("arguments"), call.get("index")
        if type(index) is not int:  # a whole answer has none, nor have some gateways: a name begins the next call
            index = max(self.tool_calls, default=-1) + bool(name or not self.tool_calls)
        known = self.tool_calls.setdefault(index, ToolCall())
        known.name += name
        known.arguments += arguments if isinstance(arguments, str) else _json(arguments) if arguments else ""

    def text(self) -> str:
        """Everything that was generated: reasoning, then content or refusal, then tool calls as JSON; a line feed between."""
        parts = ["".join(self.reasoning), "".join(self.content)]
        if self.tool_calls:
            calls = [{"name": call.name, "arguments": _parsed(call.arguments)} for call in self.tool_calls.values()]
            parts.append(_json(calls if len(calls) > 1 else calls[0]))
        return "\n".join(part for part in parts if part)

    def parts(self) -> Answer | None:
        """The same by its parts; None where there is no more than text."""
        if not self.reasoning and not self.tool_calls:
            return None
        return Answer(
            text="".join(self.content) or None,
            reasoning="".join(self.reasoning) or None,
            calls=tuple(Call(name=call.name, arguments=call.arguments) for call in self.tool_calls.values()),
        )


@dataclass
class StreamedAnswer:
    """What has been read of one answer. Choices are kept apart by their index.

    `failed`: the server reported an error instead of, or in the middle of, the answer.
    """

    choices: dict[int, Choice] = field(default_factory=dict)
    prompt_ids: list[int] | None = None
    usage: Usage = field(default_factory=Usage)
    spec: SpecStats | None = None
    transfer: dict[str, Any] | None = None
    prompt_logprobs: list[Any] | None = None
    failed: bool = False

    def add(self, event: dict[str, Any], seconds: float | None) -> None:
        """Take in one event that came `seconds` after the request was sent."""
        self.failed = self.failed or bool(event.get("error")) or event.get("object") == "error"
        self.prompt_ids = token_ids(event.get("prompt_token_ids")) or self.prompt_ids
        if isinstance(event.get("usage"), dict):
            self.usage = usage_of(event["usage"])
        self.spec = spec_stats(event) or self.spec
        self.transfer = _object(event.get("kv_transfer_params")) or self.transfer
        listed = event.get("choices")
        for place, choice in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(choice, dict):
                self._add_choice(choice, place, seconds)

    def add_whole(self, answer: dict[str, Any], seconds: float) -> None:
        """Take in an answer that was not streamed. It shows when its last token was there, and not when its first."""
        self.add(answer, None)
        for choice in self.choices.values():
            choice.last_s = seconds

    def _add_choice(self, choice: dict[str, Any], place: int, seconds: float | None) -> None:
        index = choice.get("index")
        self.choices.setdefault(index if type(index) is int else place, Choice()).add(choice, seconds)
        self.prompt_ids = token_ids(choice.get("prompt_token_ids")) or self.prompt_ids
        self.spec = _request_stats(_object(choice.get("meta_info"))) or self.spec
        logprobs = choice.get("prompt_logprobs")
        self.prompt_logprobs = logprobs if isinstance(logprobs, list) and logprobs else self.prompt_logprobs

    @property
    def first(self) -> Choice:
        """The first choice: the one that a record holds. Empty while nothing came."""
        return self.choices.get(0) or Choice()

    def usage_of_first(self) -> Usage:
        """Token counts that belong to the text of the first choice: the server counts all choices together."""
        if len(self.choices) <= 1:
            return self.usage
        return self.usage.model_copy(update={"completion_tokens": len(self.first.token_ids) or None})

    def spec_of_first(self) -> SpecStats | None:
        """Speculation counts, where they are of the first choice alone."""
        return self.spec if len(self.choices) <= 1 else None


def usage_of(value: dict[str, Any]) -> Usage:
    """Token counts of a `usage` object. A value that is not a count is None."""
    details = value.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=_count(value.get("prompt_tokens")),
        completion_tokens=_count(value.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def spec_stats(event: dict[str, Any]) -> SpecStats | None:
    """Per-request speculation counts, where the server reports them: vLLM under `metrics`, SGLang under `sglext` when it
    streams and beside a choice when it does not."""
    counts = _object(_object(event.get("metrics")).get("speculative_decoding"))
    drafts = _count(counts.get("num_spec_steps"))
    if drafts is not None:
        return SpecStats(
            drafts=drafts,
            draft_tokens=_count(counts.get("num_draft_tokens")) or 0,
            accepted_tokens=_count(counts.get("num_accepted_draft_tokens")) or 0,
        )
    details = _object(_object(event.get("sglext")).get("spec_tokens_details"))
    return _request_stats(details)


def _request_stats(reported: dict[str, Any]) -> SpecStats | None:
    drafts = _count(reported.get("spec_verify_ct"))
    if drafts is None:
        return None
    accepted = _count(reported.get("spec_num_correct_drafts"))
    if accepted is None:  # the histogram's place is how many drafts of a call were right
        histogram = reported.get("spec_correct_drafts_histogram")
        counts = [_count(n) or 0 for n in histogram] if isinstance(histogram, list) else []
        accepted = sum(place * n for place, n in enumerate(counts))
    return SpecStats(
        drafts=drafts, draft_tokens=_count(reported.get("spec_num_proposed_drafts")) or 0, accepted_tokens=accepted
    )


def token_ids(value: Any) -> list[int] | None:
    """The value if it is a list of token ids with something in it."""
    return value if isinstance(value, list) and value and all(type(item) is int for item in value) else None


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Tool calls of a delta or a message, under the present name, as TGI's single object, or under OpenAI's old name."""
    calls = message.get("tool_calls") or message.get("function_call") or ()
    listed = calls if isinstance(calls, list) else [calls]
    return [call for call in listed if isinstance(call, dict)]


def _text(value: Any) -> str:
    """Generated text: a string, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    return "".join(_text(part.get("text") or part.get("thinking")) for part in parts if isinstance(part, dict))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
