"""Token counts in every spelling: OpenAI, Responses, Anthropic, Gemini, Bedrock, Ollama, Langfuse, SGLang."""

from __future__ import annotations

from typing import Any

from draftsmith.traffic.importers.base import count

_PROMPT = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "promptTokenCount", "inputTokenCount", "input_token",
           "prompt_eval_count", "prompt_token_count", "input_token_count", "n_prompt_tokens", "inputTextTokenCount")  # fmt: skip
_ANSWER = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens", "outputTokenCount", "output_token",
           "eval_count", "generated_tokens", "completion_token_count", "generation_token_count", "generated_token_count",
           "output_token_count", "n_completion_tokens", "tokenCount")  # fmt: skip
_CACHED = ("cached_tokens", "cache_read_input_tokens", "cacheReadInputTokens", "cachedContentTokenCount", "cachedInputTokens",
           "prompt_cache_hit_tokens", "cached_input_tokens", "input_cached_tokens", "input_cache_read", "cache_read")  # fmt: skip
# Anthropic and Bedrock count what came from the cache, and what went into it, beside the rest of the prompt.
_BESIDE = {
    "input_tokens": ("cache_read_input_tokens", "cache_creation_input_tokens"),
    "inputTokens": ("cacheReadInputTokens", "cacheWriteInputTokens"),
}
_DETAILS = (
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "promptTokensDetails",
    "inputTokenDetails",
)
NONE: dict[str, int | None] = {"prompt_tokens": None, "completion_tokens": None, "cached_tokens": None}


def usage_of(value: Any) -> dict[str, int | None]:
    """Counts of the whole prompt, of its cached part, and of everything that was generated. Raises SkipError on nonsense."""
    if not isinstance(value, dict):
        return dict(NONE)
    if "input" in value or "output" in value:
        return _langfuse(value)
    key = next((key for key in _PROMPT if _given(value.get(key))), None)
    prompt = count(value[key]) if key else None
    if key in _BESIDE and prompt is not None:
        prompt += sum(count(value.get(other)) or 0 for other in _BESIDE[key])
    answer = count(next((value[key] for key in _ANSWER if _given(value.get(key))), None))
    if answer is None and _given(value.get("candidatesTokenCount")):
        # Gemini counts thoughts beside the answer.
        answer = (count(value["candidatesTokenCount"]) or 0) + (count(value.get("thoughtsTokenCount")) or 0)
    cached = next((value[key] for key in _CACHED if _given(value.get(key))), None)
    for key in _DETAILS:
        details = value.get(key)
        if cached is None and isinstance(details, dict):
            cached = next(
                (
                    details[name]
                    for name in ("cached_tokens", "cache_read", "cachedTokens", "cacheRead")
                    if _given(details.get(name))
                ),
                None,
            )
    return {"prompt_tokens": prompt, "completion_tokens": answer, "cached_tokens": count(cached)}


def _langfuse(value: dict[str, Any]) -> dict[str, int | None]:
    """Langfuse takes the cached part out of `input`: its parts are added up, or taken from the total."""
    parts: dict[str, int] = {}
    for side in ("input", "output"):
        counts = [count(number) for key, number in value.items() if key == side or key.startswith(f"{side}_")]
        known = [number for number in counts if number is not None]
        if known:
            parts[side] = sum(known)
    total = count(value.get("total"))
    if total is not None and "input" in parts and "output" in parts:
        # Some SDKs write parts that overlap; the total tells. Output parts may overlap as well.
        plain = count(value.get("output"))
        for answer in (parts["output"], plain):
            for prompt in (parts["input"], count(value.get("input"))):
                if answer is not None and prompt is not None and prompt + answer == total:
                    return _counts(prompt, answer, value)
    return _counts(parts.get("input"), parts.get("output"), value)


def _counts(prompt: int | None, answer: int | None, value: dict[str, Any]) -> dict[str, int | None]:
    cached = next((value[key] for key in _CACHED if _given(value.get(key))), None)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "cached_tokens": count(cached)}


def _given(value: Any) -> bool:
    return value is not None and not isinstance(value, bool | dict | list) and value != ""


def or_else(first: dict[str, int | None], second: dict[str, int | None]) -> dict[str, int | None]:
    """The counts of `first`, and of `second` where it has none."""
    return {key: first.get(key) if first.get(key) is not None else second.get(key) for key in NONE}
