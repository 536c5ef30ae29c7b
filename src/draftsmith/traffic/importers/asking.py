"""What was asked: request bodies of any API, wherever a log puts them.

`prompt_of` takes what a log kept (an object, a list, JSON inside a string, a prompt) and looks at its structure alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers.base import SkipError, embedded
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.parts import Lost, messages_like, read_messages
from draftsmith.traffic.messages import Message, Part

SEVERAL = "several prompts in one request"


@dataclass
class Asked:
    """What a request body holds."""

    messages: list[Message] = field(default_factory=list)
    ids: list[int] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    user: dict[str, Any] = field(default_factory=dict)


_SYSTEM = ("system", "instructions", "system_instruction", "systemInstruction", "system_instructions", "system_prompt", "systemPrompt",
           "preamble")  # fmt: skip
_PROMPTS = ("messages", "input_messages", "contents", "chat_history", "input", "prompt", "inputs", "inputText", "text", "prompts",
            "question", "query", "message", "user_prompt", "instruction")  # fmt: skip
_NESTED = ("body", "request", "request_body", "json", "params", "payload", "kwargs", "data")


def prompt_of(value: Any, lost: Lost, depth: int = 0) -> Asked:
    """What was asked. Raises SkipError if it holds several prompts, or messages that are none."""
    if isinstance(value, str):
        inside = embedded(value) if value.lstrip()[:1] in ("[", "{") else None
        # A prompt may be JSON itself: only what is certainly a request is read as a request.
        if (isinstance(inside, dict) and _is_body(inside)) or messages_like(inside):
            return prompt_of(inside, lost, depth)
        return Asked([Message("user", (Part("text", value),))] if value else [])
    if isinstance(value, list):
        return _listed(value, lost)
    if not isinstance(value, dict):
        return Asked()
    return _request(value, lost, depth)


def _listed(value: list[Any], lost: Lost) -> Asked:
    offered = [item for item in value if _is_offer(item)]
    if offered:
        listing = _listed([item for item in value if not _is_offer(item)], lost)
        return Asked(listing.messages, listing.ids, {"tools": [item["content"] for item in offered], **listing.params})
    if value and all(type(item) is int for item in value):
        return Asked(ids=value)
    if len(value) == 1 and isinstance(value[0], list) and value[0]:
        return _listed(value[0], lost)
    if messages_like(value):
        return Asked(read_messages(value, lost))
    if value and all(isinstance(item, str | list) for item in value):
        if len(value) > 1 and not isinstance(value[0], list):
            raise SkipError(SEVERAL)
        if len(value) > 1 and all(isinstance(item, list) and item and type(item[0]) is int for item in value):
            raise SkipError(SEVERAL)
        return prompt_of(value[0], lost) if isinstance(value[0], str) else Asked(read_messages(value, lost))
    return Asked(read_messages(value, lost))


def _request(body: dict[str, Any], lost: Lost, depth: int) -> Asked:
    request = Asked(params=asked(body), model=name_of(body.get("model") or body.get("model_id") or body.get("modelId")))
    key = next((key for key in _PROMPTS if body.get(key) not in (None, "", [], {})), None)
    if key is None and "role" in body:
        request.messages = read_messages(body, lost)
        return request
    nested = next((key for key in _NESTED if is_request(embedded(body.get(key)))), None)
    if (key is None or not _is_prompt(body[key])) and nested is not None and depth < 3:
        inner = prompt_of(embedded(body[nested]), lost, depth + 1)
        inner.params = {**request.params, **inner.params}
        inner.model = inner.model or request.model
        return inner
    if key is not None:
        value = body[key]
        if isinstance(value, dict) and depth < 3 and "role" not in value:
            inner = prompt_of(value, lost, depth + 1)
        elif isinstance(value, str) and key in ("prompt", "inputs", "text", "question", "instruction", "inputText"):
            # A prompt may begin like JSON (`[INST] ...`) or be JSON that is no request.
            inner = prompt_of(value, lost, depth + 1)
        elif key == "contents" and isinstance(value, list):
            # Gemini: who says nothing else is the user.
            inner = _from([{"role": "user", **item} if isinstance(item, dict) else item for item in value], lost, depth)
        else:
            inner = _from(value, lost, depth)
        request.messages, request.ids = inner.messages, inner.ids
        request.params = {**inner.params, **request.params}
        request.model = request.model or inner.model
        if key == "chat_history" and isinstance(body.get("message"), str):  # Cohere
            request.messages = [*request.messages, Message("user", (Part("text", body["message"]),))]
    held = [body, *(body[key] for key in ("config", "generationConfig") if isinstance(body.get(key), dict))]
    system = [item for place in held for name in _SYSTEM if name in place for item in _system(place[name], lost)]
    if system and (request.messages or request.ids is None):
        request.messages = [*system, *request.messages]
    return request


def _is_offer(value: Any) -> bool:
    """Whether a message is the definition of a tool, which LangChain's callbacks log behind the messages."""
    if not isinstance(value, dict) or value.get("role") != "tool" or not isinstance(value.get("content"), dict):
        return False
    function = value["content"].get("function")
    return isinstance(function, dict) and "name" in function and "arguments" not in function


def _from(value: Any, lost: Lost, depth: int) -> Asked:
    return prompt_of(value, lost, depth + 1)


def _system(value: Any, lost: Lost) -> list[Message]:
    """A system prompt as APIs keep it beside the messages: text, parts, or an object with parts."""
    inside = embedded(value) if isinstance(value, str) and value[:2] == "[{" else None
    if isinstance(inside, list) and all(
        isinstance(item, dict) and isinstance(item.get("text"), str) for item in inside
    ):
        value = inside
    if not value:
        return []
    return read_messages({"role": "system", "content": value}, lost)


def _is_prompt(value: Any) -> bool:
    value = embedded(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value
    return isinstance(value, str | list) or (isinstance(value, dict) and (is_request(value) or "role" in value))


def _is_body(value: dict[str, Any]) -> bool:
    """Whether JSON inside a text is a request body, and not what a user wrote."""
    if any(messages_like(value.get(key)) for key in ("messages", "contents", "input_messages")):
        return True
    return "model" in value and is_request(value)


def is_request(value: Any) -> bool:
    """Whether an object looks like a request body."""
    if not isinstance(value, dict):
        return False
    for key in ("messages", "contents", "input_messages"):
        if isinstance(value.get(key), list | str) and value[key]:
            return True
    if isinstance(value.get("prompt"), str | list) and value["prompt"]:
        return True
    if isinstance(value.get("input"), str | list) and value["input"]:
        return True
    return any(isinstance(value.get(key), str) and value[key] for key in ("inputs", "inputText", "question", "query"))


def name_of(value: Any) -> str | None:
    """A name: text, or a number as text."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
