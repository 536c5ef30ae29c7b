"""Sessions of coding agents: Claude Code and Codex write a line for every message. Each call of the model is one request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import Said, finish_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, mapping, timing
from draftsmith.traffic.importers.bodies import answer_fields, name_of
from draftsmith.traffic.importers.counts import usage_of
from draftsmith.traffic.messages import Message, merged

Found = Iterator[tuple[int, Fields | SkipError]]
OPEN_SESSIONS = 512
_NO_MESSAGE = "session entry that is no message"
UNANSWERED = "prompt that nobody answered"


@dataclass
class Talk:
    """One conversation as it grows, and the answer that is being written."""

    name: str | None
    before: list[dict[str, Any]] = field(default_factory=list)
    answer: list[Message] = field(default_factory=list)
    said: Said = field(default_factory=Said)
    key: Any = None
    line: int = 0
    waiting: int | None = None
    asked_at: Any = None
    answered_at: Any = None
    made: int = 0
    marks: dict[str, int | None] = field(default_factory=dict)
    lost: parts.Lost = field(default_factory=parts.Lost)

    def hear(self, messages: list[Message], when: Any, line: int) -> None:
        """What was said to the model in a line, and waits for its answer."""
        self.waiting = line
        self.before += [message.wire() for message in messages if not message.empty]
        self.asked_at = when

    def mark(self, name: Any) -> None:
        """Remember how much of the conversation stands at an entry. An answer that is being written stands at its end."""
        if isinstance(name, str):
            self.marks[name] = None if self.answer else len(self.before)

    def rewind(self, name: Any) -> None:
        """Go back to an entry: whoever edits what they said takes back what followed."""
        place = self.marks.get(name) if isinstance(name, str) else None
        if place is not None and place < len(self.before):
            del self.before[place:]

    def close(self) -> Found:
        """The request that the pending answer belongs to."""
        if not self.answer:
            return
        self.waiting = None
        message, text, lost = merged(self.answer), self.said, self.lost
        line = self.line
        prompt = list(self.before)
        self.before.append(message.wire())
        for name, place in self.marks.items():
            if place is None:
                self.marks[name] = len(self.before)
        self.answer, self.said, self.lost, self.key = [], Said(), parts.Lost(), None
        begin, end = self.asked_at, self.answered_at
        self.asked_at = end
        text.message = message
        fields = answer_fields(text)
        fields.setdefault("id", f"{self.name}/{self.made}" if self.name else None)
        self.made += 1
        fields |= {"conversation": self.name, "messages": prompt or None, "timing": timing(begin, end=end)}
        parts.noted(fields, lost)
        yield line, fields

    def end(self) -> Found:
        """The request at the end; or that nobody answered what was said last."""
        yield from self.close()
        if self.waiting is not None:
            yield self.waiting, SkipError(UNANSWERED)


class Talks:
    """Conversations by name; of too many the one that was silent longest is closed."""

    def __init__(self) -> None:
        self._open: dict[Any, Talk] = {}

    def get(self, key: Any, name: str | None) -> Talk:
        """The conversation of this key."""
        talk = self._open.pop(key, None) or Talk(name)
        self._open[key] = talk
        return talk

    def overflow(self) -> Found:
        """What the closed one left."""
        if len(self._open) > OPEN_SESSIONS:
            yield from self._open.pop(next(iter(self._open))).end()

    def end(self) -> Found:
        """What all of them left."""
        for talk in self._open.values():
            yield from talk.end()


class ClaudeCode:
    """`~/.claude/projects/**.jsonl`: an answer may be spread over lines with one message id."""

    def __init__(self) -> None:
        self._talks = Talks()

    def add(self, number: int, value: Any) -> Found:
        """One entry."""
        message = value.get("message")
        kind = value.get("type") or mapping(message).get("role")  # the first versions wrote no type
        name = name_of(value.get("sessionId") or value.get("session_id"))
        talk = self._talks.get((name, value.get("isSidechain") is True, value.get("agentId")), name)
        if kind == "system" and value.get("subtype") == "compact_boundary":
            yield from talk.close()
            talk.before, talk.marks = [], {}
            return
        if kind not in ("user", "assistant"):
            talk.mark(value.get("uuid"))
        if kind not in ("user", "assistant") or not isinstance(message, dict):
            raise SkipError(_NO_MESSAGE)
        if value.get("isApiErrorMessage") or message.get("model") == "<synthetic>":
            raise SkipError("failed request")
        when = value.get("timestamp")
        if kind == "user":
            yield from talk.close()
            messages = parts.read_messages([message], talk.lost)
            if not any(item.role == "tool" for item in messages):
                talk.rewind(value.get("parentUuid"))
            talk.hear(messages, when, number)
            talk.mark(value.get("uuid"))
            yield from self._talks.overflow()
            return
        key = name_of(message.get("id")) or name_of(value.get("requestId")) or number
        if talk.answer and talk.key != key:
            yield from talk.close()
        talk.answer += parts.read_messages([{**message, "role": "assistant"}], talk.lost)
        talk.mark(value.get("uuid"))
        talk.key, talk.line, talk.answered_at = key, number, when
        text = talk.said
        text.id, text.model = name_of(message.get("id")), name_of(message.get("model"))
        text.finish = finish_of(message.get("stop_reason")) or text.finish
        text.usage = usage_of(message.get("usage"))

    def end(self) -> Found:
        """Answers that nothing followed."""
        yield from self._talks.end()


def _compacted(talk: Talk, payload: dict[str, Any]) -> list[dict[str, Any]]:
    """What stands in place of a conversation that was summed up: its rules, and the summary or the history that is left of it."""
    left = payload.get("replacement_history")
    if isinstance(left, list) and left:
        rules = [message for message in talk.before[:1] if message["role"] == "system"]
        return rules + [message.wire() for message in parts.read_messages(left, talk.lost)]
    rules = [message for message in talk.before if message["role"] in ("system", "developer")]
    summary = payload.get("message")
    return rules + ([{"role": "user", "content": summary}] if isinstance(summary, str) and summary else [])


class Codex:
    """`~/.codex/sessions/**/rollout-*.jsonl`: Responses items, with counts in events after them."""

    def __init__(self) -> None:
        self._talk = Talk(None)
        self._model: str | None = None
        self._first = self._answers = 0

    def add(self, number: int, value: Any) -> Found:
        """One entry."""
        self._first = self._first or number
        kind, payload, talk = value.get("type"), mapping(value.get("payload")), self._talk
        if "payload" not in value:  # up to 0.30: the items themselves, behind a line about the session
            about = "instructions" in value and kind is None
            kind, payload = ("session_meta" if about else "response_item"), value
        if kind == "session_meta":
            yield from talk.end()
            self._talk = talk = Talk(name_of(payload.get("id")))
            instructions = payload.get("instructions") or mapping(payload.get("base_instructions")).get("text")
            if isinstance(instructions, str) and instructions:
                talk.before.append({"role": "system", "content": instructions})
        elif kind == "turn_context":
            self._model = name_of(payload.get("model"))
        elif kind == "compacted":
            yield from talk.close()
            talk.before = _compacted(talk, payload)
        elif kind == "event_msg" and payload.get("type") == "token_count":
            counted = mapping(mapping(payload.get("info")).get("last_token_usage"))
            if talk.answer and counted:
                talk.said.usage = usage_of(counted)
                yield from talk.close()
        elif kind == "response_item":
            yield from self._item(number, payload, value.get("timestamp"))
        else:
            raise SkipError(_NO_MESSAGE)

    def _item(self, number: int, payload: dict[str, Any], when: Any) -> Found:
        talk = self._talk
        if payload.get("type") in ("ghost_snapshot", "other", None):
            raise SkipError(_NO_MESSAGE)
        for message in parts.read_messages([payload], talk.lost):
            if message.role == "assistant":
                if message.parts and any(item.parts for item in talk.answer) and talk.answer[-1].calls:
                    yield from talk.close()
                talk.answer.append(message)
                self._answers += 1
                talk.line, talk.answered_at, talk.said.model = number, when, self._model
            else:
                yield from talk.close()
                talk.hear([message], when, number)

    def end(self) -> Found:
        """The last answer."""
        if not self._answers and self._talk.waiting is None:
            yield self._first, SkipError("session without an answer")
        yield from self._talk.end()


_CLAUDE = frozenset({"user", "assistant", "summary", "system", "file-history-snapshot", "progress", "queue-operation"})


def _is_entry(row: dict[str, Any]) -> bool:
    """A line of Claude Code, of its stream (`--output-format stream-json`), or of a session that was exported."""
    kind, message = row.get("type"), row.get("message")
    if kind in _CLAUDE and ("sessionId" in row or "leafUuid" in row or "isSnapshotUpdate" in row):
        return True
    if not isinstance(message, dict) or kind not in (None, "user", "assistant"):
        return False
    if kind is None:
        return "sessionId" in row and message.get("role") in ("user", "assistant")
    return message.get("role") == kind or ("usage" in message and kind == "assistant")


def _is_item(row: dict[str, Any]) -> bool:
    """A line of Codex up to 0.30: an item of the Responses API, or what is said of the session."""
    if row.get("type") in ("reasoning", "function_call", "function_call_output", "local_shell_call"):
        return bool({"summary", "call_id"} & row.keys())
    if row.get("type") == "message":
        content = row.get("content")
        first = content[0] if isinstance(content, list) and content else None
        return isinstance(first, dict) and first.get("type") in ("input_text", "output_text")
    return row.get("record_type") == "state" or {"id", "timestamp", "instructions"} == row.keys() - {"git"}


_CODEX = frozenset({"session_meta", "response_item", "event_msg", "turn_context", "compacted"})

CLAUDE_CODE = Importer(
    "claude-code",
    lambda row: _is_entry(row),
    lacks=("system prompts", "tools", "parameters"),
    what="sessions of Claude Code (`~/.claude/projects`): a request for every answer",
    marks=("sessionId", "uuid", "parentUuid", "message", "type"),
    session=ClaudeCode,
)
CODEX = Importer(
    "codex",
    lambda row: (row.get("type") in _CODEX and isinstance(row.get("payload"), dict)) or _is_item(row),
    lacks=("tools", "parameters"),
    what="sessions of Codex (`~/.codex/sessions`): a request for every answer",
    marks=("payload", "type", "timestamp"),
    session=Codex,
)
