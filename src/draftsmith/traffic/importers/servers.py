"""What servers send: streamed chunks of any API, and TGI's own answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import answer_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, count, mapping
from draftsmith.traffic.importers.bodies import answer_fields, both
from draftsmith.traffic.importers.folding import Folding, fold, is_chunk
from draftsmith.traffic.importers.parameters import asked

OPEN_STREAMS = 4096
MAX_CHUNKS = 200_000
Found = Iterator[tuple[int, Fields | SkipError]]


def _record(body: dict[str, Any]) -> Fields:
    lost = parts.Lost()
    answer = answer_of(body, lost)
    fields = answer_fields(answer)
    fields.pop("timing", None)  # chunks say when the answer began, not when it was asked for
    parts.noted(fields, lost)
    return fields


def _chunks(row: Any) -> Iterator[Fields]:
    """A stream given as one list."""
    yield _record(fold(row["chunks"]))


@dataclass
class Streams:
    """Chunks, one a value, of streams that may be mixed: they are separated by their id."""

    _open: dict[Any, tuple[Folding, int]] = field(default_factory=dict)
    _last: Any = None

    def add(self, number: int, value: Any) -> Found:
        """One chunk."""
        if isinstance(value.get("chunks"), list):
            yield number, _record(fold(value["chunks"]))
            return
        key = self._key(value)
        folding, _ = self._open.pop(key, (Folding(), number))
        folding.add(value)
        self._open[key] = (folding, number)
        self._last = key
        if folding.done or folding.size > MAX_CHUNKS:
            yield from self._close(key)
        elif len(self._open) > OPEN_STREAMS:
            yield from self._close(next(iter(self._open)))

    def _key(self, value: dict[str, Any]) -> Any:
        name = value.get("id")
        if isinstance(name, str) and name and "choices" in value:
            return name
        if value.get("type") == "message_start":
            return ("anthropic", mapping(value.get("message")).get("id"))
        whole = value.get("response")
        if isinstance(whole, dict) and isinstance(whole.get("id"), str):
            return ("responses", whole["id"])
        if isinstance(value.get("type"), str) and self._last is not None:
            return self._last  # events name their stream once
        return (value.get("model"), value.get("created"))

    def _close(self, key: Any) -> Found:
        folding, line = self._open.pop(key)
        try:
            yield line, _record(folding.body())
        except SkipError as skip:
            yield line, skip

    def end(self) -> Found:
        """Streams whose end was not seen."""
        for key in list(self._open):
            yield from self._close(key)


def _generate(row: Any) -> Iterator[Fields]:
    """TGI's own `/generate`: `{inputs, parameters, generated_text, details}`."""
    details = mapping(row.get("details"))
    tokens, prefill = details.get("tokens"), details.get("prefill")
    ids = [token.get("id") for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else None
    fields = both(row.get("inputs"), {"role": "assistant", "content": str(row["generated_text"])}, parts.Lost())
    yield {
        **fields,
        "params": asked({"parameters": mapping(row.get("parameters"))}),
        "output_token_ids": ids if ids and all(type(token) is int for token in ids) else None,
        "usage": {
            "prompt_tokens": len(prefill) if isinstance(prefill, list) and prefill else None,
            "completion_tokens": count(details.get("generated_tokens")),
        },
        "finish_reason": details.get("finish_reason") if isinstance(details.get("finish_reason"), str) else None,
    }


TGI_CHUNKS = Importer(
    "tgi-stream",
    lambda row: isinstance(row.get("chunks"), list) or is_chunk(row),
    _chunks,
    lacks=("prompts", "parameters", "arrivals", "latency"),
    what="streamed chunks or events (OpenAI, Responses, Anthropic, TGI) as a list, a chunk a line, or server-sent events; streams may be mixed",
    marks=("id", "object", "choices", "delta", "created"),
    session=Streams,
)
TGI = Importer(
    "tgi",
    lambda row: isinstance(row.get("generated_text"), str),
    _generate,
    lacks=("arrivals", "latency"),
    what="`/generate` answers",
    marks=("inputs", "parameters", "generated_text", "details"),
)
