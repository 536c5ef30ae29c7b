"""Messages as they exist in logs: text, reasoning, tool calls and results, media, refusals.

Every importer translates into these values. `Message.wire` is the one way out: a dictionary that an OpenAI-compatible engine
accepts, unless media stand in it. Pictures, audio and files are known by their kind alone: their bytes and addresses are not kept, so
that no address that a client wrote can be fetched later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Kind = Literal["text", "image", "audio", "video", "file"]
MEDIA_KINDS = frozenset({"image", "audio", "video", "file"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message. Only pieces of kind `text` have text."""

    kind: Kind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. `arguments` is JSON as text."""

    name: str
    arguments: str = ""
    id: str | None = None

    def shown(self) -> dict[str, Any]:
        """Name and arguments, the arguments parsed where they are JSON."""
        try:
            return {"name": self.name, "arguments": orjson.loads(self.arguments)}
        except orjson.JSONDecodeError:
            return {"name": self.name, "arguments": self.arguments}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `role` is one of ROLES; `call_id` names the call that a tool message answers."""

    role: str
    parts: tuple[Part, ...] = ()
    calls: tuple[Call, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts, a line each."""
        return "\n".join(part.text for part in self.parts if part.kind == "text")

    @property
    def media(self) -> int:
        """How many parts are no text."""
        return sum(part.kind != "text" for part in self.parts)

    @property
    def empty(self) -> bool:
        """Whether nothing at all was said. An empty text is something: clients do send it."""
        return not (self.parts or self.calls or self.reasoning or self.refusal)

    def wire(self) -> dict[str, Any]:
        """The message as a request to an engine holds it. A medium is `{"type": kind}`, a flag that no engine takes."""
        parts = [*self.parts, *([Part("text", self.refusal)] if self.refusal else [])]
        shown = [{"type": "text", "text": part.text} if part.kind == "text" else {"type": part.kind} for part in parts]
        plain = len(parts) == 1 and parts[0].kind == "text"
        content: Any = parts[0].text if plain else shown or ""
        made: dict[str, Any] = {"role": self.role, "content": content}
        if self.reasoning:
            made["reasoning_content"] = self.reasoning
        if self.calls:
            made["tool_calls"] = [
                {
                    "id": call.id or f"call_{place}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments or "{}"},
                }
                for place, call in enumerate(self.calls)
            ]
        if self.role == "tool":
            made["tool_call_id"] = self.call_id or "call_0"
        return made

    def joined(self) -> str | None:
        """All that was generated: reasoning, text, refusal, and calls as JSON; None if nothing was."""
        parts = [self.reasoning, self.text, self.refusal, calls_text(self.calls)]
        return "\n".join(part for part in parts if part) or None


def media_in(content: Any) -> Counter[str]:
    """The media in the content of a message as `Message.wire` writes it: how many of each kind."""
    listed = content if isinstance(content, list) else ()
    return Counter(part["type"] for part in listed if isinstance(part, dict) and part.get("type") in MEDIA_KINDS)


def calls_text(calls: Sequence[Call]) -> str:
    """Calls as JSON text: an object, or a list of several; empty without calls."""
    shown = [call.shown() for call in calls]
    return orjson.dumps(shown if len(shown) > 1 else shown[0]).decode() if shown else ""


def merged(messages: Iterable[Message], role: str = "assistant") -> Message:
    """Several pieces of one answer as one message, in their order."""
    listed = list(messages)
    return Message(
        role,
        tuple(part for message in listed for part in message.parts),
        tuple(call for message in listed for call in message.calls),
        "\n".join(message.reasoning for message in listed if message.reasoning),
        "\n".join(message.refusal for message in listed if message.refusal),
    )


ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    # Other names for these, as stores and clients write them.
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "input": "user",
    "ai": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "agent": "assistant",
    "chatbot": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "llm": "assistant",
    "output": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_result": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "environment": "tool",
    "humanmessage": "user",
    "humanmessagechunk": "user",
    "aimessage": "assistant",
    "aimessagechunk": "assistant",
    "systemmessage": "system",
    "toolmessage": "tool",
    "functionmessage": "tool",
    "instructions": "system",
    "context": "system",
}
"""Every known name of a speaker (in lower case) and the role it means to an engine."""


def role_of(name: Any) -> str | None:
    """The role that a speaker's name means; None if it is not known."""
    return ROLES.get(name.lower()) if isinstance(name, str) else None
