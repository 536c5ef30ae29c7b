"""Recording from inside the server: the client notices nothing, and what is stored is what may be stored."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_server import WORDS, ModelServer, Place, chat, listening, until, whole

from draftsmith.profiling.profile import build_profile
from draftsmith.recorder import files as capture_files
from draftsmith.recorder import policy as capture_policy
from draftsmith.recorder.middleware import CaptureMiddleware
from draftsmith.recorder.record import Exchange
from draftsmith.recorder.settings import NUMBERS, PREFIX, VARIABLES, CaptureSettings
from draftsmith.traffic.importers import read_records

SAID = "".join(WORDS)
KEY = "sk-live-5f3a9c0b7d"


def test_a_streamed_answer_reaches_the_client_whole_and_the_log_reassembled(tmp_path: Path) -> None:
    place = Place(tmp_path)
    asked = chat(stream=True, return_token_ids=True, temperature=0, max_tokens=9, user="anna", stop=None)
    bare = Place(tmp_path / "bare")
    with_, without = place.post(asked)[0], asyncio.run(_direct(bare.server, asked))
    assert with_.content == without.content
    assert with_.headers == without.headers

    [record] = place.records()
    assert (record["schema"], record["completion"], record["finish_reason"]) == ("draftsmith_access_v1", SAID, "stop")
    assert (record["prompt_token_ids"], record["output_token_ids"]) == ([1, 2, 3], [10, 11, 12, 13, 14])
    assert record["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "cached_tokens": 2}
    assert record["spec"] == {"drafts": 2, "draft_tokens": 6, "accepted_tokens": 3}
    assert record["params"] == {"temperature": 0, "max_tokens": 9, "stream": True}
    assert 0 <= record["timing"]["ttft_s"] <= record["timing"]["latency_s"]
    assert place.close() == {"recorded": 1}


async def _direct(app: Any, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server") as client:
        return await client.post("/v1/chat/completions", json=body)


def test_plain_answers_tool_calls_and_raw_prompts(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.post(chat(), chat(tools=[{"type": "function"}]), chat(n=3))
    place.post({"prompt": "Once", "stream": True}, {"prompt": [[7, 8]], "stream": True}, path="/v1/completions")
    plain, tools, several, text, ids = place.records()
    assert plain["completion"] == SAID
    assert "ttft_s" not in plain["timing"], "a plain answer does not show its first token"
    assert tools["completion"] == 'Greet them.\n{"name":"greet","arguments":{"who":"Åsa"}}'
    assert "completion_tokens" not in several["usage"], "the count is of all three answers, the text of the first"
    assert (text["messages"], text["completion"]) == ([{"role": "user", "content": "Once"}], SAID)
    assert (ids["prompt_token_ids"], "messages" in ids) == ([7, 8], False)


def test_the_recording_is_read_back_by_the_importers_and_profiled(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.post(*(chat(f"question {n}", stream=True, return_token_ids=True, temperature=0) for n in range(30)))
    place.close()
    records = list(read_records([str(place.settings.folder)], on_skip=pytest.fail))
    assert [r.messages for r in records][29] == [{"role": "user", "content": "question 29"}]
    assert {r.completion for r in records} == {SAID}
    assert len({r.id for r in records}) == 30
    found = build_profile([str(place.settings.folder)])
    assert (found.n_requests, found.skipped, found.output_tokens.p50) == (30, (), 5)
    assert [source.format for source in found.provenance] == ["native"]
    assert found.sampling_parameters["temperature"] == {"0": 30}


def test_a_stream_is_not_held_back(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    place = Place(tmp_path)
    with listening(place.app) as url, httpx.Client(base_url=url, timeout=60) as client:
        place.server.gate = gate = asyncio.Event()
        with client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)  # the server sends no more before this has arrived
            assert place.server.loop is not None
            place.server.loop.call_soon_threadsafe(gate.set)
            rest = b"".join(pieces)
    assert first
    assert (first + rest).endswith(b"data: [DONE]\n\n")
    assert [r["completion"] for r in place.records()] == [SAID], "written when the server shut down"


def test_a_client_that_leaves_takes_its_half_answer_with_it(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    place = Place(tmp_path)
    with listening(place.app) as url:
        place.server.gate = asyncio.Event()
        with httpx.Client(base_url=url, timeout=60) as client:
            with client.stream("POST", "/v1/chat/completions", json=chat("my secret", stream=True)) as answer:
                next(answer.iter_raw())
            assert place.server.left.wait(30), "the server hears of it, as it would without the middleware"
        place.server.gate = None
        httpx.post(f"{url}/v1/chat/completions", json=chat(stream=True), timeout=60)
    gone, there = place.records()
    assert (gone["error"], gone.keys() & {"completion", "messages", "params"}) == ("disconnected", {"params"})
    assert gone["params"] == {}
    assert there["completion"] == SAID
    assert b"secret" not in place.stored()


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"store": False}, {}),
        ({"store": "no"}, {}),
        ({"draftsmith_capture": False}, {}),
        ({"draftsmith_capture": None}, {}),
        ({"metadata": {"draftsmith_capture": "off"}}, {}),
        ({"metadata": '{"draftsmith_capture": false}'}, {}),
        ({"metadata": [{"draftsmith_capture": True}]}, {}),
        ({"store": True, "draftsmith_capture": False}, {}),
        ({}, {"X_Draftsmith_Capture": "no"}),
        ({"store": True, "draftsmith_capture": True}, {"X_Draftsmith_Capture": ""}),
    ],
)
def test_whoever_says_no_is_not_recorded(tmp_path: Path, fields: dict[str, Any], headers: dict[str, str]) -> None:
    place = Place(tmp_path)
    [answer] = place.post(chat("between us", **fields), **headers)
    assert answer.json() == whole({})
    assert place.close() == {"opted_out": 1}
    assert b"between us" not in place.stored()
    assert place.files() == []


def test_saying_yes_is_not_needed_and_does_no_harm(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.post(
        chat(store=True, draftsmith_capture=True, metadata={"draftsmith_capture": "yes"}), X_Draftsmith_Capture="1"
    )
    assert place.close() == {"recorded": 1}


def hashed(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def test_a_key_policy_records_only_whom_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_policy, "LOOK_AGAIN_S", 0.0)
    policy = tmp_path / "policy"
    policy.write_text(f"# who agreed\n{hashed(KEY)} yes shop\n{hashed('other')} no\n")
    place = Place(tmp_path, keys=policy)
    place.post(chat("named"), Authorization=f"Bearer {KEY}")
    place.post(chat("named too"), x_api_key=KEY)
    place.post(chat("refused"), Authorization="Bearer other")
    place.post(chat("unknown"), Authorization="Bearer stranger")
    place.post(chat("two keys"), Authorization=f"Bearer {KEY}", api_key="stranger")
    place.post(chat("no key"))
    policy.write_text(f"{hashed(KEY)} yes\n{hashed(KEY)} no\n")
    place.post(chat("no more"), Authorization=f"Bearer {KEY}")
    policy.write_text("what is this")
    place.post(chat("broken policy"), Authorization=f"Bearer {KEY}")
    policy.unlink()
    place.post(chat("no policy"), Authorization=f"Bearer {KEY}")
    assert [(r["messages"][0]["content"], r["route"]) for r in place.records()] == [
        ("named", "shop"),
        ("named too", "shop"),
    ]
    assert place.close() == {"opted_out": 7, "recorded": 2}


def test_neither_keys_nor_headers_nor_names_of_users_are_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path)
    planted = {"user": "anna-user", "metadata": {"session_id": "anna-session"}, "prompt_cache_key": "anna-cache"}
    headers = {"Authorization": f"Bearer {KEY}", "X_Request_Id": "anna-request", "Cookie": "anna-cookie"}
    place.post(
        chat(**planted), chat(**planted, stream=True), chat(**planted, answer_error=True, stream=True), **headers
    )
    place.post(b'{"messages": "anna-broken', chat(**planted, answer_status=500), **headers)
    stored = place.stored() + caplog.text.encode()
    assert b"anna" not in stored
    assert KEY.encode() not in stored
    assert b"client-chose-this" not in stored
    same = {record["conversation"] for record in place.records()}
    assert len(same) == 1, "turns of a conversation can still be told to belong together"


def test_what_cannot_be_used_passes_through_and_is_counted(tmp_path: Path) -> None:
    place = Place(tmp_path, record_bytes=4000)
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
    answers = place.post(
        b"{", b"[1, 2]".replace(b"[1, 2]", b'{"messages": 5}'), chat("x" * 5000), chat(answer_raw="{not json"),
        chat(answer_status=503), {"messages": picture}, chat(stream=True, answer_error=True), chat("\ud800"),
    )  # fmt: skip
    assert [answer.status_code for answer in answers] == [400, 200, 200, 200, 503, 200, 200, 200]
    assert answers[3].text == "{not json"
    place.post(chat(), path="/v1/models")
    assert place.close() == {
        "failed": 2, "failed_recording": 1, "recorded": 1, "too_large": 1, "unreadable": 1, "unsupported": 2,
    }  # fmt: skip
    assert [record["error"] for record in place.records()] == ["stream_error"]


def test_with_too_little_room_it_stops_with_one_line_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capture_files, "LOOK_AGAIN_S", 0.0)
    free = iter([10**9, 10, 10, 1050, 10**9, *[10**9] * 9])  # 1050 is above the floor, but not by enough to go on
    monkeypatch.setattr(capture_files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": next(free)}))
    place = Place(tmp_path, min_free_bytes=1000)
    answers = place.post(*(chat(f"request {n}") for n in range(6)))
    assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == [SAID] * 6
    assert [r["messages"][0]["content"] for r in place.records()] == ["request 0", "request 4", "request 5"]
    assert place.close() == {"not_written": 3, "recorded": 3}
    said = [line for line in caplog.messages if "recording" in line]
    assert len(said) == 2
    assert "recording stopped, serving goes on" in said[0]
    assert said[1] == "recording goes on"


def test_the_real_disk_below_a_floor_is_left_alone(tmp_path: Path) -> None:
    place = Place(tmp_path, min_free_bytes=1 << 60)
    place.post(chat(), chat())
    assert place.close() == {"not_written": 2}
    assert place.files() == []


def test_a_folder_that_cannot_be_written_costs_the_recording_only(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.settings.folder.write_text("a file is in the way")
    assert [answer.status_code for answer in place.post(chat(), chat())] == [200, 200]
    assert place.close() == {"not_written": 2}


def test_a_writer_that_falls_behind_costs_records_not_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, go_on = threading.Event(), threading.Event()
    add = capture_files.CaptureFiles.add

    def slow(self: capture_files.CaptureFiles, line: bytes) -> bool:
        busy.set()
        assert go_on.wait(60)
        return add(self, line)

    monkeypatch.setattr(capture_files.CaptureFiles, "add", slow)
    place = Place(tmp_path, queue=2)
    place.post(chat("0"))
    assert busy.wait(30)
    answers = place.post(*(chat(f"{n}") for n in range(1, 7)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert place.recorder.counts() == {"dropped": 4}
    go_on.set()
    assert [r["messages"][0]["content"] for r in place.records()] == ["0", "1", "2"]


def test_copies_are_given_back_and_never_exceed_their_share_of_memory(tmp_path: Path) -> None:
    place = Place(tmp_path, memory_bytes=3000)
    recorder = place.recorder
    for _ in range(9):  # one at a time they fit, if each gives back what it took
        place.post(chat("x" * 1500))
        until(lambda: recorder.held_bytes == 0)
    recorder.take(Exchange("/v1/chat/completions", None, 0.0), 2900)
    place.post(chat("y" * 1500))
    assert place.close() == {"recorded": 9, "dropped": 1}
    assert recorder.held_bytes == 2900


def test_files_rotate_stay_private_and_stay_under_their_cap(tmp_path: Path) -> None:
    (tmp_path / "traffic").mkdir(mode=0o700)
    held = tmp_path / "traffic" / "access-19990101T000000Z-1-0001.jsonl"
    held.write_text("x" * 900)
    stale = tmp_path / "traffic" / "access-19990101T000000Z-2-0001.jsonl"
    stale.write_text("old\n")
    for path in (held, stale):
        os.utime(path, (1, 1))
    with held.open("rb") as other_server:
        fcntl.flock(other_server, fcntl.LOCK_EX)  # a process that still writes it
        place = Place(tmp_path, file_bytes=1000, total_bytes=5000)
        place.post(*(chat(f"request {n:03d}") for n in range(60)))
        place.close()
    assert held.exists()
    assert not stale.exists(), "past its days"
    sizes = [path.stat().st_size for path in place.files() if path != held]
    assert len(sizes) >= 3
    assert max(sizes) <= 1000
    assert sum(sizes) + 900 <= 5000
    assert {path.stat().st_mode & 0o777 for path in place.files() if path != held} == {0o600}
    assert place.settings.folder.stat().st_mode & 0o777 == 0o700
    held.unlink()
    kept = [r["messages"][0]["content"] for r in place.records()]
    assert kept == [f"request {n:03d}" for n in range(60)][-len(kept) :], "the newest stay"
    counts = json.loads(next(place.settings.folder.glob(".counts-*.json")).read_text())
    assert counts == {"recorded": 60}


def test_a_sample_holds_whole_conversations(tmp_path: Path) -> None:
    place = Place(tmp_path, rate=0.5)
    for number in range(60):
        turns: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
        for turn in range(3):
            turns = [*turns, {"role": "user", "content": f"dialogue {number} turn {turn}"}]
            place.post({"messages": turns})
            turns = [*turns, {"role": "assistant", "content": f"answer {turn}"}]
    seen = defaultdict(set)
    for record in place.records():
        seen[record["messages"][1]["content"]].add(len(record["messages"]))
    assert {frozenset(turns) for turns in seen.values()} == {frozenset({2, 4, 6})}
    assert 15 <= len(seen) <= 45
    assert place.close()["not_sampled"] == 3 * (60 - len(seen))


def test_a_sample_of_requests_is_drawn_at_random(tmp_path: Path) -> None:
    place = Place(tmp_path, rate=0.5, by="request")
    place.post(*[chat("always the same")] * 100)
    counts = place.close()
    assert 25 <= counts["recorded"] <= 75
    assert counts["recorded"] + counts["not_sampled"] == 100


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "DRAFTSMITH_CAPTURE_DIR is not set"),
        ({"DIR": "/x", "SAMPLE": "2"}, "DRAFTSMITH_CAPTURE_SAMPLE must be a number from 0 to 1"),
        ({"DIR": "/x", "SAMPEL": "1"}, "did you mean DRAFTSMITH_CAPTURE_SAMPLE?"),
        ({"DIR": "/x", "SAMPLE_BY": "user"}, "must be conversation or request"),
    ],
)
def test_wrong_settings_are_named_and_the_model_is_served(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DRAFTSMITH_CAPTURE_{name}", value)
    app = CaptureMiddleware(ModelServer())
    assert named in caplog.text
    assert "NOT recorded" in caplog.text
    assert asyncio.run(_direct(app, chat())).json() == whole({})


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "DIR": str(tmp_path / "t"),
        "SAMPLE": "0.25",
        "KEYS": "/k",
        "FILE_MB": "2",
        "MIN_FREE_MB": "0",
        "QUEUE": "9",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"DRAFTSMITH_CAPTURE_{name}", value)
    recorder = CaptureMiddleware(ModelServer()).recorder
    assert recorder is not None
    found = recorder.settings
    assert (found.rate, found.keys, found.file_bytes, found.min_free_bytes, found.queue) == (
        0.25, Path("/k"), 2 << 20, 0, 9,
    )  # fmt: skip


def test_it_brings_little_into_the_server() -> None:
    program = (
        "import sys, draftsmith.recorder.middleware\n"
        "own = {'orjson', 'httpx', 'numpy', 'polars', 'typer', 'rich', 'draftsmith.cli', 'draftsmith.traffic'}\n"
        "sys.exit(', '.join(own & sys.modules.keys()) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_page_names_every_variable_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recording.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(DRAFTSMITH_CAPTURE_\w+)` \| (?:`([\w.]+)`)? ", page, re.MULTILINE))
    assert set(shown) == set(VARIABLES)
    usual = CaptureSettings(Path("x"))
    defaults = {PREFIX + name: getattr(usual, field) / factor for name, (field, factor, _, _) in NUMBERS.items()}
    assert {name: float(shown[name]) for name in defaults} == defaults
    assert shown[PREFIX + "SAMPLE_BY"] == usual.by


def test_where_no_further_thread_can_start_the_client_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    place = Place(tmp_path)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert place.post(chat())[0].json()["choices"]
    monkeypatch.undo()
    place.post(chat())
    assert place.close() == {"failed_recording": 1, "recorded": 1}
