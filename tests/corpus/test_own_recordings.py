"""What Draftsmith recorded itself is read by the engine's own token ids, whatever the server's parsers made of the text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from corpus_service import Service

from draftsmith.corpus.build import iter_rows, needs_answers
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.profiling.profile import build_profile
from draftsmith.recorder.middleware import CaptureMiddleware
from draftsmith.recorder.settings import CaptureSettings
from draftsmith.traffic.importers import read_records

ARGUMENTS = json.dumps({"to": "Tir\u00ee, pier 2", "at": 7, "now": True}, ensure_ascii=False)


@dataclass(frozen=True)
class Wrote:
    """What a model writes, and what the server's parsers make of it. `{n}` is another number in every answer."""

    raw: str
    text: str | None = None
    reasoning: str | None = None
    arguments: str | None = None


KINDS = {
    "plain": Wrote("At 21:{n}.", "At 21:{n}."),
    "thinking": Wrote("<think>\nThe winter table, line {n}.\n</think>\n\nAt 21:{n}.", "\n\nAt 21:{n}.", "\nThe winter table, line {n}.\n"),
    "thinking that the template opens": Wrote("The winter table {n}.</think>At 21:{n}.", "At 21:{n}.", "The winter table {n}."),
    "thinking that never ends": Wrote("<think>The winter table {n}, and then", None, "The winter table {n}, and then"),
    "Hermes": Wrote("Let me look {n}.\n<tool_call>\n{{'name': 'find_boat', 'arguments': {args}}}\n</tool_call>", "Let me look {n}.\n", None, ARGUMENTS),
    "Llama 3": Wrote('<|python_tag|>{{"name": "find_boat", "parameters": {args}}}', None, None, ARGUMENTS),
    "XML": Wrote("<think>Look {n}.</think><tool_call>\n<function=find_boat>\n<parameter=to>\nTir\u00ee, pier 2\n</parameter>\n<parameter=at>\n7\n</parameter>\n<parameter=now>\n"
                 "true\n</parameter>\n</function>\n</tool_call>", None, "Look {n}.", ARGUMENTS),
    "pythonic": Wrote("[find_boat(to='Tir\u00ee, pier 2', at=7, now=True)]", None, None, ARGUMENTS),
    "harmony": Wrote("<|channel|>analysis<|message|>The winter table {n}.<|end|><|start|>assistant<|channel|>commentary to=functions.find_boat <|constrain|>json<|message|>{args}<|call|>",
                     None, "The winter table {n}.", ARGUMENTS),
}  # fmt: skip
ASKED = 24


def filled(text: str | None, number: int) -> str | None:
    return text.replace("{n}", str(number)).replace("{args}", ARGUMENTS).replace("{{", "{").replace("}}", "}") if text else None  # fmt: skip


class Engine:
    """An ASGI application that answers as vLLM does with parsers and `return_token_ids`."""

    def __init__(self, service: Service, wrote: Wrote) -> None:
        self.service, self.wrote = service, wrote

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        number = int(body["messages"][-1]["content"].rsplit(" ", 1)[1])
        prompt = self.service.render(body["messages"])
        ids = self.service.ids(str(filled(self.wrote.raw, number)) + "<|end|>")
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        if body.get("stream"):
            kind, told = b"text/event-stream", self._chunks(number, prompt, ids, usage)
        else:
            kind, told = b"application/json", self._whole(number, prompt, ids, usage)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": told})

    def _call(self, number: int) -> list[dict[str, Any]]:
        if self.wrote.arguments is None:
            return []
        return [{"index": 0, "id": f"call-{number}", "type": "function", "function": {"name": "find_boat", "arguments": self.wrote.arguments}}]  # fmt: skip

    def _whole(self, number: int, prompt: list[int], ids: list[int], usage: dict[str, int]) -> bytes:
        message = {"role": "assistant", "content": filled(self.wrote.text, number), "reasoning": filled(self.wrote.reasoning, number), "tool_calls": self._call(number)}  # fmt: skip
        choice = {"index": 0, "message": message, "finish_reason": "stop", "token_ids": ids}
        return json.dumps({"id": f"c{number}", "model": "target", "choices": [choice], "usage": usage, "prompt_token_ids": prompt}).encode()  # fmt: skip

    def _chunks(self, number: int, prompt: list[int], ids: list[int], usage: dict[str, int]) -> bytes:
        events = list(self._events(number, prompt, ids, usage))
        return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events) + b"data: [DONE]\n\n"

    def _events(
        self, number: int, prompt: list[int], ids: list[int], usage: dict[str, int]
    ) -> Iterator[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for key, said in (("reasoning", self.wrote.reasoning), ("content", self.wrote.text)):
            whole = filled(said, number) or ""
            deltas += [{key: piece} for piece in (whole[:5], whole[5:]) if piece]
        for call in self._call(number):
            written = call["function"]["arguments"]
            deltas.append({"tool_calls": [{**call, "function": {"name": "find_boat", "arguments": ""}}]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in (written[:9], written[9:])]  # fmt: skip
        first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        yield {"id": f"c{number}", "model": "target", **first, "prompt_token_ids": prompt}
        share = -(-len(ids) // len(deltas))
        for at, delta in enumerate(deltas):
            end = "stop" if at == len(deltas) - 1 else None
            yield {"id": f"c{number}", "model": "target", "choices": [{"index": 0, "delta": delta, "finish_reason": end, "token_ids": ids[at * share : (at + 1) * share]}]}  # fmt: skip
        yield {"id": f"c{number}", "model": "target", "choices": [], "usage": usage}


def recorded(service: Service, wrote: Wrote, folder: Path, *, stream: bool) -> Path:
    """A folder of recordings."""
    app = CaptureMiddleware(Engine(service, wrote), CaptureSettings(folder=folder, min_free_bytes=0))

    async def ask() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            for number in range(ASKED):
                asked = {"model": "target", "messages": [{"role": "user", "content": f"question of another kind {number * number} no {number}"}]}  # fmt: skip
                await client.post("/v1/chat/completions", json={**asked, "stream": stream, "return_token_ids": True, "max_tokens": 400, "temperature": 0})  # fmt: skip

    asyncio.run(ask())
    assert app.recorder is not None
    app.recorder.close()
    return folder


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", KINDS)
def test_a_recording_is_profiled_and_trained_on_without_asking_again(
    name: str, stream: bool, service: Service, tmp_path: Path
) -> None:
    wrote = KINDS[name]
    log = recorded(service, wrote, tmp_path / "traffic", stream=stream)
    records = list(read_records([str(log)]))
    assert len(records) == ASKED
    for number, one in enumerate(records):
        assert one.output_token_ids == service.ids(str(filled(wrote.raw, number)) + "<|end|>")
        if wrote.reasoning or wrote.arguments:
            assert one.answer is not None
            assert one.answer.reasoning == filled(wrote.reasoning, number)
            assert [json.loads(call.arguments) for call in one.answer.calls] == ([json.loads(ARGUMENTS)] if wrote.arguments else [])  # fmt: skip
    profile = build_profile([str(log)], tokenizer=service.folder)
    assert (profile.n_requests, [one.reason for one in profile.skipped]) == (ASKED, [])
    sorted_ = needs_answers(records, "auto", tokens=TargetTokens(service.folder, service.target), served_as=("target",))
    assert (len(sorted_.ready), sorted_.replay, sorted_.dropped) == (ASKED, [], {})
    service.log = sorted_.ready
    manifest = service.build(tmp_path / "corpus")
    assert manifest.regenerated == 0
    rows = {row.id: row.input_ids.tolist() for row in iter_rows(tmp_path / "corpus")}
    assert rows
    of = {one.id: one for one in records}
    assert all(ids == [*(of[name].prompt_token_ids or ()), *(of[name].output_token_ids or ())] for name, ids in rows.items())  # fmt: skip
