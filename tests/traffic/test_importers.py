"""Every known format gives the same request: who asked what, what was answered, how long it was, and when."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import CATALOG, detect, read_records

ASKED = [{"role": "user", "content": "Who are you?"}]
SAID = "A test."
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
    "usage": USAGE,
}
PARTS = [{"role": "user", "parts": [{"type": "text", "content": "Who are you?"}]}]
ANSWER_PARTS = [{"role": "assistant", "parts": [{"type": "text", "content": SAID}], "finish_reason": "stop"}]


def otlp(attributes: dict[str, Any]) -> dict[str, Any]:
    """A span as OTLP/JSON writes it: integers are strings."""
    listed = [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in attributes.items()
    ]
    span = {
        "spanId": "s1",
        "traceId": "t1",
        "name": "chat",
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000002000000000",
        "attributes": listed,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


FULL: dict[str, Any] = {
    "native": {
        "schema": "draftsmith_access_v1",
        "id": "c1",
        "messages": ASKED,
        "completion": SAID,
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "timing": {"start_unix_s": 1700000000, "latency_s": 2},
    },
    "openai-stored": {**CHAT, "messages": ASKED},
    "openai-pair": {"request": {"messages": ASKED, "temperature": 0}, "response": CHAT},
    "plain": {"messages": ASKED, "completion": SAID, "usage": USAGE},
    "litellm": {
        "id": "c1",
        "call_type": "acompletion",
        "status": "success",
        "cache_hit": None,
        "startTime": "2023-11-14 22:13:20",
        "endTime": "2023-11-14 22:13:22",
        "messages": ASKED,
        "response": CHAT,
        **USAGE,
    },
    "tensorzero": {
        "id": "c1",
        "raw_request": json.dumps({"messages": ASKED}),
        "raw_response": json.dumps(CHAT),
        "input_tokens": 7,
        "output_tokens": 3,
        "timestamp": "2023-11-14 22:13:20",
    },
    "langfuse": {
        "trace": {"sessionId": "s"},
        "observations": [
            {"type": "SPAN"},
            {
                "id": "c1",
                "type": "GENERATION",
                "startTime": "2023-11-14T22:13:20Z",
                "endTime": "2023-11-14T22:13:22Z",
                "usageDetails": {"input": 7, "output": 3},
                "input": ASKED,
                "output": {"message": {"role": "assistant", "content": SAID}},
            },
        ],
    },
    "otel-genai": otlp(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(PARTS),
            "gen_ai.output.messages": json.dumps(ANSWER_PARTS),
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
        }
    ),
    "openinference": otlp(
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "Who are you?",
            "llm.output_messages.0.message.content": SAID,
            "llm.token_count.prompt": 7,
            "llm.token_count.completion": 3,
        }
    ),
    "tgi": {
        "inputs": "Who are you?",
        "generated_text": SAID,
        "details": {"generated_tokens": 3, "prefill": [{"id": n} for n in range(7)]},
    },
}

COUNTS: dict[str, Any] = {
    "precounted": {"prompt_tokens": 7, "completion_tokens": 3, "content_class": "code"},
    "envoy-ai-gateway": {
        "response_code": 200,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "duration": 2000,
        "start_time": "2023-11-14T22:13:20Z",
    },
    "mooncake-trace": {"timestamp": 500, "input_length": 7, "output_length": 3, "hash_ids": [1]},
    "litellm": {
        "request_id": "c1",
        "call_type": "acompletion",
        "cache_hit": "None",
        "startTime": "2023-11-14 22:13:20",
        "messages": "{}",
        "response": "{}",
        **USAGE,
    },
    "burstgpt-replay": {"0": {"in_len": 7, "out_len": 3, "record_time": 5.0, "total_chunk_time": 1.0}},
}


def read(path: Path, **options: Any) -> list[AccessRecord]:
    return list(read_records([str(path)], **options))


@pytest.mark.parametrize("name", FULL)
def test_a_format_with_text_gives_prompt_answer_and_counts(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(FULL[name]) + "\n")
    (record,) = read(path)
    assert record.messages is not None
    assert record.messages[-1]["content"] == "Who are you?"
    assert record.completion == SAID
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (7, 3)
    assert detect([json.dumps(FULL[name])]) == name


@pytest.mark.parametrize("name", COUNTS)
def test_a_format_with_counts_alone_invents_no_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(COUNTS[name]) + "\n")
    (record,) = read(path)
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (7, 3)
    assert record.messages is None
    assert record.completion is None
    assert detect([json.dumps(COUNTS[name])]) == name


@pytest.mark.parametrize(("head", "row"), [("TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46.6805900,7,3"),
                                           ("num_prefill_tokens,num_decode_tokens", "7,3")])  # fmt: skip
def test_csv_traces_are_counts(head: str, row: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(f"{head}\r\n{row}\r\n")
    (record,) = read(path)
    assert (record.usage.prompt_tokens, record.usage.completion_tokens) == (7, 3)


@pytest.mark.parametrize("nested", [True, False])
def test_batch_answers_find_their_prompts_in_the_other_file(nested: bool, write: Any, tmp_path: Path) -> None:
    response = {"status_code": 200, "body": CHAT} if nested else CHAT
    write("b-answers.jsonl", [{"custom_id": f"q{n}", "response": response, "error": None} for n in (2, 1)])
    write("z-prompts.jsonl", [{"custom_id": f"q{n}", "body": {"messages": ASKED, "temperature": n}} for n in (1, 2, 3)])
    records = {record.id: record for record in read(tmp_path)}
    assert {name: record.completion for name, record in records.items()} == {"q1": SAID, "q2": SAID, "q3": None}
    assert records["q2"].params == {"temperature": 2}
    assert records["q1"].timing is None, "when a batch answered says nothing of arrivals"


def test_sharegpt_gives_one_request_for_every_answer(write: Any) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2
    records = read(write("s.jsonl", [{"id": "x", "conversations": turns}]))
    assert [len(record.messages or ()) for record in records] == [1, 3]
    assert {record.conversation for record in records} == {"x"}


def test_streamed_chunks_become_one_answer(write: Any, tmp_path: Path) -> None:
    base = {"object": "chat.completion.chunk", "id": "", "model": "m", "created": 1}
    chunks = [{**base, "choices": [{"delta": {"content": part}}]} for part in ("A ", "test.")]
    chunks.append({**base, "choices": [], "usage": USAGE})
    as_list = tmp_path / "list.json"
    as_list.write_text(json.dumps(chunks, indent=1))
    for path in (as_list, write("lines.jsonl", chunks)):
        (record,) = read(path)
        assert (record.completion, record.usage.completion_tokens) == (SAID, 3)


def test_vllm_logs_give_prompts_and_ids_but_never_answers(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(
        "INFO 05-06 01:42:03 [logger.py:39] Received request cmpl-1: prompt: 'It\\'s\\n5', params: SamplingParams(n=1, "
        "temperature=0.5, min_p=0.0, stop=[], max_tokens=20), prompt_token_ids: [1, 2, 3], lora_request: None.\n"
        "INFO 05-06 01:42:04 [loggers.py:116] Engine 000: Avg prompt throughput: 5.0 tokens/s\n"
    )
    (record,) = read(path)
    assert record.messages == [{"role": "user", "content": "It's\n5"}]
    assert record.prompt_token_ids == [1, 2, 3]
    assert record.params == {"temperature": 0.5, "max_tokens": 20}, "a neutral min_p was not asked for"
    assert record.completion is None


@pytest.mark.parametrize("prompt", ["[INST] Who are you? [/INST]", '{"name": "Ada"}', "{half", "[1, 2]"])
def test_a_prompt_that_begins_like_json_is_text(prompt: str, write: Any) -> None:
    rows = [
        {"prompt": prompt, "completion": SAID},
        {"custom_id": "q", "body": {"prompt": prompt}},
        {"custom_id": "p", "body": {"prompt": [prompt], "temperature": 1}},
    ]
    records = read(write("log.jsonl", rows))
    assert [record.messages for record in records] == [[{"role": "user", "content": prompt}]] * 3
    assert records[2].params == {"temperature": 1}


def test_several_prompts_in_one_request_are_counted_not_cut_to_the_first(write: Any) -> None:
    reasons: list[str] = []
    rows = [{"custom_id": "a", "body": {"prompt": ["one", "two"]}}, {"custom_id": "b", "body": {"prompt": [[1, 2]]}}]
    records = read(write("log.jsonl", rows), on_skip=lambda reason, where, raw: reasons.append(f"{reason} {where}"))
    assert [record.prompt_token_ids for record in records] == [[1, 2]]
    assert reasons == ["several prompts in one request log.jsonl:1"]


def test_tool_results_and_calls_are_kept_as_text(tmp_path: Path) -> None:
    call = {"type": "tool_call", "name": "clock", "arguments": {"zone": "UTC"}}
    result = {"type": "tool_call_response", "id": "1", "result": {"hour": 5}}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "time?"}]},
                                  {"role": "tool", "parts": [result]}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [call]}],
    }  # fmt: skip
    path = tmp_path / "span.json"
    path.write_text(json.dumps({"name": "chat", "attributes": attributes}, indent=2))
    (record,) = read(path)
    assert (record.messages or [])[-1]["content"] == '{"hour":5}'
    assert json.loads(record.completion or "") == {"name": "clock", "arguments": {"zone": "UTC"}}


def test_what_the_gateway_answered_itself_is_no_traffic(write: Any) -> None:
    row = FULL["litellm"]
    reasons: list[str] = []
    rows = [row, {**row, "cache_hit": "True"}, {**row, "status": "failure"}, {**row, "call_type": "aembedding"}]
    records = read(write("l.jsonl", rows), on_skip=lambda reason, where, raw: reasons.append(f"{reason} {where}"))
    assert len(records) == 1
    assert reasons == [
        "answered from the gateway's cache l.jsonl:2",
        "failed request l.jsonl:3",
        "not a generation request l.jsonl:4",
    ]


def test_compressed_files_and_folders_read_the_same(write: Any, tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    raw = write("a.jsonl", [FULL["plain"]] * 3).read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(raw) + gzip.compress(raw))
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "c.jsonl.zst").write_bytes(compress(raw) + compress(raw))
    (tmp_path / ".hidden.jsonl").write_bytes(b"never read")
    assert len(read(tmp_path)) == 3 + 6 + 6
    assert len(list(read_records([str(tmp_path / "*.gz")]))) == 6


def test_a_url_is_read_through_fsspec(write: Any) -> None:
    pytest.importorskip("fsspec")
    path = write("a.jsonl", [FULL["plain"]] * 2)
    assert len(list(read_records([f"file://{path}"]))) == 2


def test_a_missing_source_and_an_unknown_format_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to read"):
        list(read_records([str(tmp_path / "none.jsonl")]))
    with pytest.raises(InputError, match="unknown format 'nosuch'") as caught:
        list(read_records([str(tmp_path)], format="nosuch"))
    assert all(name in caught.value.next_step for name in CATALOG)
