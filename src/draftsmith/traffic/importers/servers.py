"""What servers write themselves: TGI answers and streamed chunks, vLLM text logs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers.base import (
    Fields,
    Importer,
    SkipError,
    count,
    mapping,
    messages,
    parameters,
    text,
    usage,
)


def _chunks(row: Any) -> Iterator[Fields]:
    """A stream of chat chunks, given as one list: their deltas joined, usage from the trailing chunk."""
    pieces: list[str] = []
    counted: dict[str, Any] = {}
    finish = None
    chunks = [chunk for chunk in row["chunks"] if isinstance(chunk, dict)]
    for chunk in chunks:
        counted = chunk["usage"] if isinstance(chunk.get("usage"), dict) else counted
        choices = chunk.get("choices")
        choice = mapping(choices[0]) if isinstance(choices, list) and choices else {}
        pieces.append(text(mapping(choice.get("delta")).get("content")) or text(choice.get("text")) or "")
        finish = choice.get("finish_reason") or finish
    first = chunks[0] if chunks else {}
    name = first.get("id")
    yield {
        "id": name if isinstance(name, str) and name else None,
        "model": first.get("model") if isinstance(first.get("model"), str) else None,
        "completion": "".join(pieces) or None,
        "usage": usage(counted),
        "finish_reason": finish if isinstance(finish, str) else None,
    }


def _generate(row: Any) -> Iterator[Fields]:
    """TGI's own `/generate`: `{inputs, parameters, generated_text, details}`."""
    details = mapping(row.get("details"))
    tokens, prefill = details.get("tokens"), details.get("prefill")
    ids = [token.get("id") for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else None
    asked = mapping(row.get("parameters"))
    if "max_new_tokens" in asked:
        asked = {**asked, "max_tokens": asked["max_new_tokens"]}
    yield {
        "messages": messages(row.get("inputs")),
        "completion": text(row.get("generated_text")),
        "params": parameters(asked),
        "output_token_ids": ids if ids and all(type(one) is int for one in ids) else None,
        "usage": {
            "prompt_tokens": len(prefill) if isinstance(prefill, list) and prefill else None,
            "completion_tokens": count(details.get("generated_tokens")),
        },
        "finish_reason": details.get("finish_reason") if isinstance(details.get("finish_reason"), str) else None,
    }


_RECEIVED = re.compile(r"Received request (?P<id>[^\s:]+): ?(?P<rest>.*)", re.DOTALL)
_PROMPT = re.compile(r"prompt: (?P<prompt>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|None), (?:params|sampling)", re.DOTALL)
_PARAMS = re.compile(r"params: (?:SamplingParams|BeamSearchParams)\((?P<params>.*?)\)(?:, |$)", re.DOTALL)
_PARAM = re.compile(r"(\w+)=(-?\d+\.?\d*(?:e-?\d+)?|\[[^\]]*\]|'[^']*'|\w+)")
_IDS = re.compile(r"prompt_token_ids: \[(?P<ids>[\d, ]*)\]")
_NEUTRAL: dict[str, Any] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_p": 0.0,
    "min_tokens": 0,
}
_NEUTRAL |= {"n": 1, "top_p": 1.0, "top_k": -1, "ignore_eos": False, "stop": []}


def _vllm_log(line: Any) -> Iterator[Fields]:
    """Only "Received request" lines hold a request; the log never holds the answer, and no year in its dates."""
    match = _RECEIVED.search(line)
    if not match:
        raise SkipError("log line without a request")
    rest = match["rest"]
    ids = _IDS.search(rest)
    found = _PARAMS.search(rest)
    yield {
        "id": match["id"],
        "messages": messages(_prompt_text(rest)),
        "params": _sampling(found["params"]) if found else {},
        "prompt_token_ids": [int(one) for one in ids["ids"].split(",") if one.strip()] if ids else None,
    }


def _prompt_text(rest: str) -> str | None:
    match = _PROMPT.search(rest)
    if not match or match["prompt"] == "None":
        return None
    try:
        said = ast.literal_eval(match["prompt"])
    except (ValueError, SyntaxError):
        return None
    # Half of a surrogate pair can be written in a log, but is no text.
    return said.encode("utf-8", "replace").decode() if isinstance(said, str) else None


def _sampling(written: str) -> dict[str, Any]:
    """Parameters as logged, without those at the engine's neutral value: the client did not need to send them."""
    read: dict[str, Any] = {}
    for key, value in _PARAM.findall(written):
        try:
            read[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue
    return {key: value for key, value in parameters(read).items() if _NEUTRAL.get(key, ...) != value}


TGI_CHUNKS = Importer(
    "tgi-stream",
    lambda row: isinstance(row.get("chunks"), list),
    _chunks,
    lacks=("prompts", "parameters", "arrivals", "latency"),
)
TGI = Importer("tgi", lambda row: "generated_text" in row, _generate, lacks=("arrivals", "latency"))
VLLM_LOG = Importer(
    "vllm-log",
    lambda line: bool(re.search(r"\b(?:Received request|Avg prompt throughput|EngineCore)\b|\[\w+\.py:\d+\]", line)),
    _vllm_log,
    kind="text",
    lacks=("answers", "output lengths", "arrivals", "latency"),
)
