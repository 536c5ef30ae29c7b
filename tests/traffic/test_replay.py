"""Replay records exactly what came back, keeps to its pace, and knows a busy server from one that is gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftsmith.client import replay as replay_module
from draftsmith.client.replay import Pacing, Reply, Request, Target, replay, served_model
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import EngineLostError, InputError
from draftsmith.recorder.record import Exchange, line_of

from .scripted import Scripted, event, serving, streamed

PARAGRAPH = "\u2028"  # a line separator to Unicode, a character like any other to JSON


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "BACKOFF_S", 0.0)


def ask(number: int, **fields: Any) -> Request:
    return Request(f"r{number}", messages=[{"role": "user", "content": str(number)}], max_tokens=8, **fields)


def send(server: Scripted | str, requests: list[Request], **pacing: Any) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    url = server if isinstance(server, str) else server.url

    def keep(reply: Reply) -> None:
        replies[reply.record.id] = reply

    replay(iter(requests), Target(url, "served"), Pacing(**pacing), keep)
    return replies


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 10_000), max_size=12))
def test_an_answer_is_the_same_wherever_the_network_cuts_it(cuts: list[int]) -> None:
    whole = streamed("Gr", f"ü{PARAGRAPH}ße", ' "quoted"\n', ids=2)
    places = sorted({cut % len(whole) for cut in cuts})
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    with serving(lambda body, times: (200, pieces)) as server:
        record = send(server, [ask(1)])["r1"].record
    assert record.completion == f'Grü{PARAGRAPH}ße "quoted"\n'
    assert (record.prompt_token_ids, record.output_token_ids) == ([1, 2, 3], [10, 10, 11, 11, 12, 12])
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (3, 6)
    assert record.spec is not None
    assert (record.spec.drafts, record.spec.draft_tokens, record.spec.accepted_tokens) == (4, 12, 7)
    assert record.finish_reason == "stop"
    assert record.error is None


def test_a_last_line_without_its_line_feed_is_read_too() -> None:
    whole = streamed("one", "two").removesuffix(b"data: [DONE]\n\n").rstrip(b"\n")
    with serving(lambda body, times: (200, [whole])) as server:
        assert send(server, [ask(1)])["r1"].record.usage.completion_tokens == 2


def test_times_begin_with_the_first_token_and_end_with_the_last() -> None:
    first, rest = threading.Event(), threading.Event()
    whole = streamed("a", "b")
    middle = whole.index(b"data: ", 10)

    def pieces() -> Iterator[bytes]:
        yield whole[:middle]
        first.set()
        rest.wait(5)
        yield whole[middle:]

    with serving(lambda body, times: (200, pieces())) as server:  # type: ignore[arg-type,return-value]
        threading.Thread(target=lambda: first.wait(5) and rest.set()).start()
        timing = send(server, [ask(1)])["r1"].record.timing
    assert timing is not None
    assert timing.ttft_s is not None
    assert timing.latency_s is not None
    assert 0 < timing.ttft_s < timing.latency_s


def test_what_is_asked_is_what_the_engine_hears() -> None:
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        exact = Request("ids", prompt_token_ids=[5, 6], params={"temperature": 0.7, "seed": 1}, max_tokens=3)
        record = send(server, [exact])["ids"].record
    [body] = server.seen
    assert body["prompt"] == [5, 6]
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.7, 1, 3)
    assert (body["stream"], body["stream_options"], body["return_token_ids"]) == (True, {"include_usage": True}, True)
    assert record.params == {"temperature": 0.7, "seed": 1, "max_tokens": 3}


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    with serving(lambda body, times: (status, [b"busy"]) if times < 2 else (200, [streamed("x")])) as server:
        assert send(server, [ask(1)])["r1"].record.error is None
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_is_an_error_of_that_request_alone() -> None:
    def script(body: dict[str, Any], times: int) -> tuple[int, list[bytes]]:
        return (503, [b""]) if body["messages"][0]["content"] == "1" else (200, [streamed("x")])

    with serving(script) as server:
        replies = send(server, [ask(1), ask(2)])
    assert replies["r1"].record.error == "http_503"
    assert replies["r2"].record.error is None


def test_a_refused_request_is_recorded_once_and_without_its_text() -> None:
    with serving(lambda body, times: (400, [b'{"error": {"message": "secret prompt is too long"}}'])) as server:
        record = send(server, [ask(1)])["r1"].record
    assert len(server.seen) == 1, "a request that is wrong stays wrong"
    assert record.error == "http_400"
    assert record.completion is None
    assert record.usage.completion_tokens is None


def test_a_server_that_refuses_token_ids_is_asked_without_them() -> None:
    """SGLang: in a streamed chat. All requests that were under way are sent again, the later ones are right at once."""

    def script(body: dict[str, Any], times: int) -> tuple[int, list[bytes]]:
        if body.get("return_token_ids"):
            return 400, [b'{"object": "error", "message": "return_token_ids is not supported with streaming"}']
        return 200, [streamed("x")]

    with serving(script) as server:
        replies = send(server, [ask(n) for n in range(6)], concurrency=2)
    assert [reply.record.error for reply in replies.values()] == [None] * 6
    assert 7 <= len(server.seen) <= 8


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"data: {broken\n\n", "malformed_response"),
        (b'data: {"error": {"message": "engine died"}}\n\n', "malformed_response"),
        (streamed("half").replace(b'"stop"', b"null"), "connection_RemoteProtocolError"),
    ],
)
def test_half_an_answer_is_never_taken_for_one(body: bytes, error: str) -> None:
    with serving(lambda _, times: (200, [body])) as server:
        assert send(server, [ask(1)])["r1"].record.error == error


def test_a_server_that_goes_away_is_lost_and_what_was_answered_stays() -> None:
    answered: list[str] = []

    def script(body: dict[str, Any], times: int) -> tuple[int, list[bytes]] | None:
        return (200, [streamed("x")]) if int(body["messages"][0]["content"]) < 3 else None

    requests = iter([ask(n) for n in range(50)])
    with serving(script) as server, pytest.raises(EngineLostError, match="went away") as caught:
        # One at a time: beside another request, an answered one may still wait to be tried again when the loss is called.
        replay(requests, Target(server.url, "served"), Pacing(1), lambda r: answered.append(r.record.id))
    assert {"r0", "r1", "r2"} <= set(answered)
    assert len(answered) < 10, "the rest was not tried one by one"
    assert "resumes" in caught.value.next_step


def test_nobody_at_the_address_is_lost_too() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EngineLostError):
        send(url, [ask(n) for n in range(20)], concurrency=4)
    with pytest.raises(InputError, match="does not list its models"):
        served_model(url)


def test_an_error_of_the_receiver_comes_out_as_itself() -> None:
    def refuse(reply: Reply) -> None:
        raise InputError("no place for it", "make room")

    with serving(lambda body, times: (200, [streamed("x")])) as server, pytest.raises(InputError, match="no place"):
        replay(iter([ask(n) for n in range(9)]), Target(server.url, "served"), Pacing(3), refuse)


def test_never_more_requests_in_flight_than_asked_for() -> None:
    full = threading.Barrier(3, timeout=10)

    def script(body: dict[str, Any], times: int) -> tuple[int, list[bytes]]:
        full.wait()  # three at once, or this breaks
        return 200, [streamed("x")]

    with serving(script) as server:
        replies: list[Reply] = []
        requests = (ask(n) for n in range(12))
        _, peak, _ = replay(requests, Target(server.url, "served"), Pacing(3), replies.append)
    assert (server.peak, peak, len(replies)) == (3, 3, 12)
    assert all(reply.record.error is None for reply in replies)


def test_memory_holds_the_requests_in_flight_and_no_more() -> None:
    drawn, replied = 0, 0
    ahead = []

    def requests() -> Iterator[Request]:
        nonlocal drawn
        for number in range(40):
            drawn += 1
            yield ask(number)

    def keep(_: Reply) -> None:
        nonlocal replied
        replied += 1
        ahead.append(drawn - replied)

    with serving(lambda body, times: (200, [streamed("x")])) as server:
        replay(requests(), Target(server.url, "served"), Pacing(4), keep)
    assert max(ahead) <= 4


def test_open_loop_sends_at_the_recorded_times_whatever_is_still_unanswered() -> None:
    everyone = threading.Barrier(6, timeout=10)

    def script(body: dict[str, Any], times: int) -> tuple[int, list[bytes]]:
        everyone.wait()  # nobody is answered before all have arrived
        return 200, [streamed("x")]

    began = time.time()
    with serving(script) as server:
        requests = [ask(n, arrival_s=n * 1.0) for n in range(6)]
        replies = send(server, requests, concurrency=1, open_loop=True, rate_scale=20.0)
    starts = [replies[f"r{n}"].record.timing.start_unix_s for n in range(6)]  # type: ignore[union-attr]
    assert [body["messages"][0]["content"] for body in server.seen] == [str(n) for n in range(6)]
    assert starts == sorted(starts)
    assert all(start >= began + n * 0.05 - 0.005 for n, start in enumerate(starts)), "never before its time"


@pytest.mark.parametrize("answer", [(503, [b"busy"]), (200, [streamed("half").replace(b'"stop"', b"null")])])
def test_what_is_measured_is_sent_once_so_that_no_failure_is_hidden(answer: tuple[int, list[bytes]]) -> None:
    replies: list[Reply] = []
    with serving(lambda body, times: (200, [streamed("x")]) if times else answer) as server:
        replay(iter([ask(1)]), Target(server.url, "served", again=False), Pacing(), replies.append)
    assert len(server.seen) == 1
    assert [reply.record.error is None for reply in replies] == [False]


def test_a_server_that_is_gone_is_lost_also_where_nothing_is_sent_twice() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(EngineLostError, match="went away"):
            replay(iter([ask(1), ask(2)]), Target(url, "served", again=False), Pacing(), lambda reply: None)


TOOL = {"index": 0, "function": {"name": "boat", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([{"reasoning": "Hm."}, {"content": "Yes."}], "Hm.\nYes."),
        ([{"reasoning_content": "Hm."}, {"content": "Yes."}], "Hm.\nYes."),
        ([{"tool_calls": [TOOL]}], '{"name":"boat","arguments":{}}'),
        ([{"refusal": "I cannot."}], "I cannot."),
    ],
    ids=["reasoning", "reasoning under its older name", "tool calls alone", "a refusal"],
)
def test_the_client_and_the_recorder_make_the_same_record_of_one_answer(said: list[dict[str, Any]], text: str) -> None:
    deltas = [{"role": "assistant", "content": ""}, *said, {}]
    pieces = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    pieces.append(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    pieces.append(event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}))
    with serving(lambda body, times: (200, pieces)) as server:
        sent = send(server, [ask(1)])["r1"].record
    chunks = [(0.1 * number, piece) for number, piece in enumerate(pieces)]
    body = b'{"messages": [{"role": "user", "content": "1"}], "stream": true}'
    recorded = AccessRecord.model_validate_json(
        line_of(Exchange("", None, 0.0, [body], chunks, 200, b"text/event-stream", ended=True), 1.0, "request")
    )
    assert recorded.completion == sent.completion == text
    assert recorded.usage == sent.usage
    assert recorded.finish_reason == sent.finish_reason == "stop"
    assert sent.timing is not None
    assert sent.timing.ttft_s is not None, "without token ids too"
    assert recorded.timing is not None
    assert recorded.timing.ttft_s == pytest.approx(0.1), "the first token of any kind"


def test_of_several_answers_the_first_is_recorded_with_its_own_counts() -> None:
    both = [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]
    both.append({"index": 1, "delta": {"content": "SECOND"}, "finish_reason": "stop"})
    usage = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}})
    with serving(lambda body, times: (200, [event({"choices": both}), usage])) as server:
        record = send(server, [ask(1, params={"n": 2})])["r1"].record
    assert (record.completion, record.usage.prompt_tokens, record.usage.completion_tokens) == ("hi", 3, None)
