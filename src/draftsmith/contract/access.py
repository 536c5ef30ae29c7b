"""The native access log: one JSON object a line, written by `replay` and by the capture middleware."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen


class Usage(Frozen):
    """Token counts as the engine reported them; None where it did not."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Timing(Frozen):
    """Wall-clock facts of one request, in seconds. `start_unix_s` is since the epoch."""

    start_unix_s: float
    ttft_s: float | None = None
    latency_s: float | None = None


class SpecStats(Frozen):
    """Per-request speculation counts from the engine (AL = 1 + accepted / drafts)."""

    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


class ToolCall(Frozen):
    """One tool call of an answer. `arguments` is its JSON as text, as far as the log keeps it."""

    name: str
    arguments: str = ""
    id: str | None = None


class Answer(Frozen):
    """The parts of an answer, where a log keeps them apart. `AccessRecord.completion` holds all of them joined."""

    text: str | None = None
    reasoning: str | None = None
    calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None


class AccessRecord(Frozen):
    """One served request. `id` is unique within a log; `conversation` groups the turns of one dialogue."""

    schema_: Literal["draftsmith_access_v1"] = Field("draftsmith_access_v1", alias="schema")
    id: str
    conversation: str | None = None
    model: str | None = None
    route: str | None = Field(None, description="tenant, path or deployment the request came through")
    messages: list[dict[str, Any]] | None = None
    completion: str | None = Field(None, description="all that was generated, as text")
    answer: Answer | None = Field(None, description="the same by its parts, where the log has them")
    params: dict[str, Any] = Field(default_factory=dict, description="sampling parameters as sent")
    prompt_token_ids: list[int] | None = None
    output_token_ids: list[int] | None = None
    usage: Usage = Usage()
    timing: Timing | None = None
    finish_reason: str | None = None
    adapter: str | None = Field(None, description="LoRA adapter that answered")
    media: dict[str, int] | None = Field(
        None,
        description="kind (image, audio, video, file) -> parts of the prompt that are no text: flags, without their content",
    )
    spec: SpecStats | None = None
    error: str | None = Field(None, description="kind of failure; no text of the prompt or the answer")

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
