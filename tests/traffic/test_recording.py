"""An access log grows by whole records, and an interrupted recording goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftsmith.client import replay as replay_module
from draftsmith.client.log import record
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import EngineLostError, InputError, PrerequisiteError
from draftsmith.contract.job import JobProgress

from .scripted import serving, streamed


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "BACKOFF_S", 0.0)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [
        {
            "id": f"p{n}",
            "messages": [{"role": "user", "content": f"{n}\u2028next"}],
            "params": {"max_tokens": 4, "n": 1},
        }
        for n in range(6)
    ]
    path.write_bytes(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
    return path


def read(log: Path) -> list[AccessRecord]:
    return [AccessRecord.model_validate_json(line) for line in log.read_bytes().split(b"\n") if line]


def number(body: dict[str, Any]) -> int:
    return int(body["messages"][0]["content"].split("\u2028")[0])


def test_every_prompt_becomes_a_record_with_exact_ids(prompts: Path, tmp_path: Path) -> None:
    log, shown = tmp_path / "private" / "access.jsonl", []
    with serving(lambda body, times: (200, [streamed("a", "b")])) as server:
        figures = record(prompts, log, endpoint=server.url, concurrency=2, on_progress=shown.append)
    records = read(log)
    assert sorted(r.id for r in records) == [f"p{n}" for n in range(6)]
    assert all(r.output_token_ids == [10, 11] and r.prompt_token_ids == [1, 2, 3] for r in records)
    assert {r.model for r in records} == {"served"}
    assert (figures["answered"], figures["failed"], figures["output_tokens"]) == (6, 0, 12)
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    last: JobProgress = shown[-1]
    assert (last.done, last.total) == (6, 6)
    assert all("n" not in body for body in server.seen), "one answer is recorded, so one is asked for"
    assert {body["temperature"] for body in server.seen} == {0}
    assert {r.params["temperature"] for r in records} == {0}, "that it was greedy by default is written down"


def test_a_lost_server_leaves_a_log_that_is_continued_even_after_a_torn_line(prompts: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    with serving(lambda body, times: (200, [streamed("x")]) if number(body) < 2 else None) as server:  # noqa: SIM117
        with pytest.raises(EngineLostError):
            record(prompts, log, endpoint=server.url, concurrency=1)
    assert {"p0", "p1"} <= {r.id for r in read(log) if r.error is None}
    with log.open("ab") as torn:
        torn.write(b'{"schema": "draftsmith_access_v1", "id": "p5", "complet')
    with serving(lambda body, times: (200, [streamed("y")])) as server:
        figures = record(prompts, log, endpoint=server.url, concurrency=1)
    assert figures["skipped"] == 2
    assert sorted(number(body) for body in server.seen) == [2, 3, 4, 5], "nothing that was answered is asked again"
    assert sorted(r.id for r in read(log) if r.error is None) == [f"p{n}" for n in range(6)]


def test_a_complete_log_sends_nothing(prompts: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        record(prompts, log, endpoint=server.url)
        before = log.read_bytes()
        figures = record(prompts, log, endpoint=server.url)
        assert len(server.seen) == 6
    assert figures["skipped"] == 6
    assert log.read_bytes() == before


def test_failures_are_in_the_log_and_tried_again_the_next_time(prompts: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    with serving(lambda body, times: (400, [b""]) if number(body) == 3 else (200, [streamed("x")])) as server:
        figures = record(prompts, log, endpoint=server.url)
    assert (figures["answered"], figures["failed"]) == (5, 1)
    assert [r.error for r in read(log) if r.id == "p3"] == ["http_400"]
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        record(prompts, log, endpoint=server.url)
        assert [number(body) for body in server.seen] == [3]


@pytest.mark.parametrize("line", ["not json", "[1, 2]", '"text"'])
def test_a_line_that_is_no_prompt_is_named_before_anything_is_sent(line: str, prompts: Path, tmp_path: Path) -> None:
    prompts.write_text(prompts.read_text() + line + "\n")
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        with pytest.raises(InputError, match=r"prompts\.jsonl line 7 is not a prompt"):
            record(prompts, tmp_path / "log.jsonl", endpoint=server.url)
        assert server.seen == []


def test_a_prompt_without_text_and_ids_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "empty"}\n')
    with serving(lambda body, times: (200, [streamed("x")])) as server, pytest.raises(InputError, match="prompt empty"):
        record(path, tmp_path / "log.jsonl", endpoint=server.url)


def test_prompts_with_media_are_counted_and_never_sent(prompts: Path, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}
    for number, part in enumerate((picture, {"type": "image"}, {"type": "text", "text": "words"})):
        line = {"id": f"m{number}", "messages": [{"role": "user", "content": [part]}]}
        prompts.write_text(prompts.read_text() + json.dumps(line) + "\n")
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        figures = record(prompts, tmp_path / "log.jsonl", endpoint=server.url)
    assert (figures["answered"], figures["media"]) == (7, 2)
    assert "image" not in json.dumps(server.seen)


def test_another_file_is_not_mistaken_for_a_log(prompts: Path, tmp_path: Path) -> None:
    log = tmp_path / "notes.txt"
    log.write_text("dear diary\n")
    with pytest.raises(InputError, match=r"notes\.txt line 1 is no record"):
        record(prompts, log, endpoint="http://127.0.0.1:9")
    assert log.read_text() == "dear diary\n"


def test_limits_arrivals_and_missing_things(prompts: Path, tmp_path: Path) -> None:
    with serving(lambda body, times: (200, [streamed("x")])) as server:
        record(prompts, tmp_path / "log.jsonl", endpoint=server.url + "/v1", limit=2, max_tokens=99)
        assert {body["max_tokens"] for body in server.seen} == {4}, "the prompt's own limit wins"
        assert len(server.seen) == 2
    with pytest.raises(InputError, match="does not exist"):
        record(tmp_path / "none.jsonl", tmp_path / "log2.jsonl", endpoint="http://127.0.0.1:9")
    with pytest.raises(PrerequisiteError, match="DRAFTSMITH_TEST_KEY"):
        record(prompts, tmp_path / "log3.jsonl", endpoint="x", api_key_env="DRAFTSMITH_TEST_KEY")


@pytest.mark.parametrize(
    "content",
    [b'{"my":"precious one-line file without newline"}', b"x" * 4000, b'{"id": "p0"}\nnot a record', b"PK\x03\x04"],
)
def test_a_file_that_is_no_access_log_is_never_changed(tmp_path: Path, prompts: Path, content: bytes) -> None:
    out = tmp_path / "precious.json"
    out.write_bytes(content)
    with pytest.raises(InputError):
        record(prompts, out, endpoint="http://127.0.0.1:9")
    assert out.read_bytes() == content


def test_the_prompts_file_is_not_taken_for_the_log(prompts: Path) -> None:
    before = prompts.read_bytes()
    with pytest.raises(InputError, match="prompts file itself"):
        record(prompts, prompts, endpoint="http://127.0.0.1:9")
    assert prompts.read_bytes() == before


def test_a_log_is_not_touched_before_the_server_has_answered(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "access.jsonl"
    torn = b'{"schema":"draftsmith_access_v1","id":"p0","mess'
    out.write_bytes(torn)
    with pytest.raises((PrerequisiteError, EngineLostError, InputError)):
        record(prompts, out, endpoint="http://127.0.0.1:9")
    assert out.read_bytes() == torn
