"""A server that drafts from its own answers does not find the answer to a prompt that it was asked before."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from answering import answering

from draftsmith.contract.errors import EngineError
from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.catalog import engine
from draftsmith.work.compare.memory import Memory
from draftsmith.work.compare.trial import Endpoint


class Server(ThreadingHTTPServer):
    asked: list[str]
    status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path.partition("?")[0])
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with answering(Server(("127.0.0.1", 0), Handler)) as made:
        made.asked = []
        yield made


def prompts(*names: str) -> list[Prompt]:
    return [
        Prompt(prompt_id=name, content_class="chat", messages=[{"role": "user", "content": name}], max_tokens=4)
        for name in names
    ]


def at(server: Server, start: str, method: str | None, kind: str = "sglang") -> Endpoint:
    return Endpoint(f"http://127.0.0.1:{server.server_port}", "m", start, engine=engine(kind), method=method)


def test_it_forgets_before_a_prompt_comes_again_and_only_then(server: Server) -> None:
    memory, refilled = Memory(engine("sglang")), []

    def forgets(*names: str, start: str = "one") -> int:
        before = len(server.asked)
        memory.before(at(server, start, "ngram"), prompts(*names), lambda: refilled.append(names))
        return len(server.asked) - before

    assert forgets("a", "b") == 1, "warm-up may have asked anything"
    assert forgets("c") == 0, "what it learned of other prompts it keeps, as in service"
    assert forgets("b", "d") == 1
    assert forgets("a", "c") == 0
    assert forgets("x", start="two") == 1
    assert set(server.asked) == {"/flush_cache"}
    assert refilled == [("a", "b"), ("b", "d"), ("x",)]


@pytest.mark.parametrize(("kind", "method"), [("sglang", "eagle3"), ("sglang", None), ("vllm", "ngram")])
def test_other_servers_are_left_alone(server: Server, kind: str, method: str | None) -> None:
    memory = Memory(engine("vllm"))
    for _ in range(2):
        memory.before(at(server, "one", method, kind), prompts("a"), pytest.fail)
    assert server.asked == []


def test_a_server_that_does_not_forget_is_not_measured(server: Server) -> None:
    server.status = 400
    with pytest.raises(EngineError, match="flush_cache"):
        Memory(engine("sglang")).before(at(server, "one", "ngram"), prompts("a"), pytest.fail)
