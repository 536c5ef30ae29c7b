"""Real logs are dirty. Every line that gives no record is counted with its reason and place; none stops the reading."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from draftsmith.contract.errors import InputError
from draftsmith.profiling import scan
from draftsmith.profiling.profile import build_profile
from draftsmith.profiling.summary import lines
from draftsmith.traffic.importers import CATALOG, detect, read_records
from draftsmith.traffic.importers import sources as sources_module
from draftsmith.traffic.importers.base import SkipError
from draftsmith.traffic.importers.normalise import BACKWARDS, UNREADABLE, normalise
from draftsmith.traffic.importers.reading import FileReader, Rejected, elements

from .conftest import request
from .test_importers import ASKED, CHAT, COUNTS, FULL
from .test_sources import FILES

GOOD = request(0)


def survey(*sources: Path) -> tuple[int, Counter[str], list[str]]:
    reasons: Counter[str] = Counter()
    places: list[str] = []

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] += 1
        places.append(where)

    made = sum(1 for _ in read_records([str(one) for one in sources], on_skip=skip))
    return made, reasons, places


BAD: dict[str, tuple[Any, str]] = {
    "broken json": ('{"schema": "draftsmith_acc', "broken JSON"),
    "not a number": ('{"prompt_tokens": NaN, "completion_tokens": 1}', "broken JSON"),
    "a list": ("[1, 2]", "JSON value is not an object"),
    "nothing known": ({"hello": "world"}, "unknown format"),
    "all null": ({**dict.fromkeys(GOOD), "schema": GOOD["schema"]}, "no text and no counts"),
    "negative": ({"prompt_tokens": -1, "completion_tokens": 4}, "negative token count"),
    "fraction": ({"prompt_tokens": 1.5, "completion_tokens": 4}, "token count is not a whole number"),
    "word": ({"prompt_tokens": "many", "completion_tokens": 4}, "token count is not a number"),
    "nobody speaks": ({**GOOD, "messages": [{"content": "x"}]}, "message without a role"),
    "ids are words": ({**GOOD, "output_token_ids": ["a"]}, "token ids are not whole numbers"),
    "failed": ({**GOOD, "error": "timeout"}, "failed request"),
    "lone surrogate": ('{"messages": [{"role": "user", "content": "\\ud800"}], "completion": "x"}', "broken JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_counted_with_its_place(name: str, write: Any) -> None:
    row, reason = BAD[name]
    made, reasons, places = survey(write("log.jsonl", [GOOD, row, request(1)]))
    assert (made, reasons, places) == (2, Counter({reason: 1}), ["log.jsonl:2"])


def test_line_separators_inside_strings_do_not_split_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    row = request(1, said="one\u2028two\u2029three\x85four")
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode() + b"\r\n")
    (record,) = read_records([str(path)])
    assert record.completion == "one\u2028two\u2029three\x85four"


def test_wrong_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    latin = json.dumps(request(1, said="caf\u00e9"), ensure_ascii=False).encode("latin-1")
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n" + latin + b"\n")
    assert survey(path) == (1, Counter({"not UTF-8": 1}), ["log.jsonl:2"])


def test_a_cut_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    whole = b"".join(json.dumps(request(n, said=f"{n * 7919}" * 40)).encode() + b"\n" for n in range(2000))
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(whole)[:-2000])
    made, reasons, places = survey(path)
    assert 0 < made < 2000
    assert reasons["truncated or corrupt compression"] == 1
    assert places == [f"log.jsonl.gz:{made + 1}"] * len(places), "the line that is cut is named"


def test_an_endless_line_is_passed_over_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "MAX_LINE", 1 << 16)
    monkeypatch.setattr(sources_module, "BLOCK", 1 << 14)
    path = tmp_path / "log.jsonl"
    good = json.dumps(GOOD).encode() + b"\n"
    path.write_bytes(good + b'{"completion": "' + b"x" * (9 << 20) + b'"}\n' + good)
    assert survey(path) == (2, Counter({"line too long": 1}), ["log.jsonl:2"])


def test_clocks_that_run_backwards_cost_the_time_not_the_record(write: Any) -> None:
    path = write("log.jsonl", [request(1, timing={"start_unix_s": 10.0, "latency_s": -3.0})])
    (record,) = read_records([str(path)])
    assert record.timing is not None
    assert record.timing.latency_s is None
    assert survey(path)[1] == Counter({BACKWARDS: 1})


def test_times_that_say_nothing_are_counted_and_cost_no_record(write: Any) -> None:
    late = {"start_unix_s": 10.0, "latency_s": 2.0, "ttft_s": 5.0}
    rows = [
        request(1, timing=late),
        request(2, timing={"start_unix_s": "soon"}),
        {"prompt_tokens": 1, "completion_tokens": 2, "timestamp": "the day after"},
        {"prompt_tokens": 1, "completion_tokens": 2, "timestamp": None},
    ]
    path = write("log.jsonl", rows)
    records = list(read_records([str(path)]))
    assert [record.timing and record.timing.ttft_s for record in records] == [None] * 4
    assert survey(path) == (
        4,
        Counter({UNREADABLE: 2, BACKWARDS: 1}),
        ["log.jsonl:1", "log.jsonl:2", "log.jsonl:3"],
    )


def spans(*changes: dict[str, Any]) -> dict[str, Any]:
    """One export of several model calls, some of which cannot be used."""
    usual = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4}
    made = [{"spanId": f"s{n}", "attributes": {**usual, **change}} for n, change in enumerate(changes)]
    return {"spans": [{**span, **span["attributes"].pop("span", {})} for span in made]}


def test_one_bad_request_in_a_value_of_many_does_not_cost_the_others(write: Any) -> None:
    bad = {"gen_ai.usage.input_tokens": -1}
    failed = {"span": {"status": {"code": 2}}}
    nothing = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    odd = {
        "gen_ai.input.messages": [{"role": "user", "parts": 5, "tool_calls": [{"function": 5}]}],
        "span": {"status": []},
    }
    log = write("otel.jsonl", [spans({}, bad, failed, nothing, odd, {})])
    made, reasons, places = survey(log)
    assert made == 3
    left_out = "part of an unknown kind (left out)"  # of the odd one, which is kept for its counts
    assert reasons == Counter({"negative token count": 1, "failed request": 1, "no text and no counts": 1, left_out: 1})
    assert set(places) == {"otel.jsonl:1"}

    good = {"type": "GENERATION", "startTime": "2023-11-14T22:13:20Z", "usageDetails": {"input": 7, "output": 3}}
    broken = [{**good, "level": "ERROR"}, {**good, "usageDetails": {"input": "many"}}]
    made, reasons, _ = survey(write("langfuse.jsonl", [{"observations": [good, *broken, {"type": "SPAN"}, good]}]))
    assert (made, reasons) == (2, Counter({"failed request": 1, "token count is not a number": 1}))

    rows = {"0": {"in_len": 1, "out_len": 2}, "1": {"in_len": 0.5, "out_len": 2}, "2": {"in_len": 3, "out_len": 4}}
    made, reasons, _ = survey(write("burst.jsonl", [rows]))
    assert (made, reasons) == (2, Counter({"token count is not a whole number": 1}))


def test_formats_may_be_mixed_in_one_folder_and_in_one_file(write: Any, tmp_path: Path) -> None:
    write("mixed.jsonl", [FULL["plain"], COUNTS["precounted"], FULL["litellm"], GOOD])
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,5,6\n1,2\n")
    made, reasons, places = survey(tmp_path)
    assert made == 5
    assert (reasons, places) == (Counter({"row does not fit the header": 1}), ["trace.csv:3"])


def test_without_one_usable_record_the_reasons_are_counted(write: Any) -> None:
    with pytest.raises(InputError, match=r"no usable request in the traffic \(broken JSON: 2, unknown format: 1\)"):
        survey(write("log.jsonl", ["{", "{", {"a": 1}]))


def test_no_text_of_the_log_stands_in_an_error(write: Any) -> None:
    secret = "the launch code is 0000"
    with pytest.raises(InputError) as caught:
        survey(write("log.jsonl", [{"error": secret, "schema": GOOD["schema"]}, f'{{"x": "{secret}']))
    assert secret not in str(caught.value)


def test_a_cut_list_keeps_its_whole_elements(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(json.dumps([request(n) for n in range(5)], indent=1).encode()[:-30])
    made, reasons, _ = survey(path)
    assert (made, reasons) == (4, Counter({"broken or cut JSON": 1}))


def test_several_lists_one_after_another_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps([request(n), request(n + 1)]) + "\n" for n in (0, 2, 4)) + "that is all")
    assert survey(path)[:2] == (6, Counter({"broken or cut JSON": 1}))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "cp1252", "shift-jis"])
def test_a_file_in_another_encoding_is_counted_line_by_line(encoding: str, write: Any, tmp_path: Path) -> None:
    said = "\u30c6\u30b9\u30c8" if encoding == "shift-jis" else "\u00fcber \u20ac"
    write("good.jsonl", [GOOD])
    other = "".join(json.dumps(request(n, said=said), ensure_ascii=False) + "\n" for n in range(1, 4))
    (tmp_path / "other.jsonl").write_bytes(other.encode(encoding))
    made, reasons, places = survey(tmp_path)
    assert made == 1
    assert set(reasons) <= {"not UTF-8", "broken JSON"}
    assert {place.split(":")[0] for place in places} == {"other.jsonl"}
    assert len(places) >= 3


def test_streamed_chunks_between_other_lines_are_not_lost(write: Any, tokenizer: Path) -> None:
    chunk = {"object": "chat.completion.chunk", "id": "x", "choices": [{"delta": {"content": "A fox."}}]}
    found = build_profile([str(write("log.jsonl", [GOOD, chunk, request(1), chunk]))], tokenizer=tokenizer)
    assert found.n_requests == 3, "two halves of one answer have one id, and are one request"
    assert found.skipped == ()


def test_what_was_rejected_is_written_aside_on_request(write: Any, tokenizer: Path, tmp_path: Path) -> None:
    path = write("log.jsonl", [GOOD, "{broken", {"hello": "world"}, request(1)])
    aside = tmp_path / "rejects.jsonl"
    found = build_profile([str(path)], tokenizer=tokenizer, rejects=aside)
    assert aside.stat().st_mode & 0o077 == 0
    rows = [json.loads(line) for line in aside.read_bytes().split(b"\n") if line]
    assert rows == [
        {"reason": "broken JSON", "where": "log.jsonl:2", "raw": "{broken"},
        {"reason": "unknown format", "where": "log.jsonl:3", "raw": '{"hello": "world"}'},
    ]
    assert {one.reason: one.lines for one in found.skipped} == {row["reason"]: (row["where"],) for row in rows}


@pytest.mark.parametrize("way", ["lines", "list", "packed", "workers"])
def test_requests_that_came_before_are_written_aside_too(
    way: str, write: Any, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [GOOD, request(1), request(0, said="Said later."), request(2)]
    path = write("log.jsonl", rows)
    if way == "list":
        path.write_text(json.dumps(rows))
    elif way == "packed":
        path.write_bytes(gzip.compress(path.read_bytes()))
    elif way == "workers":
        monkeypatch.setattr(scan, "PARALLEL_FROM", 0)
    aside = tmp_path / "rejects.jsonl"
    found = build_profile([str(path)], tokenizer=tokenizer, rejects=aside, workers=2)
    assert found.n_requests == 3
    (row,) = (json.loads(line) for line in aside.read_bytes().split(b"\n") if line)
    assert (row["reason"], row["where"]) == ("duplicate request id", "log.jsonl:3")
    assert json.loads(row["raw"]) == rows[2]


def test_batch_prompts_that_repeat_are_written_aside(write: Any, tokenizer: Path, tmp_path: Path) -> None:
    prompts = [
        {"custom_id": "q1", "body": {"messages": ASKED}},
        {"custom_id": "q1", "body": {"messages": ASKED, "n": 1}},
    ]
    write("a-prompts.jsonl", prompts)
    write("b-answers.jsonl", [{"custom_id": "q1", "response": CHAT, "error": None}])
    aside = tmp_path.parent / f"{tmp_path.name}-rejects.jsonl"
    found = build_profile([str(tmp_path)], tokenizer=tokenizer, rejects=aside)
    assert found.n_requests == 1
    (row,) = (json.loads(line) for line in aside.read_bytes().split(b"\n") if line)
    assert (row["reason"], row["where"]) == ("duplicate request id", "a-prompts.jsonl:2")
    assert json.loads(row["raw"]) == prompts[1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(found for key, inner in steps for found in paths(inner, (*prefix, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


SAMPLES = [GOOD, *(json.loads(line) for file in FILES.values() for line in file.split("\n") if line.startswith("{"))]
ROWS = [line for file in FILES.values() for line in file.split("\n") if line and not line.startswith("{")]


@examples(400)
@given(st.data())
def test_any_value_anywhere_in_any_format_is_read_or_counted(data: st.DataObject) -> None:
    """Fuzz over every importer: put any JSON anywhere into a good sample. Reading gives records or reasons, nothing else."""
    sample = data.draw(st.sampled_from(SAMPLES))
    place = data.draw(st.sampled_from(paths(sample)))
    raw = json.dumps(replaced(sample, place, data.draw(json_values))).encode()
    for shape in ("lines", "text", "csv"):
        for _, found in FileReader(shape).block(1, raw):
            if isinstance(found, Rejected):
                assert found.reason
            else:
                usage = found["usage"].values()
                assert all(value is None or value >= 0 for value in usage)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_anywhere_stops_a_profile(data: st.DataObject, tokenizer: Path, tmp_path: Path) -> None:
    """The same fuzz through the whole profile, many lines at a time: each is a request, or counted with its place."""
    written = []
    for _ in range(12):
        sample = data.draw(st.sampled_from(SAMPLES))
        place = data.draw(st.sampled_from(paths(sample)))
        written.append(json.dumps(replaced(sample, place, data.draw(json_values))))
    path = tmp_path / "log.jsonl"
    path.write_bytes("".join(line + "\n" for line in [json.dumps(GOOD), *written]).encode())
    found = build_profile([str(path)], tokenizer=tokenizer, format=data.draw(st.sampled_from([None, "native"])))
    assert found.n_requests >= 1
    assert all(0 < int(line.split(":")[1].split(".")[0]) <= 13 for one in found.skipped for line in one.lines)


@examples(300)
@given(st.sampled_from(ROWS), st.data())
def test_rows_of_tables_and_text_logs_may_be_cut_and_mixed_anywhere(row: str, data: st.DataObject) -> None:
    at, until = sorted(data.draw(st.tuples(*[st.integers(0, len(row))] * 2)))
    changed = row[:at] + data.draw(st.text(max_size=12)) + row[until:]
    for shape in ("csv", "text"):
        reader = FileReader(shape)
        head = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" if shape == "csv" else b""
        for _, found in chain(reader.block(1, head + changed.encode("utf-8", "replace")), reader.end()):
            assert isinstance(found, Rejected | dict)


@examples(100)
@given(st.sampled_from(sorted(CATALOG)), st.binary(max_size=200))
def test_any_bytes_are_read_or_counted_by_every_importer(name: str, raw: bytes) -> None:
    one = CATALOG[name]
    for shape in ("lines", "text", "csv"):
        for _, found in FileReader(shape, one).block(1, raw):
            assert isinstance(found, Rejected | dict)


@examples(100)
@given(json_values.filter(lambda value: isinstance(value, dict)))
def test_a_forced_format_never_raises_on_foreign_objects(value: Any) -> None:
    for one in CATALOG.values():
        if one.kind != "json":
            continue
        for _, found in FileReader("lines", one).block(1, json.dumps(value).encode()):
            assert isinstance(found, Rejected | dict)


@examples(100)
@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=30), max_size=3)), st.integers(1, 40), st.booleans()
)
def test_a_list_read_in_pieces_of_any_size_is_the_same_list(rows: list[Any], size: int, plain: bool) -> None:
    raw = json.dumps(rows, ensure_ascii=plain, indent=None if plain else 1).encode()
    pieces = (raw[at : at + size] for at in range(0, len(raw), size))
    found = [json.loads(one) for _, one in elements(pieces) if one is not None]
    assert found == rows


@examples(100, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["usage", "timing", "messages", "completion", "params", "output_token_ids"]), json_values
    )
)
def test_normalising_twice_changes_nothing(fields: dict[str, Any]) -> None:
    try:
        normalise(fields)
    except SkipError:
        return
    before = json.dumps(fields, sort_keys=True, default=str)
    assert normalise(fields) == ()
    assert json.dumps(fields, sort_keys=True, default=str) == before


def test_detecting_needs_one_line_it_knows() -> None:
    assert detect(["# a comment", json.dumps(GOOD)]) == "native"
    with pytest.raises(InputError, match="format of the traffic is not known"):
        detect(["nothing", "{}"])


@pytest.mark.parametrize(
    "start", [-62_135_647_200, -1e9, 1e291, 1e30, "9999-12-31T23:59:59.999999Z", "0001-01-01", 0, 1.0]
)
def test_dates_out_of_this_world_cost_no_more_than_the_date(start: Any, write: Any) -> None:  # fmt: skip
    usual = [{"prompt_tokens": 5, "completion_tokens": 6, "timestamp": 1.7e9 + n, "latency_s": 1.0} for n in range(3)]
    odd = {"prompt_tokens": 5, "completion_tokens": 6, "timestamp": start, "latency_s": 1.0}
    found = build_profile([str(write("log.jsonl", [odd, *usual]))])
    lines(found)
    assert found.n_requests == 4
    assert all(one.requests_per_s >= 0 for one in found.load_over_time)


def test_half_a_character_in_a_log_of_rust_or_python_is_no_text(write: Any) -> None:
    span = {"inputs": '"\\\n a\\u2028 \\ud83d\\ude00 \\ud83d"', "parameters": "", "total_time": "2.0s"}
    (record,) = read_records([str(write("log.jsonl", [{"timestamp": 1.7e9, "level": "INFO", "span": span}]))])
    assert (record.messages or [{}])[0]["content"] == " a\u2028 \U0001f600 \ufffd"
    assert json.loads(record.model_dump_json())["messages"][0]["content"].startswith(" a")


def test_a_header_that_swallows_its_file_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('num_prefill_tokens,"num_decode_tokens\n7,3\n8,4\n"')
    with pytest.raises(InputError, match="row does not fit the header: 1"):
        list(read_records([str(path)]))


def test_a_speaker_without_a_name_is_none(write: Any) -> None:
    with pytest.raises(InputError, match="message without a role"):
        list(read_records([str(write("log.jsonl", [{**request(1), "messages": [{"role": "", "content": "Hi"}]}]))]))


def test_a_battle_of_nobody_is_counted(write: Any) -> None:
    with pytest.raises(InputError, match=r"\(conversation without an answer: 1"):
        list(read_records([str(write("log.jsonl", [{"question_id": "q", "conversation_a": None}]))]))
