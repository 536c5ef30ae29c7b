"""Streams as logs hold them: server-sent events as text, lists of chunks, or a chunk a line. Folded into one answer body.

Dialects: OpenAI chat and completions, Responses and Anthropic events, Gemini chunks, Ollama lines, TGI tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from draftsmith.contract.wire import Choice

_ANTHROPIC = ("message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta",
              "content_block_stop", "ping")  # fmt: skip


def is_chunk(value: Any) -> bool:
    """Whether a JSON object is a piece of a streamed answer."""
    if not isinstance(value, dict):
        return False
    if str(value.get("object") or "").endswith(".chunk"):
        return True
    kind = value.get("type")
    if isinstance(kind, str) and (kind in _ANTHROPIC or (kind.startswith("response.") and len(value) > 1)):
        return True
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return isinstance(choices[0].get("delta"), dict)
    return isinstance(value.get("token"), dict) and "text" in value["token"]


def events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of server-sent events."""
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("data:"):
            line = line[5:].strip()
        if line[:1] == "{":
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value


def looks_streamed(text: str) -> bool:
    """Whether text is a body of server-sent events."""
    if not text.lstrip()[:10].startswith(("data:", "event:")):
        return False
    first = next(events(text), None)
    return first is not None and (
        is_chunk(first) or bool({"choices", "candidates", "error", "generated_text"} & first.keys())
    )


def fold(chunks: Iterable[Any]) -> dict[str, Any]:
    """One body of all chunks."""
    made = Folding()
    for chunk in chunks:
        if isinstance(chunk, dict):
            made.add(chunk)
    return made.body()


@dataclass
class Folding:
    """Takes in the chunks of one answer, and holds no more than the answer itself."""

    top: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    _choices: dict[Any, Choice] = field(default_factory=dict)
    _blocks: dict[Any, dict[str, Any]] = field(default_factory=dict)
    _whole: dict[str, Any] | None = None
    _parts: list[Any] = field(default_factory=list)
    _done: bool = False

    def add(self, chunk: dict[str, Any]) -> None:
        """Take in the next chunk."""
        self.size += 1
        kind = chunk.get("type")
        if isinstance(chunk.get("error"), dict | str) and chunk["error"]:
            self.top["error"] = chunk["error"]
        if isinstance(kind, str) and kind.startswith("response."):
            self._responses(kind, chunk)
        elif isinstance(kind, str) and kind in _ANTHROPIC:
            self._anthropic(kind, chunk)
        elif isinstance(chunk.get("candidates"), list):
            self._gemini(chunk)
        elif isinstance(chunk.get("token"), dict):
            self._tgi(chunk)
        elif "done" in chunk and ("message" in chunk or "response" in chunk):
            self._ollama(chunk)
        else:
            self._openai(chunk)

    @property
    def done(self) -> bool:
        """Whether the last chunk of the stream has been seen."""
        return self._done

    def _openai(self, chunk: dict[str, Any]) -> None:
        for key in ("id", "model", "created", "prompt_token_ids", "timestamp"):
            if chunk.get(key) and key not in self.top:
                self.top[key] = chunk[key]
        if isinstance(chunk.get("usage"), dict):
            self.top["usage"] = chunk["usage"]
        choices = chunk.get("choices")
        # The chunk that carries the counts of a whole stream has no choices, and is the last.
        self._done = choices == [] and isinstance(chunk.get("usage"), dict)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        self._choices.setdefault(index if isinstance(index, int) else 0, Choice()).add(choice, None)
        if isinstance(choice.get("prompt_token_ids"), list):
            self.top.setdefault("prompt_token_ids", choice["prompt_token_ids"])

    def _responses(self, kind: str, chunk: dict[str, Any]) -> None:
        whole = chunk.get("response")
        if isinstance(whole, dict) and kind in ("response.completed", "response.incomplete", "response.failed"):
            self._whole, self._done = whole, True
            return
        if isinstance(whole, dict):
            self.top |= {key: whole[key] for key in ("id", "model", "created_at") if whole.get(key)}
        at = chunk.get("output_index", 0)
        if kind == "response.output_item.done" and isinstance(chunk.get("item"), dict):
            self._blocks[at] = {"item": chunk["item"]}
        piece = chunk.get("delta")
        if isinstance(piece, str) and "item" not in self._blocks.get(at, {}):
            block = self._blocks.setdefault(at, {"kind": kind, "pieces": []})
            block["pieces"].append(piece)
        if kind == "response.output_item.added" and isinstance(chunk.get("item"), dict):
            self._blocks.setdefault(at, {"kind": kind, "pieces": []})["added"] = chunk["item"]

    def _anthropic(self, kind: str, chunk: dict[str, Any]) -> None:
        at = chunk.get("index", 0)
        if kind == "message_start" and isinstance(chunk.get("message"), dict):
            message = chunk["message"]
            self.top |= {key: message[key] for key in ("id", "model", "role", "usage") if message.get(key)}
        elif kind == "content_block_start" and isinstance(chunk.get("content_block"), dict):
            self._blocks[at] = {"block": chunk["content_block"], "pieces": []}
        elif kind == "content_block_delta" and isinstance(chunk.get("delta"), dict):
            delta = chunk["delta"]
            block = self._blocks.setdefault(at, {"block": {"type": "text"}, "pieces": []})
            for key in ("text", "thinking", "partial_json"):
                if isinstance(delta.get(key), str):
                    block["pieces"].append(delta[key])
        elif kind == "message_stop":
            self._done = True
        elif kind == "message_delta":
            if isinstance(chunk.get("usage"), dict):
                self.top["usage"] = {**(self.top.get("usage") or {}), **chunk["usage"]}
            if isinstance(chunk.get("delta"), dict):
                self.top["stop_reason"] = chunk["delta"].get("stop_reason")

    def _gemini(self, chunk: dict[str, Any]) -> None:
        for key in ("usageMetadata", "modelVersion", "responseId"):
            if chunk.get(key):
                self.top[key] = chunk[key]
        candidate = chunk["candidates"][0] if chunk["candidates"] else None
        if isinstance(candidate, dict):
            content = candidate.get("content")
            parts = content.get("parts") if isinstance(content, dict) else None
            for part in parts if isinstance(parts, list) else ():
                last = self._parts[-1] if self._parts else None
                if _joins(last, part):
                    self._parts[-1] = {**part, "text": last["text"] + part["text"]}  # type: ignore[index]
                else:
                    self._parts.append(part)
            self.top["finishReason"] = candidate.get("finishReason") or self.top.get("finishReason")

    def _tgi(self, chunk: dict[str, Any]) -> None:
        token, details = chunk["token"], chunk.get("details")
        text = token.get("text") if not token.get("special") else None
        ids = [token["id"]] if type(token.get("id")) is int else None
        finish = details.get("finish_reason") if isinstance(details, dict) else None
        self._choice({"delta": {"content": text}, "token_ids": ids, "finish_reason": finish})
        self._done = isinstance(chunk.get("generated_text"), str)
        if isinstance(details, dict):
            self.top["usage"] = {"completion_tokens": details.get("generated_tokens")}

    def _ollama(self, chunk: dict[str, Any]) -> None:
        message = chunk.get("message")
        message = (
            message
            if isinstance(message, dict)
            else {"content": chunk.get("response"), "thinking": chunk.get("thinking")}
        )
        self._done = chunk.get("done") is True
        finish = chunk.get("done_reason") or "stop" if self._done else None
        self._choice({"delta": {**message, "reasoning": message.get("thinking")}, "finish_reason": finish})
        if self._done:
            self.top["usage"] = {key: chunk.get(key) for key in ("prompt_eval_count", "eval_count")}
        self.top.setdefault("model", chunk.get("model"))

    def body(self) -> dict[str, Any]:
        """The answer as if it had not been streamed."""
        if self._whole is not None:
            return self._whole
        if self._parts or "finishReason" in self.top:
            content = {"role": "model", "parts": self._parts}
            return {**self.top, "candidates": [{"content": content, "finishReason": self.top.get("finishReason")}]}
        if self._blocks:
            blocks = [self._blocks[at] for at in sorted(self._blocks, key=str)]
            if any("block" in block for block in blocks):
                return {
                    **self.top,
                    "role": "assistant",
                    "content": [_block(block) for block in blocks if "block" in block],
                }
            return {**self.top, "output": [_item(block) for block in blocks]}
        choices = [_whole_choice(index, self._choices[index]) for index in sorted(self._choices, key=str)]
        return {**self.top, "choices": choices}


def _joins(last: Any, part: Any) -> bool:
    return (
        isinstance(last, dict)
        and isinstance(part, dict)
        and isinstance(last.get("text"), str)
        and isinstance(part.get("text"), str)
        and bool(last.get("thought")) == bool(part.get("thought"))
    )


def _whole_choice(index: Any, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.content)}
    if choice.reasoning:
        message["reasoning"] = "".join(choice.reasoning)
    if choice.tool_calls:
        message["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments} for call in choice.tool_calls.values()
        ]
    return {"index": index, "message": message, "finish_reason": choice.finish, "token_ids": choice.token_ids or None}


def _block(entry: dict[str, Any]) -> dict[str, Any]:
    block, text = dict(entry["block"]), "".join(entry["pieces"])
    kind = str(block.get("type") or "text")
    if kind == "thinking":
        block["thinking"] = str(block.get("thinking") or "") + text
    elif "tool" in kind:
        if text:
            block["input"] = text
    else:
        block["text"] = str(block.get("text") or "") + text
    return block


def _item(entry: dict[str, Any]) -> dict[str, Any]:
    if "item" in entry:
        item: dict[str, Any] = entry["item"]
        return item
    text, added = "".join(entry.get("pieces", ())), entry.get("added") or {}
    kind = str(added.get("type") or entry.get("kind"))
    if "function_call" in kind:
        return {**added, "type": "function_call", "arguments": text or added.get("arguments")}
    if "reasoning" in kind:
        return {"type": "reasoning", "content": text}
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
