"""Documents in the shapes that public tools write, each with what it must give. What used to be lost stands here, kind by kind."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import read_records

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Norway?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"q":"Oslo"}'}}
SAID = {"role": "assistant", "content": "Oslo.", "reasoning_content": "North.", "tool_calls": [CALL]}
WHOLE = 'North.\nOslo.\n{"name":"lookup","arguments":{"q":"Oslo"}}'
BODY = {"model": "m", "messages": ASKED, "temperature": 0.2}
CHAT = {"object": "chat.completion", "choices": [{"index": 0, "message": SAID, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 12, "completion_tokens": 9}}  # fmt: skip
ISO = "2026-09-01T10:00:00Z"


def read(text: str, folder: Path) -> tuple[list[AccessRecord], Counter[str]]:
    path = folder / "log"
    path.write_text(text)
    reasons: Counter[str] = Counter()
    try:
        return list(read_records([str(path)], on_skip=lambda reason, where, raw: reasons.update([reason]))), reasons
    except InputError:
        return [], reasons


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def cells(row: dict[str, Any]) -> str:
    table = io.StringIO()
    csv.writer(table).writerows([row, row.values()])
    return table.getvalue()


def seen(record: AccessRecord) -> dict[str, Any]:
    """What a case may say of a record."""
    timing, usage = record.timing, record.usage
    return {
        "roles": " ".join(message["role"] for message in record.messages or ()),
        "asked": [message["content"] for message in record.messages or ()],
        "said": record.completion,
        "reasoning": record.answer.reasoning if record.answer else None,
        "calls": [call.name for call in record.answer.calls] if record.answer else [],
        "counts": (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
        "start": timing and timing.start_unix_s,
        "latency": timing and timing.latency_s and round(timing.latency_s, 3),
        "ttft": timing and timing.ttft_s and round(timing.ttft_s, 3),
        "ids": (record.prompt_token_ids, record.output_token_ids),
        **{key: getattr(record, key) for key in ("id", "model", "conversation", "finish_reason", "adapter", "params")},
    }


PARAMS = 'SamplingParams(n=1, temperature=0.7, top_k=20, stop=["it\'s"], max_tokens=99, skip_special_tokens=True)'
GUIDELLM = {"request_id": "r1", "request_args": json.dumps({"method": "POST", "stream": True, "body": BODY}), "output": "Oslo.", "reasoning_output": "North.", "tool_calls": [CALL],
            "info": {"conversation_id": "cv", "timings": {"request_start": 100.0, "first_token_iteration": 100.3, "request_end": 102.0}}, "input_metrics": {"text_tokens": 12, "cached_tokens": 4},
            "output_metrics": {"text_tokens": 9}, "request_start_time": 100.0, "request_end_time": 102.0, "prompt_tokens": 12, "cached_tokens": 4, "output_tokens": 9}  # fmt: skip
PERF_INFO = {
    "request_metrics": {"text": {"input_tokens": 12}},
    "response_metrics": {"output_tokens": 9, "output_token_times": [100.5]},
    "lora_adapter": "sql",
}
BEDROCK = {
    "schemaType": "ModelInvocationLog",
    "timestamp": ISO,
    "requestId": "q",
    "operation": "InvokeModel",
    "modelId": "m",
}
TITAN = {"inputText": "Capital?", "textGenerationConfig": {"maxTokenCount": 64, "temperature": 0.2}}
STREAMED = [{"type": "message_start", "message": {"role": "assistant", "content": []}}, {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Oslo."}},
            {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 12, "outputTokenCount": 9, "invocationLatency": 2500, "firstByteLatency": 400}}]  # fmt: skip
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "system": "Be brief.", "messages": ASKED[1:]}
APIM = {"TimeGenerated": ISO, "CorrelationId": "c1", "SequenceNumber": 0, "PromptTokens": 12, "CompletionTokens": 9, "RequestMessages": json.dumps(ASKED), "ResponseMessages": json.dumps([SAID])}  # fmt: skip
LANGSMITH = {"id": "l1", "run_type": "llm", "start_time": ISO, "inputs": {"messages": [ASKED]}, "outputs": {"generations": [[{"text": "Oslo.", "generation_info": {"finish_reason": "stop"}, "message": {
    "lc": 1, "type": "constructor", "id": ["AIMessage"], "kwargs": {"content": "Oslo.", "additional_kwargs": {"reasoning_content": "North."},
                                                                     "usage_metadata": {"input_tokens": 12, "output_tokens": 9, "input_token_details": {"cache_read": 4}}}}}]]}}  # fmt: skip
PHOENIX = {"context.span_id": "s1", "context.trace_id": "t1", "start_time": ISO, "attributes.openinference.span.kind": "LLM", "attributes.llm.input_messages": str([{"message.role": "user", "message.content": "It's \"A\"?"}]),
           "attributes.llm.output_messages": str([{"message.role": "assistant", "message.content": "Yes."}])}  # fmt: skip
CODEX = [{"id": "C2", "timestamp": ISO, "instructions": "Be Codex."}, {"record_type": "state"}, {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it"}]},
         {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"}]  # fmt: skip
ARENA = {"question_id": "q", "model_a": "a", "model_b": "b", "winner": "tie", "conversation_a": [*ASKED[1:], {"role": "assistant", "content": "Oslo"}],
         "conversation_b": [*ASKED[1:], {"role": "assistant", "content": "Bergen"}]}  # fmt: skip
SEARCH = {"type": "web_search"}
FUNCTION = {"type": "function", "function": {"name": "lookup"}}

CLOUDFLARE = {
    "id": "k1",
    "created_at": ISO,
    "provider": "openai",
    "model": "m",
    "success": True,
    "cached": False,
    "duration": 900,
    "status_code": 200,
    "tokens_in": 12,
    "tokens_out": 9,
}
LANGCHAIN = {"id": "l2", "run_type": "llm", "start_time": ISO, "inputs": {"messages": [ASKED]}, "outputs": {"generations": [[{"text": "Oslo."}]], "llm_output": {"token_usage": {"prompt_tokens": 12, "completion_tokens": 9}}}}  # fmt: skip

CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "Cloudflare, bodies in the list": (lines({**CLOUDFLARE, "request_head": json.dumps(BODY), "response_head": json.dumps(CHAT)}),
                                       [{"roles": "system user", "said": WHOLE, "counts": (12, 9, None)}]),
    "LangSmith, counts of LangChain": (lines(LANGCHAIN), [{"said": "Oslo.", "counts": (12, 9, None)}]),
    "vLLM 0.4": (f"INFO 05-01 10:00:00 async_llm_engine.py:524] Received request r: prompt: 'Hi, params: x', sampling_params: {PARAMS}, prompt_token_ids: [1], lora_request: None.\n",
                 [{"asked": ["Hi, params: x"], "ids": ([1], None), "params": {"temperature": 0.7, "top_k": 20, "stop": ["it's"], "max_tokens": 99}}]),
    "vLLM 0.6": (f"INFO 11-05 10:00:00 logger.py:37] Received request r: prompt: \"It's\", params: {PARAMS}, prompt_token_ids: [1, 2], lora_request: None, prompt_adapter_request: None.\n",
                 [{"asked": ["It's"], "ids": ([1, 2], None)}]),
    "an engine's log behind Docker": (lines({"log": f"INFO 05-05 10:00:00 [logger.py:39] Received request r: prompt: 'Hi', params: {PARAMS}, prompt_token_ids: [1], lora_request: None.\n",
                                             "stream": "stdout", "time": ISO}), [{"asked": ["Hi"], "ids": ([1], None)}]),
    "Ollama's stream beside its request": (lines({"request": {**BODY, "options": {"num_predict": 9}}, "response": "\n".join(json.dumps(one) for one in (
        {"message": {"role": "assistant", "content": "Os"}, "done": False}, {"message": {"role": "assistant", "content": "lo."}, "done": True, "prompt_eval_count": 12, "eval_count": 9}))}),
                                           [{"said": "Oslo.", "counts": (12, 9, None), "params": {"temperature": 0.2, "max_tokens": 9}}]),
    "an adapter beside a pair": (lines({"adapter": "sql", "request": {**BODY, "extra_body": {"top_k": 5}}, "response": CHAT}), [{"adapter": "sql", "params": {"temperature": 0.2, "top_k": 5}}]),
    "an answer that ends in the middle of JSON": (lines({"prompt": "x", "completion": '{"id": 7, "na'}, {"prompt": "x", "completion": '{"role": "user"} and so on'}),
                                                  [{"said": '{"id": 7, "na'}, {"said": '{"role": "user"} and so on'}]),
    "vLLM's streamed outputs": ("".join(f"(APIServer pid=1) INFO 08-25 10:00:02 [logger.py:97] Generated response r {how}: output: '{said}', output_token_ids: {ids}, finish_reason: {end}\n" for how, said, ids, end in (
        ("(streaming delta)", "Os", "[1]", "None"), ("(streaming delta)", "lo", "[2]", "length"), ("(streaming complete)", "Oslo", "None", "streaming_complete"))),
                                [{"said": "Oslo", "ids": (None, [1, 2]), "finish_reason": "length"}]),
    "guidellm": (json.dumps({"benchmarks": [{"requests": {"successful": [GUIDELLM], "errored": [], "incomplete": [], "total": None}}]}),
                 [{"said": WHOLE, "reasoning": "North.", "calls": ["lookup"], "counts": (12, 9, 4), "ttft": 0.3, "latency": 2.0, "conversation": "cv"}]),
    "inference-perf": (json.dumps([{"start_time": 100.0, "end_time": 102.0, "request": json.dumps(BODY), "response": json.dumps(CHAT), "info": PERF_INFO, "error": None}]),
                       [{"said": WHOLE, "counts": (12, 9, None), "ttft": 0.5, "latency": 2.0, "adapter": "sql"}]),
    "AIPerf's inputs": (json.dumps({"data": [{"session_id": "s", "payloads": [BODY, BODY]}]}), [{"roles": "system user", "conversation": "s"}] * 2),
    "Arena": (lines(ARENA), [{"said": "Oslo", "model": "a"}, {"said": "Bergen", "model": "b"}]),
    "Arena as a table": (cells({"id": 7, "model_a": "a", "model_b": "b", "prompt": '["One?","Two?"]', "response_a": '["1","2"]', "response_b": '["3"]', "winner_tie": 1}),
                         [{"said": "1", "asked": ["One?"]}, {"said": "2", "asked": ["One?", "1", "Two?"]}, {"said": "3", "model": "b"}]),
    "Bedrock's stream": (lines({**BEDROCK, "input": {"inputBodyJson": CLAUDE}, "output": {"outputBodyJson": STREAMED}}), [{"said": "Oslo.", "latency": 2.5, "ttft": 0.4, "roles": "system user"}]),
    "Bedrock's Titan": (lines({**BEDROCK, "input": {"inputBodyJson": TITAN}, "output": {"outputBodyJson": {"results": [{"outputText": "Oslo.", "tokenCount": 3, "completionReason": "FINISH"}]}}}),
                        [{"params": {"max_tokens": 64, "temperature": 0.2}, "finish_reason": "stop"}]),
    "APIM from a query": (json.dumps({"tables": [{"columns": [{"name": name} for name in APIM], "rows": [list(APIM.values())]}]}), [{"said": WHOLE, "start": 1788256800.0}]),
    "APIM from the portal": (cells({"TimeGenerated [UTC]": "9/1/2026, 10:00:00.000 AM", **{key: value for key, value in APIM.items() if key != "TimeGenerated"}}), [{"said": WHOLE, "start": 1788256800.0}]),
    "LangSmith": (lines(LANGSMITH), [{"said": "North.\nOslo.", "reasoning": "North.", "counts": (12, 9, 4), "finish_reason": "stop"}]),
    "Phoenix as a table": (cells(PHOENIX), [{"id": "s1", "asked": ["It's \"A\"?"], "said": "Yes."}]),
    "Codex up to 0.30": (lines(*CODEX), [{"roles": "system user", "calls": ["shell"], "conversation": "C2"}]),
    "Gemini without roles": (lines({"key": "q", "request": {"contents": [{"parts": [{"text": "Hi"}]}]}, "response": {"candidates": [{"content": {"parts": [{"text": "Ho"}]}}]}}), [{"roles": "user", "said": "Ho"}]),
    "preferences": (lines({"input": {"messages": ASKED}, "preferred_output": [{"role": "assistant", "content": "Oslo."}], "non_preferred_output": [{"role": "assistant", "content": "No"}]}),
                    [{"asked": ["Be brief.", "Capital of Norway?"], "said": "Oslo."}]),
    "a conversation in another record": (lines({"meta": 1, "talk": {"messages": [*ASKED, SAID]}}), [{"said": WHOLE}]),
    "an Anthropic answer alone": (lines({"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Oslo."}], "usage": {"input_tokens": 1, "output_tokens": 2}}), [{"asked": [], "said": "Oslo."}]),
    "counts with a note": (lines({"prompt_tokens": 7, "completion_tokens": 3, "labels": {"team": "a"}}), [{"counts": (7, 3, None)}]),
    "a document with a byte order mark": ("\ufeff" + json.dumps({"data": [{"request": BODY, "response": CHAT}]}, indent=1), [{"said": WHOLE}]),
}  # fmt: skip

NAMED: dict[str, tuple[str, int, str]] = {
    "a body that was cut": (lines({**CLOUDFLARE, "request_head": json.dumps(BODY)[:60], "response_head": json.dumps(CHAT)}), 1, "body that the log cut off (kept for its counts)"),
    "a call that SGLang gave up": (lines({"event": "request.finished", "rid": "r", "obj": {"text": "X"}, "out": {"text": "", "meta_info": {"finish_reason": {"type": "abort", "status_code": 400}}}}), 0, "failed request"),
    "an embedding on Bedrock": (lines({**BEDROCK, "input": {"inputBodyJson": {"inputText": "x"}}, "output": {"outputBodyJson": {"embedding": [0.1]}}}), 0, "not a generation request"),
    "bodies in a bucket": (lines({**BEDROCK, "input": {"inputBodyS3Path": "s3://b/k", "inputTokenCount": 12}, "output": {"outputBodyS3Path": "s3://b/k", "outputTokenCount": 9}}), 1, "text kept in another file (kept for its counts)"),
    "Portkey's cache": (lines({"request": BODY, "response": CHAT, "ai_model": "m", "cache_status": "SEMANTIC HIT"}), 0, "answered from the gateway's cache"),
    "Kong's cache": (lines({"ai": {"proxy": {"usage": {}, "payload": {"request": json.dumps(BODY)}, "cache": {"cache_status": "Hit"}}}}), 0, "answered from the gateway's cache"),
    "Higress without a model": (lines({"response_code": "200", "ai_log": "-"}), 0, "not a generation request"),
    "a provider's own tool": (lines({"request": {**BODY, "tools": [SEARCH, FUNCTION]}, "response": CHAT}), 1, "tool that is no function (kept without it)"),
    "an answer under an unknown name": (lines({"prompt": "Capital of Norway?", "llm_reply_text": "Oslo is the capital of Norway."}), 1, "text under a name that is not known (kept without it)"),
    "any other text": ("2026-09-01 10:00:00 INFO starting\nTraceback\n", 0, "neither JSON nor a log line that is known"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_public_shape_gives_all_that_it_holds(name: str, tmp_path: Path) -> None:
    text, wanted = CASES[name]
    records, reasons = read(text, tmp_path)
    assert len(records) == len(wanted), reasons
    for record, want in zip(records, wanted, strict=True):
        found = seen(record)
        assert {key: found[key] for key in want} == want
    assert set(reasons) <= {"session entry that is no message"}


@pytest.mark.parametrize("name", NAMED)
def test_what_a_shape_cannot_give_has_a_name(name: str, tmp_path: Path) -> None:
    text, number, reason = NAMED[name]
    records, reasons = read(text, tmp_path)
    assert len(records) == number
    assert set(reasons) == {reason}


@pytest.mark.parametrize(
    "written",
    [
        "Tue Sep 01 2026 10:00:00 GMT+0000 (Coordinated Universal Time)",
        "Tue, 01 Sep 2026 10:00:00 GMT",
        "01/Sep/2026:10:00:00 +0000",
        "9/1/2026, 10:00:00 AM",
        "2026/09/01 10:00:00",
        "2026-09-01 10:00:00 UTC",
        "2026-09-01 10:00:00.000 +0000 UTC",
        1788256800000,
        "1788256800.0",
    ],
)
def test_moments_are_read_as_programs_write_them(written: Any, tmp_path: Path) -> None:
    (record,), reasons = read(lines({"request": BODY, "response": CHAT, "timestamp": written}), tmp_path)
    assert not reasons
    assert record.timing is not None
    assert record.timing.start_unix_s == 1788256800.0


def claude(kind: str, content: Any, name: str, above: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": kind, "content": content, **({"id": f"m-{name}", "model": "c"} if kind == "assistant" else {})}
    return {"type": kind, "sessionId": "S", "uuid": name, "parentUuid": above, "timestamp": ISO, "message": message, **more}  # fmt: skip


def test_what_was_taken_back_in_a_session_is_no_part_of_what_follows(tmp_path: Path) -> None:
    use = [{"type": "tool_use", "id": f"t{at}", "name": "Read", "input": {}} for at in range(2)]
    text = lines(
        claude("user", "One?", "u1", None),
        claude("assistant", use, "a1", "u1"),
        claude("user", [{"type": "tool_result", "tool_use_id": "t0", "content": "x"}], "u2", "a1"),
        claude("user", [{"type": "tool_result", "tool_use_id": "t1", "content": "y"}], "u3", "a1"),
        claude("assistant", "1", "a2", "u3"),
        claude("user", "Wrong?", "u4", "a2"),
        claude("assistant", "no", "a3", "u4"),
        claude("user", "Two?", "u5", "a2"),
        claude("assistant", "2", "a4", "u5"),
    )
    records, _ = read(text, tmp_path)
    assert [one.completion for one in records][1:] == ["1", "no", "2"]
    asked = seen(records[3])
    assert asked["roles"] == "user assistant tool tool assistant user"
    assert asked["asked"][-1] == "Two?"
    assert "Wrong?" not in asked["asked"]


def test_a_session_that_was_summed_up_goes_on_with_its_rules(tmp_path: Path) -> None:
    def entry(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return {"timestamp": ISO, "type": kind, "payload": payload}

    def message(role: str, said: str) -> dict[str, Any]:
        part = {"type": "output_text" if role == "assistant" else "input_text", "text": said}
        return {"type": "message", "role": role, "content": [part]}

    text = lines(
        entry("session_meta", {"id": "C", "instructions": "Rules."}),
        entry("response_item", message("user", "One?")),
        entry("response_item", message("assistant", "1")),
        entry("compacted", {"message": "In short: 1."}),
        entry("response_item", message("user", "Two?")),
        entry("response_item", message("assistant", "2")),
        entry("compacted", {"message": "", "replacement_history": [message("user", "Left.")]}),
        entry("response_item", message("user", "Three?")),
        entry("response_item", message("assistant", "3")),
    )
    records, _ = read(text, tmp_path)
    assert [seen(one)["asked"] for one in records] == [
        ["Rules.", "One?"],
        ["Rules.", "In short: 1.", "Two?"],
        ["Rules.", "Left.", "Three?"],
    ]
