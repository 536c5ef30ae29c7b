"""What frameworks and exports of sessions write beside the messages: tools, rules, hidden thoughts, prompts without an answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .test_public_shapes import lines, read

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
OBSERVATION = {"type": "GENERATION", "id": "g", "traceId": "t", "startTime": "2026-09-01T10:00:00Z", "endTime": "2026-09-01T10:00:02Z", "model": "m"}  # fmt: skip
ASKED = [{"role": "user", "content": "Capital of Norway?"}]


def generation(given: Any, said: Any = "Oslo.", **more: Any) -> str:
    return lines({**OBSERVATION, "input": given, "output": said, **more})


OFFERED = {
    "pydantic-ai": {"metadata": {"attributes": {"model_request_parameters": {"function_tools": [{"name": "lookup", "parameters_json_schema": SCHEMA}]}}}},
    "vercel": {"metadata": json.dumps({"attributes": {"ai.prompt.tools": [json.dumps({"type": "function", "name": "lookup", "inputSchema": SCHEMA})]}})},
    "opentelemetry": {"metadata": {"attributes": {"gen_ai.tool.definitions": json.dumps([{"name": "lookup", "parameters": SCHEMA}])}}},
    "langfuse": {"metadata": {"tools": [{"type": "function", "function": {"name": "lookup", "parameters": SCHEMA}}]}},
}  # fmt: skip


@pytest.mark.parametrize("name", OFFERED)
def test_tools_stand_beside_a_generation(name: str, tmp_path: Path) -> None:
    (record,), reasons = read(generation(ASKED, **OFFERED[name], modelParameters={"toolChoice": '{"type":"auto"}'}), tmp_path)  # fmt: skip
    assert record.params["tools"] == [{"type": "function", "function": {"name": "lookup", "parameters": SCHEMA}}]
    assert record.params["tool_choice"] == "auto"
    assert not reasons


def test_tools_stand_in_an_answer_that_repeats_its_request(tmp_path: Path) -> None:
    said = {"object": "response", "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Oslo."}]}],
            "tools": [{"type": "function", "name": "lookup", "parameters": SCHEMA}], "tool_choice": "auto"}  # fmt: skip
    (record,), _ = read(generation(ASKED, said), tmp_path)
    assert record.params["tools"][0]["function"]["name"] == "lookup"


def test_tools_that_stand_behind_the_messages_are_no_messages(tmp_path: Path) -> None:
    tool = {"role": "tool", "content": {"type": "function", "function": {"name": "lookup", "parameters": SCHEMA}}}
    (record,), reasons = read(generation([*ASKED, tool]), tmp_path)
    assert record.messages == ASKED
    assert record.params["tools"][0]["function"]["parameters"] == SCHEMA
    assert not reasons


def test_rules_stand_in_the_configuration_of_a_request(tmp_path: Path) -> None:
    given = {"model": "m", "contents": [{"role": "user", "parts": [{"text": "Capital of Norway?"}]}],
             "config": {"system_instruction": "Be brief.", "tools": [{"function_declarations": [{"name": "lookup"}]}]}}  # fmt: skip
    (record,), _ = read(generation(json.dumps(given)), tmp_path)
    assert record.messages == [{"role": "system", "content": "Be brief."}, *ASKED]
    assert record.params["tools"][0]["function"]["name"] == "lookup"


def test_no_tools_are_no_wrong_tools(tmp_path: Path) -> None:
    _, reasons = read(generation({"messages": ASKED, "tools": []}), tmp_path)
    assert not reasons


@pytest.mark.parametrize(("text", "lost"), [("North.", {}), ("", {"encrypted reasoning (left out)": 1})])
def test_thoughts_under_a_frameworks_own_name(text: str, lost: dict[str, int], tmp_path: Path) -> None:
    part = {"type": "Microsoft.Extensions.AI.TextReasoningContent", "content": {"text": text, "protectedData": "Cg=="}}
    said = [{"role": "assistant", "parts": [part, {"type": "text", "content": "Oslo."}]}]
    (record,), reasons = read(generation(ASKED, said), tmp_path)
    assert record.completion == f"{text}\nOslo.".strip()
    assert reasons == lost


def entry(role: str, content: Any = None, **more: Any) -> dict[str, Any]:
    return {"message": {"role": role, **({"content": content} if content else {}), **more}}


USAGE = {"input_tokens": 100, "cache_read_input_tokens": 10, "output_tokens": 50}
UNANSWERED = {"prompt that nobody answered": 1}
SESSIONS: dict[str, tuple[str, list[str | None], dict[str, int]]] = {
    "exported": (json.dumps({"loglines": [{"type": "user", **entry("user", "Norway?")}, {"type": "assistant", **entry("assistant", "Oslo.")}]}, indent=1), ["Oslo."], {}),
    "streamed": (lines({"type": "user", "session_id": "s", **entry("user", "Norway?")}, {"type": "assistant", "session_id": "s", **entry("assistant", "Oslo.", id="m1")}), ["Oslo."], {}),
    "of the first versions": (lines({"sessionId": "s", **entry("assistant", usage=USAGE, id="a")}, {"sessionId": "s", **entry("assistant", usage=USAGE, id="b")}), [None, None], {}),
    "broken off": (lines({"type": "user", "sessionId": "s", **entry("user", "Norway?")}, {"type": "assistant", "sessionId": "s", **entry("assistant", "Oslo.")},
                         {"type": "user", "sessionId": "s", **entry("user", "And Sweden?")}), ["Oslo."], UNANSWERED),
    "never answered": (lines({"type": "user", "sessionId": "s", **entry("user", "Norway?")}), [], UNANSWERED),
    "codex, broken off": (lines({"type": "response_item", "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Norway?"}]}}), [], UNANSWERED),
    "codex, counts alone": (lines({"type": "turn_context", "payload": {"model": "m"}}, {"type": "event_msg", "payload": {"type": "token_count", "info": {"last_token_usage": USAGE}}}), [], {"session without an answer": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_gives_its_answers_and_names_what_had_none(name: str, tmp_path: Path) -> None:
    text, answers, lost = SESSIONS[name]
    records, reasons = read(text, tmp_path)
    assert [record.completion for record in records] == answers
    assert reasons == lost
    if answers == ["Oslo."]:
        assert records[0].messages == [{"role": "user", "content": "Norway?"}]
    elif answers:
        assert {(record.usage.prompt_tokens, record.usage.completion_tokens) for record in records} == {(110, 50)}


def test_lists_of_records_by_name_are_opened(tmp_path: Path) -> None:
    row = {"messages": ASKED, "completion": "Oslo."}
    records, reasons = read(json.dumps({"first": [row], "second": [row, {"odd": 1}]}, indent=1), tmp_path)
    assert len(records) == 2
    assert reasons == Counter({"unknown format": 1})


def test_answers_of_several_turns_are_answers_each(tmp_path: Path) -> None:
    row = {"question_id": 101, "answer_id": "a", "model_id": "m", "choices": [{"index": 0, "turns": ["Oslo.", "Stockholm."]}]}  # fmt: skip
    records, _ = read(lines(row), tmp_path)
    assert [(one.id, one.completion) for one in records] == [("a/0", "Oslo."), ("a/1", "Stockholm.")]


PRINTED = ["role='system' content='Be brief.' name=None tool_calls=None", "role='user' content=\"What's the capital?\" name=None", "role='assistant' content=None tool_calls=[{'id': 'c1', 'function': {'name': 'lookup', 'arguments': '{}'}}] x=[1]"]  # fmt: skip


def test_messages_as_python_prints_them(tmp_path: Path) -> None:
    (record,), reasons = read(generation(json.dumps({"messages": PRINTED, "model": "m"})), tmp_path)
    system, user, assistant = record.messages or ()
    assert (system, user) == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What's the capital?"})  # fmt: skip
    assert [call["function"]["name"] for call in assistant["tool_calls"]] == ["lookup"]
    assert not reasons


@pytest.mark.parametrize("said", ["None", ""])
def test_where_the_call_inside_lost_its_answer_the_one_around_it_counts(said: str, tmp_path: Path) -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "lookup", "arguments": "{}"}}]}  # fmt: skip
    outer = {**OBSERVATION, "id": "outer", "input": ASKED, "output": calls}
    inner = {**OBSERVATION, "id": "inner", "parentObservationId": "outer", "input": "user: Capital of Norway?", "output": said}  # fmt: skip
    (record,), reasons = read(lines(outer, inner), tmp_path)
    assert record.id == "outer"
    assert reasons == {"wrapper of another call (counted once)": 1}
