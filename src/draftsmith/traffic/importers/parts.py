"""Messages of any dialect become `Message`s: OpenAI chat, Responses items, Anthropic and Bedrock blocks, Gemini parts, OTel and
Vercel parts, LangChain messages, Ollama.

The readers look at structure, not at where a message came from, so a body is read the same wherever a store puts it. What cannot
be kept is named in a `Lost`, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import orjson

from draftsmith.traffic.importers import pyrepr
from draftsmith.traffic.importers.base import SkipError, embedded, said_of
from draftsmith.traffic.importers.kinds import CALL, CONTENT_TYPES, MEDIA, MEDIA_KEYS, RESULT, TEXT, THOUGHT
from draftsmith.traffic.messages import MEDIA_KINDS, Call, Kind, Message, Part, role_of

Lost = Counter[str]
"""What could not be kept of one record: a short name (closed vocabulary, no text of the record) and how often."""


def noted(fields: dict[str, Any], lost: Lost) -> None:
    """Name in the fields of a record what was lost of it."""
    names = [name for name, times in lost.items() if times]
    if names:
        fields["lost"] = names


UNKNOWN_PART = "part of an unknown kind (left out)"
HIDDEN_REASONING = "encrypted reasoning (left out)"
SUMMARY = "summary of reasoning that is there in full (left out)"


def read_messages(value: Any, lost: Lost) -> list[Message]:
    """All messages in a list (or one message, or a prompt). Raises SkipError if one of them is none."""
    if isinstance(value, str):
        return [Message("user", (Part("text", value),))] if value else []
    if isinstance(value, dict):
        return read_message(value, lost)
    if not isinstance(value, list):
        raise SkipError("messages are not a list")
    made: list[Message] = []
    for item in value:
        if isinstance(item, str):
            printed = pyrepr.message(item)
            made += read_message(printed, lost, made) if printed else [Message("user", (Part("text", item),))]
        elif isinstance(item, dict):
            made += read_message(item, lost, made)
        elif isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and role_of(item[0]):
            made += read_message({"role": item[0], "content": item[1]}, lost, made)  # LangChain's pairs
        elif isinstance(item, list):
            made += read_messages(item, lost)  # LangChain logs a list of prompts, nearly always of one
        else:
            raise SkipError("message is not an object")
    return _together(made)


def _together(messages: list[Message]) -> list[Message]:
    """Responses items of one answer (reasoning, calls, text) that follow each other are one assistant message."""
    made: list[Message] = []
    for message in messages:
        last = made[-1] if made else None
        joins = last is not None and last.role == message.role == "assistant" and not (last.parts and message.parts)
        if joins and last is not None and (message.parts == () or last.parts == ()):
            made[-1] = replace(
                last,
                parts=last.parts + message.parts,
                calls=last.calls + message.calls,
                reasoning="\n".join(filter(None, (last.reasoning, message.reasoning))),
                refusal="\n".join(filter(None, (last.refusal, message.refusal))),
            )
        else:
            made.append(message)
    return made


def read_message(item: dict[str, Any], lost: Lost, before: Iterable[Message] = ()) -> list[Message]:
    """One entry of a conversation: usually one message; Anthropic's user turns may hold tool results as well."""
    item = _unwrapped(item)
    kind = str(item.get("type") or "").lower().replace(" ", "")
    if kind in RESULT and "role" not in item:
        return [_result(item, lost)]
    if (kind in CALL or kind in THOUGHT) and "role" not in item:
        return [_Content("assistant", lost).add(item).message()]
    role = item.get("role", item.get("from", item.get("author", item.get("sender"))))
    if isinstance(role, dict):
        role = role.get("role")
    if not isinstance(role, str):
        role = kind if role_of(kind) else None
    if role is None:
        raise SkipError("message without a role")
    known = role_of(role)
    if known is None:
        known = "tool" if any(call.name == role for entry in before for call in entry.calls) else None
    if known is None:
        raise SkipError("message with an unknown role")
    content = _Content(known, lost)
    content.fields(item)
    made = content.message()
    if known == "tool" and made.call_id is None:
        made = replace(made, call_id=_name(item.get("tool_call_id") or item.get("call_id") or item.get("toolCallId")))
    results = content.results
    if not results:
        return [made]
    return [*results, *([] if made.empty else [made])]


def _unwrapped(item: dict[str, Any]) -> dict[str, Any]:
    """The message inside LangChain's serialised form, a choice, or a store's envelope."""
    for _ in range(3):
        inner = item.get("kwargs") if "lc" in item else None
        if isinstance(inner, dict):
            names = item.get("id")
            name = names[-1] if isinstance(names, list) and names else None
            item = {"type": name, **inner} if role_of(name) else inner
        elif isinstance(item.get("message"), dict) and "role" not in item and "content" not in item:
            item = item["message"]
        elif isinstance(item.get("data"), dict) and role_of(item.get("type")) and "content" not in item:
            item = {"type": item["type"], **item["data"]}
        else:
            break
    return item


class _Content:
    """Gathers what one message holds."""

    def __init__(self, role: str, lost: Lost) -> None:
        self.role, self.lost = role, lost
        self.parts: list[Part] = []
        self.calls: list[Call] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.results: list[Message] = []
        self.call_id: str | None = None

    def message(self) -> Message:
        return Message(
            self.role,
            tuple(self.parts),
            tuple(self.calls),
            "\n".join(self.thoughts),
            "\n".join(self.refusals),
            self.call_id,
        )

    def fields(self, item: dict[str, Any]) -> None:
        """The fields of a message object."""
        self._thought(item)
        value = item.get("content")
        for key in ("parts", "contents", "value", "text", "message"):
            if value is None or (value == "" and key == "parts" and isinstance(item.get(key), list)):
                value = item.get(key)
        self.content(value)
        if isinstance(item.get("refusal"), str) and item["refusal"]:
            self.refusals.append(item["refusal"])
        more = item.get("additional_kwargs")
        more = more if isinstance(more, dict) else {}
        calls = item.get("tool_calls") or more.get("tool_calls") or item.get("toolCalls")
        for call in calls if isinstance(calls, list) else ():
            self.call(call)
        legacy = item.get("function_call") or more.get("function_call")
        if isinstance(legacy, dict) and not calls:
            self.call(legacy)
        for key, kind in (("images", "image"), ("audio", "audio"), ("experimental_attachments", "file")):
            media = item.get(key)
            for _ in media if isinstance(media, list) else ([media] if isinstance(media, dict) else ()):
                self.parts.append(Part(cast("Kind", kind)))

    def _thought(self, item: dict[str, Any]) -> None:
        more = item.get("additional_kwargs")
        if isinstance(more, dict) and isinstance(more.get("reasoning_content"), str):
            item = {
                **item,
                "reasoning_content": item.get("reasoning_content") or more["reasoning_content"],
            }  # LangChain
        for key in ("reasoning_content", "reasoning", "thinking", "thoughts", "reasoning_text"):
            value = item.get(key)
            if isinstance(value, str) and value:
                self.thoughts.append(value)
                return
            if isinstance(value, list | dict) and value:
                text = said_of(value)
                if text:
                    self.thoughts.append(text)
                    return
        details = item.get("reasoning_details")  # OpenRouter
        for detail in details if isinstance(details, list) else ():
            thought = detail.get("text") or detail.get("summary") if isinstance(detail, dict) else None
            if isinstance(thought, str) and thought:
                self.thoughts.append(thought)

    def content(self, value: Any) -> None:
        """Text, a part, or a list of them."""
        if isinstance(value, str):
            self.parts.append(Part("text", value))
        elif isinstance(value, list):
            for part in value:
                self.content(part)
        elif isinstance(value, dict):
            self.add(value)
        elif value is not None:
            self.lost[UNKNOWN_PART] += 1

    def add(self, part: dict[str, Any]) -> _Content:
        """One part or block."""
        kind = str(part.get("type") or "").lower()
        if kind in CALL or (kind.startswith("tool-") and kind not in RESULT):
            self.call(part)
        elif kind in RESULT:
            self._tool(_result(part, self.lost))
        elif kind in THOUGHT or (part.get("thought") is True and isinstance(part.get("text"), str)):
            self._reason(part)
        elif kind == "redacted_thinking":
            self.lost[HIDDEN_REASONING] += 1
        elif kind == "refusal":
            self.refusals.append(str(part.get("refusal") or part.get("text") or ""))
        elif kind in MEDIA:
            self._medium(part, MEDIA[kind])
        elif kind in TEXT or kind == "":
            self._plain(part)
        else:
            self._other(part)
        return self

    def _medium(self, part: dict[str, Any], kind: Kind) -> None:
        """A picture, audio or a file. What is called a file may say by its type of content what it is."""
        inner = next((item for item in part.values() if isinstance(item, dict)), {})
        named = [item.get(key) for item in (part, inner) for key in CONTENT_TYPES]
        media = next((item.partition("/")[0].lower() for item in named if isinstance(item, str)), "")
        self.parts.append(Part(cast("Kind", media) if kind == "file" and media in MEDIA_KINDS else kind))

    def _plain(self, part: dict[str, Any]) -> None:
        """A part without a type: Gemini, Bedrock, or plain text."""
        for key in ("text", "content", "value", "parts"):
            if isinstance(part.get(key), str):
                self.parts.append(Part("text", part[key]))
                return
            if isinstance(part.get(key), dict | list):
                self.content(part[key])  # OpenAI's threads: {"text": {"value": ...}}
                return
        for key in ("functionCall", "function_call", "toolUse"):
            if isinstance(part.get(key), dict):
                self.call(part[key])
                return
        for key in ("functionResponse", "function_response", "toolResult"):
            if isinstance(part.get(key), dict):
                self._tool(_result(part[key], self.lost))
                return
        for key in ("reasoningContent", "executableCode", "executable_code", "codeExecutionResult", "code_execution_result",
                    "guardContent", "json"):  # fmt: skip
            if isinstance(part.get(key), dict | list):
                text = said_of(part[key]) or _dumped(part[key])
                if key == "reasoningContent":
                    self.thoughts.append(text)
                else:
                    self.parts.append(Part("text", text))
                return
        medium = next((kind for key, kind in MEDIA_KEYS.items() if key in part), None)
        if medium:
            self._medium(part, medium)
        elif set(part) - {"cachePoint", "cache_control", "thoughtSignature", "type"}:
            self.lost[UNKNOWN_PART] += 1

    def _other(self, part: dict[str, Any]) -> None:
        """A part of a kind that is not known: its text is kept where it has one."""
        if "reasoning" in str(part.get("type")).lower():  # as frameworks name it: `...AI.TextReasoningContent`
            if text := said_of(part):
                self.thoughts.append(text)
            else:
                self.lost[HIDDEN_REASONING] += 1
            return
        for key in ("text", "content", "value", "output_text"):
            if isinstance(part.get(key), str):
                self.parts.append(Part("text", part[key]))
                return
        medium = next((kind for key, kind in MEDIA_KEYS.items() if key in part), None)
        if medium:
            self._medium(part, medium)
        elif role_of(str(part.get("type"))) and isinstance(part.get("content"), list):
            self.content(part["content"])
        else:
            self.lost[UNKNOWN_PART] += 1

    def _reason(self, part: dict[str, Any]) -> None:
        text = None
        for key in ("thinking", "text", "content", "reasoning", "summary", "thought"):
            text = said_of(part.get(key)) if not isinstance(part.get(key), bool) else None
            if text:
                break
        if text:
            self.thoughts.append(text)
            if part.get("content") and said_of(part.get("summary")):
                self.lost[SUMMARY] += 1
        elif part.get("encrypted_content"):
            self.lost[HIDDEN_REASONING] += 1

    def _tool(self, result: Message) -> None:
        """A tool's result: the message itself where the role says so, else a message of its own."""
        if self.role == "tool":
            self.parts += result.parts
            self.call_id = self.call_id or result.call_id
        else:
            self.results.append(result)

    def call(self, value: Any) -> None:
        """A tool call in any spelling."""
        if not isinstance(value, dict):
            self.lost[UNKNOWN_PART] += 1
            return
        function = value.get("function", value.get("tool_call"))
        inner = function if isinstance(function, dict) else value
        if isinstance(inner.get("function"), dict):
            inner = inner["function"]
        name = inner.get("name") or inner.get("toolName") or inner.get("tool_name") or value.get("name")
        if not isinstance(name, str) or not name:
            kind = str(value.get("type") or "")
            name = kind.removesuffix("_call").removeprefix("tool-") if kind in CALL or kind.startswith("tool-") else ""
        arguments = None
        for key in ("arguments", "args", "input", "parameters", "action", "queries", "code"):
            if inner.get(key) is not None:
                arguments = inner[key]
                break
        if not name and arguments is None:
            self.lost[UNKNOWN_PART] += 1
            return
        written = arguments if isinstance(arguments, str) else "" if arguments is None else _dumped(arguments)
        identity = value.get("id") or value.get("call_id") or value.get("toolUseId") or value.get("toolCallId")
        self.calls.append(Call(name, written, _name(value.get("call_id") or identity)))


def _result(part: dict[str, Any], lost: Lost) -> Message:
    content = _Content("tool", lost)
    value: Any = None
    for key in ("content", "output", "response", "result", "results", "text"):
        if part.get(key) is not None:
            value = part[key]
            break
    if (
        isinstance(value, dict)
        and value.get("type") in ("text", "error-text", "json", "error-json")
        and "value" in value
    ):
        value = value["value"]  # Vercel AI
    if (
        isinstance(value, list) and value and all(isinstance(item, dict) and _is_part(item) for item in value)
    ) or isinstance(value, str):
        content.content(value)
    elif value is not None:
        content.content(_dumped(value))
    named = part.get("tool_use_id") or part.get("call_id") or part.get("toolUseId") or part.get("toolCallId")
    return replace(content.message(), call_id=_name(named or part.get("id")))


def _is_part(value: dict[str, Any]) -> bool:
    return isinstance(value.get("text"), str) or str(value.get("type") or "").lower() in MEDIA or "json" in value


def _dumped(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def messages_like(value: Any) -> bool:
    """Whether a value is a list of messages in one of the dialects (its first entry tells)."""
    value = embedded(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, list) and value and all(map(pyrepr.is_message, value)):
        return True
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    item = _unwrapped(value[0])
    role = item.get("role", item.get("from", item.get("author")))
    role = role.get("role") if isinstance(role, dict) else role
    roles = {
        "content",
        "parts",
        "value",
        "tool_calls",
        "function_call",
        "text",
        "contents",
        "refusal",
        "message",
    } & item.keys()
    if isinstance(role, str):
        return bool(roles)
    kind = str(item.get("type") or "").lower()
    return (kind in CALL | RESULT | THOUGHT and len(item) > 1) or (role_of(kind) is not None and bool(roles))
