"""`records`, `--map`, and what is said of a log that nobody knows."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from draftsmith.api.records import Understood, rows
from draftsmith.contract.errors import InputError
from draftsmith.profiling.profile import build_profile
from draftsmith.traffic.importers import read_records

from .conftest import request
from .written import DEFAULT, FORMATS

ODD = {
    "who": "a",
    "talk": {"asked": "Who are you?", "said": "A test."},
    "n": {"in": 7, "out": 3},
    "when": 1_700_000_000,
    "ms": 2000,
}
MAP = """
prompt = "talk.asked"
answer = ["nowhere", "talk.said"]
prompt_tokens = "n.in"
completion_tokens = "n.out"
start = "when"
latency_ms = "ms"
"""


def test_records_are_a_native_log_that_reads_the_same(tmp_path: Path) -> None:
    source = tmp_path / "log.txt"
    source.write_text(FORMATS["openai-pair"].write(DEFAULT))
    counts = Understood()
    printed = list(rows([str(source)], None, counts))
    assert counts.sentence() == "2 records"
    again = tmp_path / "native.jsonl"
    again.write_text("".join(json.dumps(row) + "\n" for row in printed))
    assert list(read_records([str(again)])) == list(read_records([str(source)]))


def test_skipped_shows_the_rest_with_places_and_reasons(write: Any) -> None:
    path = write("log.jsonl", [request(0), "{broken", {"question_id": 1, "turns": ["One?", "Two?"]}])
    counts = Understood()
    assert list(rows([str(path)], None, counts, skipped=True)) == [
        {"where": "log.jsonl:2", "reason": "broken JSON", "kept": False, "raw": "{broken"},
        {
            "where": "log.jsonl:3",
            "reason": "later turns that nobody answered (kept the first)",
            "kept": True,
            "raw": '{"question_id": 1, "turns": ["One?", "Two?"]}',
        },
    ]
    assert (counts.records, counts.skipped.total(), counts.noted.total()) == (2, 1, 1)


def test_a_log_of_another_shape_costs_a_few_lines(write: Any, tmp_path: Path) -> None:
    path = write("odd.jsonl", [ODD, {**ODD, "talk": {"asked": "x"}}])
    file = tmp_path / "map.toml"
    file.write_text(MAP)
    first, second = read_records([str(path)], f"map:{file}")
    assert (first.messages, first.completion) == ([{"role": "user", "content": "Who are you?"}], "A test.")
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (7, 3)
    assert first.timing is not None
    assert (first.timing.start_unix_s, first.timing.latency_s) == (1_700_000_000, 2.0)
    assert second.completion is None
    assert build_profile([str(path)], format=f"map:{file}").n_requests == 2


def test_an_unknown_shape_is_described_by_its_names_and_a_mapping_to_start_from(write: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(read_records([str(write("odd.jsonl", [ODD]))]))
    error = caught.value
    assert "talk.asked" in error.message
    assert "nearest known format" in error.message
    assert "A test." not in f"{error.message} {error.next_step}"
    start = "\n".join(line.strip() for line in error.next_step.split("\n")[1:])
    file = tmp_path / "start.toml"
    file.write_text(start)
    (record,) = read_records([str(tmp_path / "odd.jsonl")], f"map:{file}")
    assert record.completion == "A test.", "the mapping that is printed works as it is"


def test_a_list_of_unknown_records_is_named_in_the_mapping_to_start_from(tmp_path: Path) -> None:
    path, file = tmp_path / "odd.json", tmp_path / "start.toml"
    rows = [{"q": {"text": f"Who are you, {n}?"}, "a": {"reply": "A test."}, "n": {"in": n}} for n in (1, 2)]
    path.write_text(json.dumps({"export": {"calls": rows}}))
    with pytest.raises(InputError) as caught:
        list(read_records([str(path)]))
    file.write_text("\n".join(line.strip() for line in str(caught.value.next_step).split("\n")[1:]))
    assert "rows = 'export.calls'" in file.read_text()
    records = list(read_records([str(path)], f"map:{file}"))
    assert [one.usage.prompt_tokens for one in records] == [1, 2]
    assert [(one.messages or [{}])[0]["content"] for one in records] == ["Who are you, 1?", "Who are you, 2?"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("promt = 'a'", "did you mean 'prompt'"),
        ("prompt = 5", "not a path"),
        ("prompt = 'a[x]'", "not a path"),
        ("start = 'a'", "neither where text nor"),
        ("prompt", "not TOML"),
    ],
)
def test_a_bad_mapping_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_records([str(file)], f"map:{file}"))
    assert said in caught.value.message


def test_an_unknown_table_is_described_too(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text('who,asked of it,said\nme,"Who, are\nyou?",A test.\n')
    with pytest.raises(InputError, match="fields seen: who"):
        list(read_records([str(path)]))


def test_a_named_pipe_is_read_once_and_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = "".join(json.dumps(request(n)) + "\n" for n in range(2000))
    writer = threading.Thread(target=lambda: pipe.write_text(content))
    writer.start()
    records = list(read_records([str(pipe)]))
    writer.join()
    assert [record.id for record in records] == [f"r{n}" for n in range(2000)]


def test_a_person_is_never_the_name_of_a_route(write: Any) -> None:
    rows_ = [
        {"prompt_tokens": 5, "completion_tokens": 6, "tenant": f"anna{n % 2}@example.org", "model": "m"}
        for n in range(8)
    ]
    found = build_profile([str(write("log.jsonl", rows_))])
    assert len(found.routes) == 2
    assert "anna" not in found.model_dump_json()


def test_adapters_and_models_are_fields_of_the_profile(write: Any) -> None:
    rows_ = [{"prompt_tokens": 5, "completion_tokens": 6, "adapter": "ab"[n % 2], "model": "m"} for n in range(8)]
    found = build_profile([str(write("log.jsonl", rows_))])
    assert (found.adapters, found.models) == ({"a": 4, "b": 4}, {"m": 8})


def test_a_route_a_request_costs_no_more_than_one(write: Any) -> None:
    rows_ = [{"prompt_tokens": 5, "completion_tokens": 6, "route": f"r{n}"} for n in range(5000)]
    found = build_profile([str(write("log.jsonl", rows_))])
    assert found.n_requests == 5000
    assert len(found.routes) <= 49


def test_the_command_prints_records_and_counts(
    write: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    from draftsmith.cli.records import records

    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, write_through=True))
    records([str(write("log.jsonl", [request(0), "{"]))])
    sys.stdout.flush()
    assert json.loads(out.getvalue())["id"] == "r0"
    assert "1 records; 1 skipped (broken JSON: 1)" in capsys.readouterr().err
    out.truncate(0), out.seek(0)
    records([str(tmp_path / "log.jsonl")], json=True)
    value = json.loads(out.getvalue())
    assert (value["records"], value["skipped"], [row["id"] for row in value["rows"]]) == (1, {"broken JSON": 1}, ["r0"])
    records([str(tmp_path / "log.jsonl")], out=tmp_path / "native.jsonl")
    assert (tmp_path / "native.jsonl").stat().st_mode & 0o077 == 0
