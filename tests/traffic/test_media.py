"""Pictures, audio and files: flagged parts of a record, counted by kind, and never part of what is counted as text or posted."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from draftsmith.api.records import Understood, rows
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.profiling.profile import build_profile
from draftsmith.profiling.summary import lines
from draftsmith.traffic.importers import MEDIA, read_records

from .conftest import request

PLACE = "http://169.254.169.254/latest/meta-data"
BYTES = "aVZCT1J3MEtHZ28="
ASKED = "What boat is in the picture?"
CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "A ferry."}, "finish_reason": "stop"}]}


def chat(*more: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}, *more]}]}


def pair(body: dict[str, Any], answer: Any = CHAT) -> dict[str, Any]:
    return {"request": body, "response": answer}


PICTURE = {"type": "image_url", "image_url": {"url": PLACE}}
ANTHROPIC = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "A ferry."}]}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "chat": (pair(chat(PICTURE)), {"image": 1}),
    "chat, audio": (pair(chat({"type": "input_audio", "input_audio": {"data": BYTES, "format": "wav"}})), {"audio": 1}),
    "chat, file": (pair(chat({"type": "file", "file": {"file_data": BYTES, "filename": "a.pdf"}})), {"file": 1}),
    "chat, two kinds": (pair(chat(PICTURE, PICTURE, {"type": "video_url", "video_url": {"url": PLACE}})), {"image": 2, "video": 1}),
    "responses": (pair({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": ASKED}, {"type": "input_image", "image_url": PLACE}]}]}), {"image": 1}),
    "anthropic": (pair(chat({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BYTES}}), ANTHROPIC), {"image": 1}),
    "anthropic, document": (pair(chat({"type": "document", "source": {"type": "url", "url": PLACE}}), ANTHROPIC), {"file": 1}),
    "gemini": (pair({"contents": [{"role": "user", "parts": [{"text": ASKED}, {"inlineData": {"mimeType": "image/png", "data": BYTES}}]}]}), {"image": 1}),
    "gemini, link": (pair({"contents": [{"parts": [{"text": ASKED}, {"fileData": {"mimeType": "video/mp4", "fileUri": PLACE}}]}]}), {"video": 1}),
    "bedrock": (pair({"modelId": "m", "messages": [{"role": "user", "content": [{"text": ASKED}, {"image": {"format": "png", "source": {"bytes": BYTES}}}]}]}), {"image": 1}),
    "ollama": (pair({"model": "m", "messages": [{"role": "user", "content": ASKED, "images": [BYTES]}]}), {"image": 1}),
    "native": ({"schema": "draftsmith_access_v1", "id": "a", "messages": chat(PICTURE)["messages"], "completion": "A ferry."}, {"image": 1}),
    "plain": ({**chat(PICTURE), "completion": "A ferry."}, {"image": 1}),
    "batch": ({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat(PICTURE)}, {"image": 1}),
    "turns": ({"messages": [*chat(PICTURE)["messages"], {"role": "assistant", "content": "A ferry."}]}, {"image": 1}),
    "session": ({"type": "assistant", "sessionId": "s", "uuid": "u", "message": {"id": "m1", **ANTHROPIC}}, {"image": 1}),
}  # fmt: skip
BEFORE = {"session": {"type": "user", "sessionId": "s", "uuid": "t", "message": chat(PICTURE)["messages"][0]}}


def understood(path: Any) -> tuple[list[AccessRecord], Counter[str]]:
    found: list[AccessRecord] = []
    reasons: Counter[str] = Counter()
    with pytest.raises(InputError, match="image, audio or file"):
        list(read_records([str(path)], None, lambda reason, where, raw: reasons.update([reason]), lambda record, where: found.append(record)))  # fmt: skip
    return found, reasons


@pytest.mark.parametrize("name", SHAPES)
def test_a_medium_is_a_flagged_part_beside_the_whole_text(name: str, write: Any) -> None:
    row, kinds = SHAPES[name]
    path = write("log.jsonl", [*([BEFORE[name]] if name in BEFORE else []), row])
    (record,), reasons = understood(path)
    assert not reasons
    assert record.media == kinds
    (message,) = record.messages or ()
    flags = [part["type"] for part in message["content"] if set(part) == {"type"}]
    assert Counter(flags) == kinds
    assert [part["text"] for part in message["content"] if "text" in part] == [ASKED]
    assert record.completion == (None if name == "batch" else "A ferry.")
    printed = record.model_dump_json()
    assert PLACE not in printed, "an address that a client wrote is kept nowhere, so nothing can fetch it"
    assert BYTES not in printed


def test_what_was_read_of_it_is_shown_with_the_rest_and_reads_the_same_again(write: Any) -> None:
    path = write("log.jsonl", [SHAPES["chat"][0], request(0), "{"])
    counts = Understood()
    assert [row["id"] for row in rows([str(path)], None, counts)] == ["r0"]
    assert counts.skipped == {MEDIA: 1, "broken JSON": 1}
    shown, broken = rows([str(path)], None, Understood(), skipped=True)
    assert (shown["where"], shown["reason"], shown["kept"], broken["reason"]) == ("log.jsonl:1", MEDIA, False, "broken JSON")  # fmt: skip
    (again,), _ = understood(write("native.jsonl", [shown["record"]]))
    assert again == AccessRecord.model_validate(shown["record"])


def test_a_log_of_nothing_else_is_shown_once(write: Any) -> None:
    path = write("log.jsonl", [SHAPES["chat"][0], "{"])
    assert [row["where"] for row in rows([str(path)], None, Understood(), skipped=True)] == ["log.jsonl:1", "log.jsonl:2"]  # fmt: skip


def test_a_profile_counts_them_as_load_and_as_nothing_else(write: Any) -> None:
    text = [request(n, usage={"prompt_tokens": 10, "completion_tokens": 5}) for n in range(40)]
    seen = [
        request(n, messages=chat(*parts)["messages"], model="vl", usage={"prompt_tokens": 9000, "completion_tokens": 900})
        for n, parts in ((100, [PICTURE]), (101, [PICTURE, {"type": "input_audio"}]), (101, [PICTURE]))
    ]  # fmt: skip
    found = build_profile([str(write("log.jsonl", text + seen))])
    plain = build_profile([str(write("text.jsonl", text))])
    assert (found.n_requests, found.media) == (40, {"image": 2, "audio": 1})
    assert {one.reason: (one.count, one.lines) for one in found.skipped} == {
        MEDIA: (2, ("log.jsonl:41", "log.jsonl:42")),
        "duplicate request id": (1, ("log.jsonl:43",)),
    }
    for name in (
        "input_tokens",
        "output_tokens",
        "classes",
        "models",
        "languages",
        "prefix_reuse_share",
        "token_histogram",
    ):
        assert getattr(found, name) == getattr(plain, name), name
    assert found.load_over_time[-1].start_unix_s > plain.load_over_time[-1].start_unix_s
    assert any("image in 2, audio in 1" in line for line in lines(found))


def test_rejected_lines_with_media_are_written_aside(write: Any, tmp_path: Any) -> None:
    source, aside = (
        write("log.jsonl", [SHAPES["chat"][0], request(0, usage={"prompt_tokens": 9})]),
        tmp_path / "aside.jsonl",
    )
    build_profile([str(source)], rejects=aside)
    (row,) = map(json.loads, aside.read_text().splitlines())
    assert (row["reason"], json.loads(row["raw"])) == (MEDIA, SHAPES["chat"][0])
