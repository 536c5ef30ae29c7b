"""Sampling parameters at the border: every spelling becomes the engine's, every value has its type, or is dropped by name.

What passes is what vLLM's and SGLang's OpenAI schemas accept, so that a logged request can be posted again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson

Check = Callable[[Any], Any]
BUILT_IN = "tool that is no function (kept without it)"
_ABSENT = ("", "null", "none", "nan", "undefined")


class _WrongError(ValueError):
    """A value that the engine would refuse."""


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float | int:
        if isinstance(value, str):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _WrongError
        if not low <= value <= high:
            raise _WrongError
        return value

    return check


def _whole(low: int, high: int = 1 << 31) -> Check:
    inside = _number(low, high)

    def check(value: Any) -> int:
        number = inside(value)
        if number != int(number):
            raise _WrongError
        return int(number)

    return check


def _switch(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _WrongError
    return value


def _object(value: Any) -> dict[str, Any]:
    value = _parsed(value)
    if not isinstance(value, dict):
        raise _WrongError
    return value


def _texts(value: Any) -> str | list[str]:
    if isinstance(value, str) and value[:1] != "[":
        return value
    value = _parsed(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise _WrongError


def _ids(value: Any) -> list[int]:
    value = _parsed(value)
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return value
    raise _WrongError


def _word(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 40:
        raise _WrongError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongError
    return value


def _schema(value: Any) -> Any:
    if isinstance(value, str | dict):
        return value
    raise _WrongError


def _choice(value: Any) -> Any:
    """tool_choice: a word, or one function by name."""
    if isinstance(value, str):
        words = {"any": "required", "auto": "auto", "none": "none", "required": "required"}
        if value.lower() in words:
            return words[value.lower()]
        value = _parsed(value)
    if not isinstance(value, dict):
        raise _WrongError
    function = value.get("function")
    name = function.get("name") if isinstance(function, dict) else value.get("name")
    if isinstance(name, str) and name:
        return {"type": "function", "function": {"name": name}}
    return _choice(value.get("type"))


def _format(value: Any) -> dict[str, Any]:
    value = _object(value)
    kind = value.get("type")
    if kind not in ("text", "json_object", "json_schema", "structural_tag"):
        raise _WrongError
    if kind == "json_schema" and not isinstance(value.get("json_schema"), dict):
        if not isinstance(value.get("schema"), dict):
            raise _WrongError
        # The Responses API writes the same one level higher.
        inner = {key: value[key] for key in ("name", "schema", "strict", "description") if value.get(key) is not None}
        return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}
    return dict(value)


def _logprobs(value: Any) -> bool | int:
    return value if isinstance(value, bool) else int(_whole(0, 100)(value))


def _tools(value: Any) -> list[dict[str, Any]]:
    """Tools as functions. Raises _WrongError if none of them is one."""
    tools, _ = _told_apart(value)
    if not tools:
        raise _WrongError
    return tools


def _told_apart(value: Any) -> tuple[list[dict[str, Any]], int]:
    """The tools that are functions, and how many are none: searches and interpreters that a provider runs itself."""
    value = _parsed(value)
    tools: list[dict[str, Any]] = []
    others = 0
    for item in value if isinstance(value, list) else ():
        try:
            tools += _functions(item)
        except _WrongError:
            others += 1
    return tools, others


_SCHEMAS = ("input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema")


def _functions(item: Any) -> list[dict[str, Any]]:
    item = _parsed(item)
    if not isinstance(item, dict):
        raise _WrongError
    for key in ("functionDeclarations", "function_declarations"):  # Gemini
        if isinstance(item.get(key), list):
            return [function for entry in item[key] for function in _functions(entry)]
    inner = item.get("function", item.get("toolSpec", item))
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise _WrongError
    if isinstance(item.get("function"), dict):
        return [item]
    function = {key: inner[key] for key in ("name", "description", "strict") if inner.get(key) is not None}
    schema = inner.get(
        "parameters",
        next((inner[key] for key in _SCHEMAS if key in inner), None),
    )
    schema = _parsed(schema) if isinstance(schema, str) and schema else schema
    if schema is None and item.get("type") not in (None, "function", "custom") and "description" not in inner:
        raise _WrongError  # Anthropic's own tools have a type and a name
    if isinstance(schema, dict) and isinstance(schema.get("json"), dict):
        schema = schema["json"]
    return [{"type": "function", "function": function | ({"parameters": schema} if isinstance(schema, dict) else {})}]


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise _WrongError from None


CHECKS: dict[str, Check] = {
    "temperature": _number(0, 100),
    "top_p": _number(1e-9, 1),
    "top_k": _whole(-1),
    "min_p": _number(0, 1),
    "max_tokens": _whole(1),
    "max_completion_tokens": _whole(1),
    "min_tokens": _whole(0),
    "n": _whole(1, 16384),
    "best_of": _whole(1, 16384),
    "stop": _texts,
    "stop_token_ids": _ids,
    "seed": _whole(-(1 << 63), (1 << 63) - 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "repetition_penalty": _number(1e-9, 100),
    "length_penalty": _number(-100, 100),
    "logit_bias": _object,
    "logprobs": _logprobs,
    "top_logprobs": _whole(0, 100),
    "prompt_logprobs": _whole(0, 100),
    "response_format": _format,
    "tools": _tools,
    "tool_choice": _choice,
    "parallel_tool_calls": _switch,
    "stream": _switch,
    "guided_json": _schema,
    "guided_regex": _text,
    "guided_choice": _texts,
    "guided_grammar": _text,
    "structured_outputs": _object,
    "ignore_eos": _switch,
    "skip_special_tokens": _switch,
    "include_reasoning": _switch,
    "bad_words": _texts,
    "allowed_token_ids": _ids,
    "reasoning_effort": _word,
    "chat_template_kwargs": _object,
    "prediction": _object,
}

OTHER_NAMES = {
    "max_output_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_tokens_to_sample": "max_tokens",
    "maxTokens": "max_tokens",
    "maxTokenCount": "max_tokens",
    "max_gen_len": "max_tokens",
    "num_predict": "max_tokens",
    "maxCompletionTokens": "max_completion_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "minP": "min_p",
    "repeat_penalty": "repetition_penalty",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "stop_sequences": "stop",
    "stopSequences": "stop",
    "toolChoice": "tool_choice",
    "candidateCount": "n",
    "regex": "guided_regex",
    "ebnf": "guided_grammar",
    "json_schema": "guided_json",
}
"""How other APIs spell these parameters."""

PARAMETERS = frozenset(CHECKS)
GROUPS = ("parameters", "options", "extra_body", "textGenerationConfig", "generationConfig", "generation_config", "inferenceConfig", "sampling_params", "config",
          "model_parameters", "modelParameters")  # fmt: skip
"""Keys under which other APIs group the parameters of a request."""

_FORMS = ("text", "reasoning", "functions", "toolConfig", "tool_config", "function_call")


def asked(body: dict[str, Any]) -> dict[str, Any]:
    """The sampling parameters among the keys of a request body, under the engine's names; nulls left out."""
    params: dict[str, Any] = {}
    for group in (*(body.get(key) for key in GROUPS), body):
        if isinstance(group, dict):
            params |= {OTHER_NAMES[key]: group[key] for key in OTHER_NAMES.keys() & group.keys()}
            params |= {key: group[key] for key in PARAMETERS & group.keys() if group[key] is not None}
    if _FORMS and any(key in body for key in _FORMS):
        _forms(body, params)
    return {key: value for key, value in params.items() if value is not None}


def _forms(body: dict[str, Any], params: dict[str, Any]) -> None:
    """Parameters that other APIs keep in objects of their own."""
    form, thought, functions = body.get("text"), body.get("reasoning"), body.get("functions")
    if isinstance(form, dict) and isinstance(form.get("format"), dict):
        params.setdefault("response_format", form["format"])
    if isinstance(thought, dict) and isinstance(thought.get("effort"), str):
        params.setdefault("reasoning_effort", thought["effort"])
    if isinstance(functions, list) and functions:
        params.setdefault("tools", functions)
        if body.get("function_call") is not None:
            params.setdefault("tool_choice", body["function_call"])
    config = body.get("toolConfig", body.get("tool_config"))
    if isinstance(config, dict) and isinstance(config.get("tools"), list):
        params.setdefault("tools", config["tools"])


def checked(params: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The parameters with their types; a value that an engine would refuse is left out and named in `notes`."""
    kept: dict[str, Any] = {}
    for name, value in params.items():
        check = CHECKS.get(name)
        if check is None:
            kept[name] = value
        elif value not in (None, []) and not (
            isinstance(value, str) and value.strip().lower() in _ABSENT and name != "stop"
        ):
            try:
                kept[name] = check(value)
            except (ValueError, TypeError, OverflowError, RecursionError):
                notes.append(f"parameter {name} that no engine accepts (kept without it)")
    if "tools" in kept and _told_apart(params["tools"])[1]:
        notes.append(BUILT_IN)
    if "tool_choice" in kept and "tools" not in kept:
        del kept["tool_choice"]  # engines refuse a choice among nothing
        if "tools" not in params:
            notes.append("parameter tool_choice that no engine accepts (kept without it)")
    return kept
