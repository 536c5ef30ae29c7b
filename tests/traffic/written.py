"""The same conversations, written as every format writes them. `FORMATS[name].write(talks)` is the text of one file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TOOL = {"type": "function", "function": {"name": "find_boat", "parameters": {"type": "object"}}}
START = 1_788_256_800
ISO = "2026-09-01T10:00:00.000Z"
ISO_END = "2026-09-01T10:00:02.000Z"


@dataclass(frozen=True)
class Talk:
    """One request: what was said before, what was asked, what was answered."""

    user: str
    answer: str
    system: str = ""
    earlier: tuple[tuple[str, str], ...] = ()
    reasoning: str = ""
    call: tuple[str, str] | None = None  # name, one argument's value
    number: int = 0

    @property
    def id(self) -> str:
        return f"q{self.number}"

    def messages(self) -> list[dict[str, Any]]:
        said = [{"role": "system", "content": self.system}] if self.system else []
        for user, answer in self.earlier:
            said += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        return [*said, {"role": "user", "content": self.user}]

    def arguments(self) -> dict[str, str]:
        return {"to": self.call[1]} if self.call else {}

    def chat_message(self) -> dict[str, Any]:
        made: dict[str, Any] = {"role": "assistant", "content": self.answer}
        if self.reasoning:
            made["reasoning_content"] = self.reasoning
        if self.call:
            function = {"name": self.call[0], "arguments": json.dumps(self.arguments())}
            made["tool_calls"] = [{"id": "c1", "type": "function", "function": function}]
        return made

    def completion(self) -> str:
        """What a reader should make of the answer."""
        calls = (
            [
                json.dumps(
                    {"name": self.call[0], "arguments": self.arguments()}, ensure_ascii=False, separators=(",", ":")
                )
            ]
            if self.call
            else []
        )
        return "\n".join(part for part in [self.reasoning, self.answer, *calls] if part)

    def request(self) -> dict[str, Any]:
        return {"model": "m", "messages": self.messages(), "temperature": 0.5, "tools": [TOOL]}

    def chat(self) -> dict[str, Any]:
        choice = {"index": 0, "message": self.chat_message(), "finish_reason": "stop"}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": START,
            "model": "m",
            "choices": [choice],
            "usage": USAGE,
        }

    def anthropic_request(self) -> dict[str, Any]:
        made = {
            "model": "m",
            "max_tokens": 64,
            "temperature": 0.5,
            "messages": [one for one in self.messages() if one["role"] != "system"],
        }
        made["tools"] = [{"name": "find_boat", "input_schema": {"type": "object"}}]
        return {**made, "system": self.system} if self.system else made

    def anthropic(self) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = (
            [{"type": "thinking", "thinking": self.reasoning, "signature": "x"}] if self.reasoning else []
        )
        blocks.append({"type": "text", "text": self.answer})
        if self.call:
            blocks.append({"type": "tool_use", "id": "c1", "name": self.call[0], "input": self.arguments()})
        usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": blocks,
            "stop_reason": "end_turn",
            "usage": usage,
        }

    def responses_request(self) -> dict[str, Any]:
        made = {"model": "m", "temperature": 0.5, "input": [one for one in self.messages() if one["role"] != "system"]}
        made["tools"] = [{"type": "function", "name": "find_boat", "parameters": {"type": "object"}}]
        return {**made, "instructions": self.system} if self.system else made

    def responses(self) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        if self.reasoning:
            items.append(
                {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": self.reasoning}]}
            )
        items.append(
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": self.answer}]}
        )
        if self.call:
            items.append(
                {
                    "type": "function_call",
                    "call_id": "c1",
                    "name": self.call[0],
                    "arguments": json.dumps(self.arguments()),
                }
            )
        usage = {"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}
        return {
            "id": self.id,
            "object": "response",
            "created_at": START,
            "model": "m",
            "status": "completed",
            "output": items,
            "usage": usage,
        }

    def gemini_request(self) -> dict[str, Any]:
        roles = {"user": "user", "assistant": "model"}
        contents = [
            {"role": roles[one["role"]], "parts": [{"text": one["content"]}]}
            for one in self.messages()
            if one["role"] != "system"
        ]
        made: dict[str, Any] = {
            "contents": contents,
            "generationConfig": {"temperature": 0.5},
            "tools": [{"functionDeclarations": [{"name": "find_boat"}]}],
        }
        return {**made, "systemInstruction": {"parts": [{"text": self.system}]}} if self.system else made

    def gemini(self) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": self.reasoning, "thought": True}] if self.reasoning else []
        parts.append({"text": self.answer})
        if self.call:
            parts.append({"functionCall": {"name": self.call[0], "args": self.arguments()}})
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 3}
        return {
            "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
            "usageMetadata": usage,
            "modelVersion": "m",
        }

    def converse_request(self) -> dict[str, Any]:
        said = [
            {"role": one["role"], "content": [{"text": one["content"]}]}
            for one in self.messages()
            if one["role"] != "system"
        ]
        tools = {"tools": [{"toolSpec": {"name": "find_boat", "inputSchema": {"json": {"type": "object"}}}}]}
        made: dict[str, Any] = {"messages": said, "inferenceConfig": {"temperature": 0.5}, "toolConfig": tools}
        return {**made, "system": [{"text": self.system}]} if self.system else made

    def converse(self) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = (
            [{"reasoningContent": {"reasoningText": {"text": self.reasoning}}}] if self.reasoning else []
        )
        blocks.append({"text": self.answer})
        if self.call:
            blocks.append({"toolUse": {"toolUseId": "c1", "name": self.call[0], "input": self.arguments()}})
        return {
            "output": {"message": {"role": "assistant", "content": blocks}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 7, "outputTokens": 3},
        }

    def chunks(self) -> list[dict[str, Any]]:
        base = {"id": self.id, "object": "chat.completion.chunk", "created": START, "model": "m"}
        half = len(self.answer) // 2
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if self.reasoning:
            deltas += [{"reasoning": self.reasoning[:1]}, {"reasoning": self.reasoning[1:]}]
        deltas += [{"content": self.answer[:half]}, {"content": self.answer[half:]}]
        if self.call:
            first = {"index": 0, "id": "c1", "function": {"name": self.call[0], "arguments": ""}}
            deltas += [
                {"tool_calls": [first]},
                {"tool_calls": [{"index": 0, "function": {"arguments": json.dumps(self.arguments())}}]},
            ]
        made = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        made.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        return [*made, {**base, "choices": [], "usage": USAGE}]

    def sse(self) -> str:
        return "".join(f"data: {json.dumps(one)}\n\n" for one in self.chunks()) + "data: [DONE]\n\n"

    def parts(self) -> tuple[str, str]:
        """Prompt and answer as GenAI conventions write them, as JSON text."""
        asked = [
            {"role": one["role"], "parts": [{"type": "text", "content": one["content"]}]} for one in self.messages()
        ]
        said: list[dict[str, Any]] = [{"type": "reasoning", "content": self.reasoning}] if self.reasoning else []
        said.append({"type": "text", "content": self.answer})
        if self.call:
            said.append({"type": "tool_call", "id": "c1", "name": self.call[0], "arguments": self.arguments()})
        return json.dumps(asked), json.dumps([{"role": "assistant", "parts": said, "finish_reason": "stop"}])


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DEFAULT = (
    Talk("When does the last boat to Tiree leave?", "At 21:40.", "You keep the ferry timetable.", number=1),
    Talk("And the first one?", "At six.", number=2),
)
Write = Callable[[Sequence[Talk]], str]
ALL = frozenset({"system", "earlier", "reasoning", "call"})


@dataclass(frozen=True)
class Format:
    """How a format is written, and which parts of a talk it can hold. `prompt` and `answer`: whether it holds that text at all."""

    write: Write
    holds: frozenset[str] = ALL
    prompt: bool = True
    answer: bool = True
    single: bool = False  # the prompt is one text


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def each(make: Callable[[Talk], Any]) -> Write:
    return lambda talks: lines([make(talk) for talk in talks])


def pair(talk: Talk) -> dict[str, Any]:
    return {"id": talk.id, "request": talk.request(), "response": talk.chat()}


def any_api(talk: Talk) -> dict[str, Any]:
    """A pair of another API with every talk."""
    kinds = [
        (talk.request(), talk.chat()),
        (talk.anthropic_request(), talk.anthropic()),
        (talk.responses_request(), talk.responses()),
        (talk.gemini_request(), talk.gemini()),
        (talk.request(), talk.sse()),
        (talk.request(), talk.chunks()),
    ]
    request, response = kinds[talk.number % len(kinds)]
    return {"id": talk.id, "created_at": ISO, "latency_ms": 2000, "request": request, "response": response}


def otlp(attributes: dict[str, Any], number: int) -> dict[str, Any]:
    listed = [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in attributes.items()
    ]
    return {
        "spanId": f"s{number}",
        "traceId": f"t{number}",
        "name": "chat",
        "startTimeUnixNano": f"{START}000000000",
        "endTimeUnixNano": f"{START + 2}000000000",
        "attributes": listed,
    }


def genai(talks: Sequence[Talk]) -> str:
    spans = []
    for talk in talks:
        asked, said = talk.parts()
        spans.append(otlp({
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.request.temperature": "0.5",
            "gen_ai.tool.definitions": json.dumps([TOOL]),
            "gen_ai.input.messages": asked, "gen_ai.output.messages": said,
            "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3,
        }, talk.number))  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n"


def openinference(talk: Talk) -> dict[str, Any]:
    at: dict[str, Any] = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m",
        "llm.token_count.prompt": 7,
        "llm.token_count.completion": 3,
    }
    at["llm.invocation_parameters"] = json.dumps({"temperature": 0.5})
    at["llm.tools.0.tool.json_schema"] = json.dumps(TOOL)
    for place, one in enumerate(talk.messages()):
        at |= {f"llm.input_messages.{place}.message.{key}": value for key, value in one.items()}
    at |= {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": talk.answer}
    if talk.call:
        stem = "llm.output_messages.0.message.tool_calls.0.tool_call.function"
        at |= {f"{stem}.name": talk.call[0], f"{stem}.arguments": json.dumps(talk.arguments())}
    return {"name": "m", "context": {"trace_id": f"t{talk.number}", "span_id": f"s{talk.number}"}, "span_kind": "LLM", "start_time": ISO,
            "end_time": ISO_END, "status_code": "OK", "attributes": at}  # fmt: skip


def vllm_log(talks: Sequence[Talk]) -> str:
    text = ""
    for talk in talks:
        head = f"[request_logger.py:53] Request {talk.id} details"
        text += f"(APIServer pid=9) DEBUG 09-01 10:00:00 {head}: prompt: {talk.user!r}, prompt_token_ids: [1, 2, 3], prompt_embeds shape: None.\n"
        text += f"INFO 09-01 10:00:00 [request_logger.py:63] Received request {talk.id}: params: SamplingParams(n=1, temperature=0.5, stop=[], max_tokens=64), lora_request: None.\n"
        text += f"DEBUG 09-01 10:00:02 [request_logger.py:90] Generated response {talk.id} details: output_token_ids: [4, 5]\n"
        text += f"INFO 09-01 10:00:02 [request_logger.py:98] Generated response {talk.id}: output: {talk.answer!r}, finish_reason: stop\n"
    return text


def sglang(talk: Talk) -> tuple[dict[str, Any], dict[str, Any]]:
    obj = {
        "rid": talk.id,
        "text": talk.user,
        "input_ids": [1, 2, 3],
        "sampling_params": {"temperature": 0.5, "max_new_tokens": 64},
    }
    meta = {
        "id": talk.id,
        "finish_reason": {"type": "stop"},
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "e2e_latency": 2.0,
    }
    return obj, {"text": talk.answer, "output_ids": [4, 5], "meta_info": meta}


def sglang_text(talks: Sequence[Talk]) -> str:
    text = ""
    for talk in talks:
        obj, out = sglang(talk)
        written = ", ".join(f"{key}={value!r}" for key, value in obj.items())
        text += f"[2026-09-01 10:00:00] Receive: obj=GenerateReqInput({written}, stream=True)\n"
        text += f"[2026-09-01 10:00:02] Finish: obj=GenerateReqInput({written}), out={out!r}\n"
    return text


def sglang_json(talks: Sequence[Talk]) -> str:
    rows: list[Any] = []
    for talk in talks:
        obj, out = sglang(talk)
        rows.append({"timestamp": "2026-09-01T10:00:00", "event": "request.received", "rid": talk.id, "obj": obj})
        rows.append(
            {
                "timestamp": "2026-09-01T10:00:02",
                "event": "request.finished",
                "rid": talk.id,
                "obj": {"rid": talk.id},
                "out": out,
            }
        )
    return lines(rows)


def tgi_router(talk: Talk) -> dict[str, Any]:
    span = {
        "inputs": json.dumps(talk.user),
        "parameters": "GenerateParameters { temperature: Some(0.5), max_new_tokens: Some(64) }",
        "total_time": "2.0s",
    }
    return {
        "timestamp": ISO_END,
        "level": "INFO",
        "message": "Success",
        "target": "text_generation_router::server",
        "span": span,
    }


def access_log(talk: Talk) -> str:
    body = json.dumps(talk.request()).replace("\\", "\\x5C").replace('"', "\\x22")
    return f'127.0.0.1 - - [01/Sep/2026:10:00:02 +0000] "POST /v1/chat/completions HTTP/1.1" 200 512 rt=2.000 body="{body}"\n'


def claude_code(talks: Sequence[Talk]) -> str:
    rows: list[Any] = [{"type": "summary", "summary": "x", "leafUuid": "l"}]
    for talk in talks:
        about = {"sessionId": f"s{talk.number}", "timestamp": ISO}
        for one in talk.messages():
            if one["role"] == "assistant":
                message = {
                    "id": f"m{len(rows)}",
                    "type": "message",
                    "role": "assistant",
                    "model": "<synthetic>",
                    "content": one["content"],
                }
            rows.append({"type": "user", **about, "message": one}) if one["role"] == "user" else None
        for block in talk.anthropic()["content"]:
            message = {**talk.anthropic(), "content": [block]}
            rows.append({"type": "assistant", **about, "timestamp": ISO_END, "requestId": "r", "message": message})
    return lines(rows)


def codex(talks: Sequence[Talk]) -> str:
    rows: list[Any] = []
    for talk in talks:
        meta = {"id": f"s{talk.number}", **({"instructions": talk.system} if talk.system else {})}
        items = [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": talk.user}]},
            *talk.responses()["output"],
        ]
        rows.append({"timestamp": ISO, "type": "session_meta", "payload": meta})
        rows.append({"timestamp": ISO, "type": "turn_context", "payload": {"model": "m"}})
        rows += [{"timestamp": ISO, "type": "response_item", "payload": item} for item in items]
        counted = {"input_tokens": 7, "cached_input_tokens": 2, "output_tokens": 3, "total_tokens": 10}
        rows.append(
            {
                "timestamp": ISO_END,
                "type": "event_msg",
                "payload": {"type": "token_count", "info": {"last_token_usage": counted}},
            }
        )
    return lines(rows)


def langfuse(talk: Talk) -> dict[str, Any]:
    row = {
        "id": talk.id,
        "type": "GENERATION",
        "startTime": ISO,
        "endTime": ISO_END,
        "model": "m",
        "modelParameters": {"temperature": 0.5},
    }
    asked = {"messages": talk.messages(), "tools": [TOOL]}
    return {"trace": {"id": "t", "sessionId": "s"}, "observations": [{"type": "SPAN", "startTime": ISO}, {**row, "input": asked, "output": talk.chat_message(),
            "usageDetails": {"input": 5, "input_cached_tokens": 2, "output": 3, "total": 10}}]}  # fmt: skip


def litellm(talk: Talk) -> dict[str, Any]:
    return {"request_id": talk.id, "call_type": "acompletion", "status": "success", "cache_hit": "False", "startTime": ISO, "endTime": ISO_END, "model": "m",
            "messages": talk.messages(), "proxy_server_request": {"temperature": 0.5, "tools": [TOOL]}, "response": talk.chat(), **USAGE}  # fmt: skip


def aibrix(talk: Talk) -> dict[str, Any]:
    return {"timestamp": talk.number * 100, "requests": [{"Prompt Length": 7, "Output Length": 3, "prompt": talk.user}]}


def vllm_bench(talks: Sequence[Talk]) -> str:
    n = len(talks)
    columns = {"input_lens": [7] * n, "output_lens": [3] * n, "ttfts": [0.4] * n, "itls": [[0.8, 0.8]] * n, "start_times": [1.0 + t for t in range(n)],
               "generated_texts": [talk.answer for talk in talks], "errors": [""] * n}  # fmt: skip
    return json.dumps({"backend": "openai-chat", "model_id": "m", **columns}) + "\n"


def guidellm(talks: Sequence[Talk]) -> str:
    rows = [{"request_id": talk.id, "prompt": talk.user, "output": talk.answer, "prompt_tokens": 7, "output_tokens": 3, "request_latency": 2.0,
             "request_start_time": float(START)} for talk in talks]  # fmt: skip
    return (
        json.dumps({"metadata": {"version": 1}, "benchmarks": [{"requests": {"successful": rows, "errored": []}}]})
        + "\n"
    )


def inference_perf(talk: Talk) -> dict[str, Any]:
    info = {"input_tokens": 7, "output_tokens": 3, "output_token_times": [1.5, 2.0]}
    return {
        "start_time": 1.0,
        "end_time": 3.0,
        "request": json.dumps(talk.request()),
        "response": json.dumps(talk.chat()),
        "info": info,
        "error": None,
    }


def aiperf(talk: Talk) -> dict[str, Any]:
    metrics = {"request_latency": {"value": 2000, "unit": "ms"}, "input_sequence_length": {"value": 7, "unit": "tokens"},
               "output_sequence_length": {"value": 3, "unit": "tokens"}, "time_to_first_token": {"value": 400, "unit": "ms"}}  # fmt: skip
    return {
        "metadata": {"x_request_id": talk.id, "request_start_ns": START * 10**9, "request_end_ns": (START + 2) * 10**9},
        "metrics": metrics,
        "error": None,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def sharegpt(talk: Talk) -> dict[str, Any]:
    turns = [
        {"from": {"system": "system", "user": "human", "assistant": "gpt"}[one["role"]], "value": one["content"]}
        for one in talk.messages()
    ]
    return {"id": talk.id, "conversations": [*turns, {"from": "gpt", "value": talk.answer}]}


def atif(talk: Talk) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"step_id": 1, "timestamp": ISO, "source": "user", "message": talk.user}]
    if talk.system:
        steps.insert(0, {"step_id": 0, "source": "system", "message": talk.system})
    said = {
        "step_id": 2,
        "timestamp": ISO_END,
        "source": "agent",
        "message": talk.answer,
        "metrics": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    if talk.reasoning:
        said["reasoning_content"] = talk.reasoning
    if talk.call:
        said["tool_calls"] = [{"tool_call_id": "c1", "function_name": talk.call[0], "arguments": talk.arguments()}]
    return {
        "schema_version": "ATIF-v1.4",
        "session_id": talk.id,
        "agent": {"name": "a", "model_name": "m"},
        "steps": [*steps, said],
    }


def datadog(talk: Talk) -> dict[str, Any]:
    at = {"span_kind": "llm", "model_name": "m", "start_ns": START * 10**9, "duration": 2 * 10**9, "input": {"messages": talk.messages()},
          "metadata": {"temperature": 0.5}, "output": {"messages": [talk.chat_message()]}, "metrics": {"input_tokens": 7, "output_tokens": 3}}  # fmt: skip
    return {"type": "span", "id": talk.id, "attributes": at}


def langsmith(talk: Talk) -> dict[str, Any]:
    names = {"system": "SystemMessage", "user": "HumanMessage", "assistant": "AIMessage"}
    asked = [
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", names[one["role"]]],
            "kwargs": {"content": one["content"]},
        }
        for one in talk.messages()
    ]
    said = {
        "text": talk.answer,
        "message": {"lc": 1, "id": ["langchain", "schema", "AIMessage"], "kwargs": {"content": talk.answer}},
    }
    return {"id": talk.id, "run_type": "llm", "name": "ChatOpenAI", "start_time": ISO, "end_time": ISO_END, "inputs": {"messages": [asked]}, "extra":
            {"invocation_params": {"model": "m", "temperature": 0.5, "tools": [TOOL]}}, "outputs": {"generations": [[said]]}, "prompt_tokens": 7, "completion_tokens": 3}  # fmt: skip


def higress(talk: Talk) -> dict[str, Any]:
    log = {"session_id": "s", "api": "m@higress", "input_token": 7, "output_token": 3, "model": "m", "messages": talk.messages(), "answer": talk.answer,
           "reasoning": talk.reasoning, "tool_calls": talk.chat_message().get("tool_calls", []), "llm_service_duration": 2000}  # fmt: skip
    return {"request_id": talk.id, "timestamp": ISO_END, "ai_log": json.dumps(log)}


def native(talk: Talk) -> dict[str, Any]:
    return {"schema": "draftsmith_access_v1", "id": talk.id, "messages": talk.messages(), "completion": talk.completion(), "params": {"temperature": 0.5, "tools": [TOOL]},
            "prompt_token_ids": [1, 2], "output_token_ids": [3], "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "timing": {"start_unix_s": START, "latency_s": 2}}  # fmt: skip


TEXT = frozenset({"system", "earlier"})
NOTHING: frozenset[str] = frozenset()

FORMATS: dict[str, Format] = {
    "native": Format(each(native)),
    "openai-batch-input": Format(each(lambda t: {"custom_id": t.id, "url": "/v1/chat/completions", "body": t.request()}), TEXT, answer=False),
    "openai-batch-output": Format(each(lambda t: {"custom_id": t.id, "response": {"status_code": 200, "body": t.chat()}, "error": None}), prompt=False),
    "tensorzero": Format(each(lambda t: {"id": t.id, "raw_request": json.dumps(t.request()), "raw_response": json.dumps(t.chat()), "input_tokens": 7,
                                         "output_tokens": 3, "timestamp": ISO, "response_time_ms": 2000})),
    "litellm": Format(each(litellm)),
    "envoy-ai-gateway": Format(each(lambda t: {"x-request-id": t.id, "response_code": 200, "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3,
                                               "duration": 2000, "start_time": ISO}), NOTHING, prompt=False, answer=False),
    "langfuse": Format(each(langfuse)),
    "claude-code": Format(claude_code, frozenset({"reasoning", "call"})),
    "codex": Format(codex, frozenset({"system", "reasoning", "call"})),
    "sglang-json": Format(sglang_json, NOTHING, single=True),
    "sglang-log": Format(sglang_text, NOTHING, single=True),
    "tgi-router": Format(each(tgi_router), NOTHING, answer=False, single=True),
    "access-log": Format(lambda talks: "".join(map(access_log, talks)), TEXT, answer=False),
    "vllm-log": Format(vllm_log, NOTHING, single=True),
    "vllm-bench": Format(vllm_bench, NOTHING, prompt=False),
    "aiperf": Format(each(aiperf), NOTHING, prompt=False, answer=False),
    "aiperf-inputs": Format(each(lambda t: {"session_id": t.id, "payloads": [t.request()]}), TEXT, answer=False),
    "guidellm": Format(guidellm, NOTHING, single=True),
    "inference-perf": Format(each(inference_perf)),
    "aibrix-workload": Format(each(aibrix), NOTHING, answer=False, single=True),
    "helicone": Format(each(lambda t: {"request_id": t.id, "request_created_at": ISO, "request_body": t.request(), "response_body": t.chat(),
                                       "response_status": 200, "delay_ms": 2000, "prompt_tokens": 7, "completion_tokens": 3})),
    "portkey": Format(each(lambda t: {**pair(t), "created_at": ISO, "ai_model": "m", "req_units": 7, "res_units": 3, "response_time": 2000, "is_success": True})),
    "kong": Format(each(lambda t: {"started_at": START * 1000, "request": {"id": t.id}, "response": {"status": 200}, "latencies": {"request": 2000},
                                   "ai": {"proxy": {"meta": {"response_model": "m"}, "payload": {"request": json.dumps(t.request()), "response": json.dumps(t.chat())}, "usage": USAGE}}})),
    "cloudflare": Format(each(lambda t: {"id": t.id, "created_at": ISO, "model": "m", "duration": 2000, "status_code": 200, "success": True, "cached": False, "request": t.request(), "response": t.chat(),
                                         "tokens_in": 7, "tokens_out": 3})),
    "openrouter": Format(each(lambda t: {"id": t.id, "created_at": ISO, "model": "m", "tokens_prompt": 6, "tokens_completion": 2, "native_tokens_prompt": 7,
                                         "native_tokens_completion": 3, "generation_time": 2000}), NOTHING, prompt=False, answer=False),
    "bedrock": Format(each(lambda t: {"schemaType": "ModelInvocationLog", "timestamp": ISO, "requestId": t.id, "operation": "Converse", "modelId": "m",
                                      "input": {"inputBodyJson": t.converse_request(), "inputTokenCount": 7},
                                      "output": {"outputBodyJson": {**t.converse(), "metrics": {"latencyMs": 2000}}, "outputTokenCount": 3}})),
    "apim": Format(each(lambda t: {"TimeGenerated": ISO, "CorrelationId": t.id, "ModelName": "m", "PromptTokens": 7, "CompletionTokens": 3, "SequenceNumber": 0,
                                   "RequestMessages": json.dumps(t.messages()), "ResponseMessages": json.dumps([t.chat_message()])})),
    "higress": Format(each(higress)),
    "braintrust": Format(each(lambda t: {"id": t.id, "span_id": t.id, "root_span_id": "r", "span_attributes": {"type": "llm"}, "input": t.messages(),
                                         "output": t.chat()["choices"], "metadata": {"model": "m", "temperature": 0.5, "tools": [TOOL]},
                                         "metrics": {"start": START, "end": START + 2, "prompt_tokens": 7, "completion_tokens": 3}})),
    "weave": Format(each(lambda t: {"id": t.id, "op_name": "openai.chat.completions.create", "started_at": ISO, "ended_at": ISO_END, "inputs": t.request(), "output": t.chat()})),
    "langsmith": Format(each(langsmith), TEXT),
    "datadog": Format(each(datadog)),
    "ollama": Format(each(lambda t: {"model": "m", "created_at": ISO_END, "message": {"role": "assistant", "content": t.answer, "thinking": t.reasoning},
                                     "done": True, "done_reason": "stop", "total_duration": 2 * 10**9, "prompt_eval_count": 7, "eval_count": 3}),
                     frozenset({"reasoning"}), prompt=False),
    "openinference": Format(each(openinference), frozenset({"system", "earlier", "call"})),
    "otel-genai": Format(genai),
    "tgi-stream": Format(lambda talks: lines([chunk for talk in talks for chunk in talk.chunks()]), prompt=False),
    "openai-pair": Format(each(any_api)),
    "openai-stored": Format(each(lambda t: {**t.chat(), "messages": t.messages(), "temperature": 0.5, "tools": [TOOL]})),
    "tgi": Format(each(lambda t: {"inputs": t.user, "parameters": {"temperature": 0.5}, "generated_text": t.answer,
                                  "details": {"generated_tokens": 3, "prefill": [{"id": n} for n in range(7)], "tokens": [{"id": 4}]}}), NOTHING, single=True),
    "atif": Format(each(atif), frozenset({"system", "reasoning", "call"})),
    "arena": Format(each(lambda t: {"question_id": t.id, "model_a": "m", "conversation_a": [*t.messages(), {"role": "assistant", "content": t.answer}]}), frozenset({"system"})),
    "sharegpt": Format(each(sharegpt), frozenset({"system"})),
    "mt-bench": Format(each(lambda t: {"question_id": t.number, "category": "c", "turns": [t.user]}), NOTHING, answer=False, single=True),
    "mt-bench-answers": Format(each(lambda t: {"question_id": t.number, "answer_id": t.id, "model_id": "m", "choices": [{"index": 0, "turns": [t.answer]}], "tstamp": 1.0}),
                               NOTHING, prompt=False),
    "ultrachat": Format(each(lambda t: {"id": t.id, "data": [t.user, t.answer]}), NOTHING, single=True),
    "mooncake-trace": Format(each(lambda t: {"timestamp": 500 * t.number, "input_length": 7, "output_length": 3, "hash_ids": [1]}), NOTHING, prompt=False, answer=False),
    "burstgpt-replay": Format(lambda talks: json.dumps({str(t.number): {"in_len": 7, "out_len": 3, "record_time": 5.0, "total_chunk_time": 1.0} for t in talks}) + "\n",
                              NOTHING, prompt=False, answer=False),
    "plain": Format(each(lambda t: {"id": t.id, "messages": t.messages(), "completion": t.chat_message(), "temperature": 0.5, "tools": [TOOL], "usage": USAGE})),
    "alpaca": Format(each(lambda t: {"instruction": t.user, "input": "", "output": t.answer}), NOTHING, single=True),
    "question-answer": Format(each(lambda t: {"question": t.user, "answer": t.answer}), NOTHING, single=True),
    "wrapped-pair": Format(each(lambda t: {"time": ISO, "duration_ms": 2000, "who": {"exchange": pair(t)}})),
    "precounted": Format(each(lambda t: {"prompt_tokens": 7, "completion_tokens": 3, "content_class": "code", "timestamp": START, "latency_s": 2}), NOTHING, prompt=False, answer=False),
    "azure-trace": Format(lambda talks: table(["TIMESTAMP", "ContextTokens", "GeneratedTokens"], [["2023-11-16 18:15:46.6805900", 7, 3] for _ in talks]),
                          NOTHING, prompt=False, answer=False),
    "vidur-trace": Format(lambda talks: table(["num_prefill_tokens", "num_decode_tokens"], [[7, 3] for _ in talks]), NOTHING, prompt=False, answer=False),
    "burstgpt-trace": Format(lambda talks: table(["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"],
                                                 [[t.number, "m", 7, 3, 10, "API log"] for t in talks]), NOTHING, prompt=False, answer=False),
}  # fmt: skip
