"""Nothing is lost in silence: every request of a file is a record or a counted skip, and its text comes out as it went in."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from depth import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import read_records

from .promises import check_faithful, outcome
from .written import FORMATS, Talk

# Any text: line breaks, quotes, brackets, what looks like JSON, log, markup or another record. Blank text is another matter.
HOSTILE = ["{", '["a", "b"]', '{"answer": "no", "output_text": "x"}', "' , params: SamplingParams(n=8)", "prompt_token_ids: [7]", '"quoted"',
           "<think>no</think>", "data: {}", "a\nb\n\nc", "\\x22", "None", "null", "[1, 2]", "\u2028\u4e2d\U0001f600"]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
)
SAID = TEXT.filter(lambda text: text.strip() != "")
NAMES = st.from_regex(r"[a-z][a-z_]{0,15}", fullmatch=True)
TALKS = st.lists(
    st.builds(
        Talk,
        user=SAID,
        answer=SAID,
        system=st.one_of(st.just(""), SAID),
        earlier=st.lists(st.tuples(SAID, SAID), max_size=2).map(tuple),
        reasoning=st.one_of(st.just(""), SAID),
        call=st.one_of(st.none(), st.tuples(NAMES, SAID)),
    ),
    min_size=1,
    max_size=4,
)


def held(talk: Talk, holds: frozenset[str]) -> Talk:
    """The talk without what a format cannot hold."""
    empty: dict[str, Any] = {"system": "", "earlier": (), "reasoning": "", "call": None}
    return dataclasses.replace(talk, **{key: value for key, value in empty.items() if key not in holds})


def read(path: Path) -> tuple[list[AccessRecord], Counter[str]]:
    reasons: Counter[str] = Counter()

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] += 1

    try:
        return list(read_records([str(path)], on_skip=skip)), reasons
    except InputError:
        return [], reasons


@pytest.mark.parametrize("name", FORMATS)
@examples(15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(talks=TALKS)
def test_what_goes_in_comes_out(name: str, talks: list[Talk], tmp_path: Path) -> None:
    one = FORMATS[name]
    talks = [held(dataclasses.replace(talk, number=number), one.holds) for number, talk in enumerate(talks, start=1)]
    path = tmp_path / "log.txt"
    path.write_text(one.write(talks), encoding="utf-8", newline="\n")
    check_faithful(one, talks, outcome(path))


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    talks=TALKS,
    bad=st.lists(
        st.sampled_from(["{broken", "[]", '{"hello": "world"}', "7", '{"request": 5, "response": {}}']), max_size=4
    ),
)
def test_records_in_are_records_out_and_skips(talks: list[Talk], bad: list[str], tmp_path: Path) -> None:
    one = FORMATS["openai-pair"]
    talks = [dataclasses.replace(talk, number=number) for number, talk in enumerate(talks, start=1)]
    path = tmp_path / "log.jsonl"
    path.write_text(one.write(talks) + "".join(f"{line}\n" for line in bad), encoding="utf-8", newline="\n")
    records, reasons = read(path)
    assert len(records) + reasons.total() == len(talks) + len(bad)


def test_parameters_have_their_types(tmp_path: Path) -> None:
    body = {
        "messages": [{"role": "user", "content": "Who?"}],
        "tools": True,
        "top_k": "null",
        "max_tokens": -1,
        "temperature": "0.5",
        "stop": None,
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"request": body, "response": {"choices": [{"message": {"content": "I."}}]}}) + "\n")
    (record,), reasons = read(path)
    assert record.params == {"temperature": 0.5}
    assert reasons == Counter(
        {f"parameter {key} that no engine accepts (kept without it)": 1 for key in ("tools", "max_tokens")}
    )


def test_a_message_without_content_is_never_posted_so(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    asked = [
        {"role": "user"},
        {"role": "assistant", "tool_calls": [{"name": "f", "args": {}}]},
        {"role": "tool", "content": "1"},
    ]
    path.write_text(json.dumps({"messages": asked, "completion": "x"}) + "\n")
    (record,), _ = read(path)
    assert all(isinstance(message["content"], str) for message in record.messages or ())
    call = (record.messages or [])[1]["tool_calls"][0]
    assert call == {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image", "source": {"type": "url", "url": "http://inside/"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
    ],
)
@pytest.mark.parametrize("shape", ["native", "plain"])
def test_media_are_left_out_with_a_count_and_never_sent_on(part: dict[str, Any], shape: str, tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}],
        "completion": "A ferry.",
    }
    row |= {"schema": "draftsmith_access_v1", "id": "1"} if shape == "native" else {}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row) + "\n")
    records, reasons = read(path)
    assert records == []
    assert reasons == Counter({"image, audio or file in the prompt": 1})
