"""One answer gives one record, whichever server sent it, whoever reads it and wherever the network cut it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.wire import SAMPLING_PARAMETERS, EventStream, StreamedAnswer
from draftsmith.traffic.importers.parameters import asked

CALL = [
    {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "boat", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"to":'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"Tiree"}'}}]},
]
TIREE = '{"name":"boat","arguments":{"to":"Tiree"}}'
USAGE = {"prompt_tokens": 20, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}


def delta(value: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": value, "finish_reason": finish, **more}]}


def answer(*deltas: dict[str, Any], finish: str = "stop") -> list[dict[str, Any]]:
    """A streamed answer: the role, the deltas, the end, and the trailing usage."""
    head = delta({"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None})
    return [head, *map(delta, deltas), delta({}, finish), {"choices": [], "usage": USAGE}]


def read(events: list[dict[str, Any]]) -> StreamedAnswer:
    """Events that came at 0.1 s, 0.2 s, ..."""
    found = StreamedAnswer()
    for number, event in enumerate(events, start=1):
        found.add(event, number / 10)
    return found


SHAPES = {
    "vLLM 0.16: reasoning": (
        answer({"reasoning": "Win"}, {"reasoning": "ter."}, {"content": "21:40"}),
        "Winter.\n21:40",
    ),
    "SGLang: reasoning_content, no ids": (
        answer({"content": None, "reasoning_content": "Winter."}, {"content": "21:40", "reasoning_content": None}),
        "Winter.\n21:40",
    ),
    "both names in one event are one text": (answer({"reasoning": "W", "reasoning_content": "W"}), "W"),
    "tool calls, in pieces": (answer(*CALL, finish="tool_calls"), TIREE),
    "two calls, interleaved": (
        answer(
            {"tool_calls": [{"index": 0, "function": {"name": "a"}}, {"index": 1, "function": {"name": "b"}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "[1]"}}]},
        ),
        '[{"name":"a","arguments":[1]},{"name":"b","arguments":{}}]',
    ),
    "a gateway that leaves out the index": (
        answer(
            {"tool_calls": [{"function": {"name": "a", "arguments": "{"}}]},
            {"tool_calls": [{"function": {"arguments": "}"}}]},
            {"tool_calls": [{"function": {"name": "b", "arguments": "{}"}}]},
        ),
        '[{"name":"a","arguments":{}},{"name":"b","arguments":{}}]',
    ),
    "TGI: one call as an object": (
        answer({"tool_calls": {"index": 0, "function": {"name": "boat", "arguments": {"to": "Tiree"}}}}),
        TIREE,
    ),
    "OpenAI's old name": (answer({"function_call": {"name": "boat", "arguments": '{"to":"Tiree"}'}}), TIREE),
    "a refusal": (answer({"refusal": "I can"}, {"refusal": "not."}), "I cannot."),
    "parts instead of a string": (
        answer({"content": [{"type": "thinking", "thinking": "Hm. "}, {"type": "text", "text": "Yes."}]}),
        "Hm. Yes.",
    ),
    "completions": ([{"choices": [{"index": 0, "text": "On", "finish_reason": "length"}]}, {"usage": USAGE}], "On"),
}


@pytest.mark.parametrize(("events", "text"), SHAPES.values(), ids=SHAPES)
def test_each_server_s_shape_is_read_with_the_time_of_its_first_token(events: list[dict[str, Any]], text: str) -> None:
    found = read(events)
    assert found.first.text() == text
    assert found.first.first_s == (0.1 if len(events) == 2 else 0.2), "the role alone is no token"
    assert found.first.last_s == pytest.approx(0.1 if len(events) == 2 else (len(events) - 2) / 10)
    assert (found.usage.completion_tokens, found.usage.cached_tokens) == (12, 4)
    assert found.first.finish is not None


def test_the_answers_of_one_request_are_kept_apart() -> None:
    events = [delta({"content": "AA"}), delta({"content": "BB"}, index=1), delta({"content": "A"}, "stop")]
    found = read([*events, delta({"content": "B"}, "length", index=1), {"choices": [], "usage": USAGE}])
    assert {index: choice.text() for index, choice in found.choices.items()} == {0: "AAA", 1: "BBB"}
    assert [choice.finish for choice in found.choices.values()] == ["stop", "length"]
    assert found.usage_of_first().completion_tokens is None, "the server counts both"
    assert found.spec_of_first() is None


def test_token_ids_are_a_token_even_where_they_make_no_text_yet() -> None:
    found = read([delta({"content": ""}, token_ids=[7]), delta({"content": "é"}, "stop", token_ids=[8])])
    assert (found.first.first_s, found.first.token_ids) == (0.1, [7, 8])


def test_an_answer_that_ends_at_once_has_the_time_of_its_end() -> None:
    found = read([delta({"role": "assistant", "content": ""}), delta({}, "stop"), {"choices": [], "usage": USAGE}])
    assert (found.first.first_s, found.first.last_s) == (0.2, 0.2), "SGLang sends no token ids"
    assert read([delta({"content": ""}), delta({}, "abort")]).first.first_s is None


def test_a_whole_answer_shows_no_first_token() -> None:
    message = {"role": "assistant", "reasoning": "Hm.", "content": "Yes.", "tool_calls": []}
    found = StreamedAnswer()
    found.add_whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}, 2.0)
    assert (found.first.text(), found.first.first_s, found.first.last_s) == ("Hm.\nYes.", None, 2.0)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "secret", "code": 500}},
        {"error": "overloaded", "error_type": "overloaded"},
        {"object": "error", "message": "secret"},
    ],
    ids=["vLLM", "TGI", "older vLLM"],
)
def test_an_error_in_the_stream_is_a_failed_answer(event: dict[str, Any]) -> None:
    assert read([delta({"content": "a"}), event]).failed


def spoilt(value: Any) -> Iterator[Any]:
    """The value with each of its parts, one at a time, replaced by something of another type."""
    yield from (None, True, -1, "x", [], [1], [{}], {}, {"x": 1})
    for key, inner in enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ():
        for other in spoilt(inner):
            copy = value.copy()
            copy[key] = other
            yield copy


def test_no_event_of_a_foreign_server_is_a_traceback() -> None:
    whole = delta(CALL[0] | {"content": [{"text": "a"}], "reasoning": "b", "refusal": "c"}, "stop", token_ids=[1])
    whole |= {
        "usage": USAGE,
        "metrics": {"speculative_decoding": {"num_spec_steps": 1}},
        "kv_transfer_params": {"a": 1},
    }
    for event in spoilt(whole):
        if isinstance(event, dict):
            found = read([event])
            assert isinstance(found.first.text(), str)
            assert found.usage.completion_tokens in (12, None)


def stream(events: list[dict[str, Any]], end: bytes = b"\n\n") -> bytes:
    lines = [b"data: " + json.dumps(event, ensure_ascii=False).encode() for event in events]
    return b": a comment\nevent: message\n" + end.join([*lines, b"data: [DONE]", b""])


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n"], ids=["LF", "CRLF", "no empty lines"])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_events_are_whole_wherever_the_bytes_are_cut(end: bytes, cuts: list[int]) -> None:
    events = answer({"content": "Gr\u2028ü"}, {"content": "ße"})
    raw = stream(events, end)
    places = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    framing = EventStream()
    payloads = [p for a, b in pairwise(places) for p in framing.add(raw[a:b])]
    assert [json.loads(payload) for payload in [*payloads, *framing.end()]] == events


def test_an_event_of_several_lines_is_one_event() -> None:
    framing = EventStream()
    assert [json.loads(p) for p in framing.add(b'data: {"a":\ndata: [1,\ndata: 2]}\n\ndata: [DONE]\n\n')] == [
        {"a": [1, 2]}
    ]


def test_a_log_of_any_format_keeps_the_parameters_that_the_recorder_keeps() -> None:
    body = dict.fromkeys(SAMPLING_PARAMETERS, 1) | {"user": "anna", "metadata": {"a": 1}, "seed": None}
    assert set(asked(body)) == set(SAMPLING_PARAMETERS) - {"seed"}
