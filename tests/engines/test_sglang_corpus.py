"""Earlier answers as a draft: read from logs, given to a running server, and refused where no server could use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from answering import answering

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import ConfigError, EngineError, InputError
from draftsmith.contract.speculation import read
from draftsmith.engines.base import Installation, ServerSpec
from draftsmith.engines.earlier_answers import earlier_answers
from draftsmith.engines.sglang import corpus
from draftsmith.engines.sglang.flags import speculation_flags
from draftsmith.engines.sglang.words import DIALECT
from draftsmith.engines.vllm import command as vllm_command
from draftsmith.engines.vllm.features import features as vllm_features

TRAFFIC: dict[str, Any] = {"method": "ngram", "num_speculative_tokens": 7, "external_corpus": "/c.jsonl"}


class Handler(BaseHTTPRequestHandler):
    """Answers as 0.5.17's `add_external_corpus` does."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        status, told = self.server.told
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: tests are quiet."""


class Server(ThreadingHTTPServer):
    asked: list[tuple[str, Any]]
    told: tuple[int, dict[str, Any]]


@pytest.fixture
def server() -> Iterator[Server]:
    with answering(Server(("127.0.0.1", 0), Handler)) as made:
        made.asked = []
        yield made


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "answers.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_answers_are_strings_or_records_of_a_log(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "q"}]
    file = written(
        tmp_path, '"one"', {"messages": messages, "completion": "two"}, {"error": "timeout", "completion": None}, ""
    )
    assert earlier_answers(file) == (("one", "two"), frozenset({canonical(messages)}))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"text": "x"}'], "line 1 is no answer"),
        (['"a"', "{"], "line 2"),
        ([], "holds no answer"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_holds_no_answers_is_named_by_its_line(tmp_path: Path, lines: list[str] | None, said: str) -> None:
    file = tmp_path / "none.jsonl" if lines is None else written(tmp_path, *lines)
    with pytest.raises(InputError, match=said):
        earlier_answers(file)


def test_a_running_server_is_given_them(server: Server, tmp_path: Path) -> None:
    server.told = 200, {"success": True, "corpus_id": "draftsmith", "message": "", "loaded_token_count": 12}
    assert corpus.load(f"http://127.0.0.1:{server.server_port}", written(tmp_path, '"one"', '"two"')) == 12
    assert server.asked == [("/add_external_corpus", {"corpus_id": "draftsmith", "documents": ["one", "two"]})]


@pytest.mark.parametrize(
    "told",
    [
        (
            400,
            {
                "success": False,
                "corpus_id": "",
                "message": "Ngram speculative decoding is not enabled.",
                "loaded_token_count": 0,
            },
        ),
        (200, {"success": True, "message": "nothing was taken", "loaded_token_count": 0}),
        (404, {"detail": "Not Found"}),
    ],
)
def test_a_server_that_does_not_take_them_says_why(
    server: Server, tmp_path: Path, told: tuple[int, dict[str, Any]]
) -> None:
    server.told = told
    with pytest.raises(EngineError, match=str(told[1].get("message") or 404)):
        corpus.load(f"http://127.0.0.1:{server.server_port}", written(tmp_path, '"one"'))


def test_the_server_is_started_with_room_for_it_and_no_file() -> None:
    config = read(TRAFFIC)
    assert config is not None
    flags = speculation_flags(config)
    assert flags[-2:] == ["--speculative-ngram-external-sam-budget", "3"]
    assert "/c.jsonl" not in flags


@pytest.mark.parametrize(
    "changed",
    [{"method": "eagle3", "model": "/d"}, {"ngram_external_corpus_path": "/other.jsonl"}],
    ids=["method", "two"],
)
def test_what_excludes_a_corpus_is_refused(changed: dict[str, Any]) -> None:
    config = read(TRAFFIC | changed)
    assert config is not None
    with pytest.raises(ConfigError, match="external_corpus"):
        speculation_flags(config)


def test_neither_a_deployment_nor_vllm_is_given_one() -> None:
    with pytest.raises(InputError, match="when it starts") as told:
        DIALECT.spec_words(TRAFFIC)
    assert told.value.next_step
    found = Installation(python="python3", version="0.32.0", device="cuda")
    foreign = {"method": "eagle3", "model": "/d", "num_speculative_tokens": 3, "adaptive": True, "eagle_topk": 1}
    for config, named in ((TRAFFIC, "external_corpus"), (foreign, "adaptive, eagle_topk")):
        with pytest.raises(ConfigError, match=named):
            vllm_command.check(ServerSpec(model="/m", spec_config=config), found, vllm_features("0.32.0", "cuda"))
