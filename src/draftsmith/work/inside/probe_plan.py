"""What the capture probe is given and what it answers. No torch here, so that any process can write a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from draftsmith.contract.base import Frozen

TARGET = "target"  # name of the check that fails where transformers cannot load the target
RUNNING = 1.3  # memory of a forward, by the weights'
# Parameters with which a greedy answer is still the likeliest one, token by token: the value that changes nothing, or any.
NEUTRAL = {"temperature": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
WITHOUT_EFFECT = frozenset(
    {
        "max_tokens", "max_completion_tokens", "stop", "stop_token_ids", "include_stop_str_in_output", "seed", "n", "top_p",
        "top_k", "min_p", "logprobs", "top_logprobs", "prompt_logprobs", "stream", "stream_options", "tools",
        "parallel_tool_calls", "skip_special_tokens", "return_token_ids", "add_generation_prompt", "chat_template_kwargs",
    }
)  # fmt: skip


def greedy(params: Mapping[str, Any]) -> bool:
    """Whether every answer token must be the likeliest: temperature 0, and nothing that moves or forbids tokens.

    No for parameters that are not known here, and for a request that does not say its temperature: a server has defaults.
    """
    effective = {name: value for name, value in params.items() if value is not None and name not in WITHOUT_EFFECT}
    return "temperature" in effective and all(
        name in NEUTRAL and value == NEUTRAL[name] for name, value in effective.items()
    )


class CapturedRow(Frozen):
    """One captured request. The file holds `hidden_states [T, layers, H]` and `token_ids [T]`.

    With answer tokens included in the capture, T = len(prompt_ids) + len(output_ids) - 1: the last token was never fed
    to the model. Without an answer T = len(prompt_ids).
    """

    file: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...] = ()
    greedy: bool = Field(True, description="the answer was decoded at temperature 0, and nothing else moved it")
    concurrency: int = Field(1, description="requests in flight when this one was captured")
    prompt_logprobs: tuple[dict[int, float] | None, ...] | None = Field(
        None, description="the engine's: entry t maps token ids to the log probability of standing at t; None unknown"
    )

    def fed_ids(self) -> tuple[int, ...]:
        """Token ids whose states the file must hold."""
        return (self.prompt_ids + self.output_ids)[:-1] if self.output_ids else self.prompt_ids


class ProbePlan(Frozen):
    """Which rows to look at, and what they must cover. About a dozen rows of different lengths are enough."""

    target: str
    layer_ids: tuple[int, ...] = Field(description="engine notation, in the order of the files; the last is L")
    rows: tuple[CapturedRow, ...]
    longest_tokens: int | None = Field(None, description="T of the longest row of the capture: one row must reach it")
    concurrent: bool = Field(True, description="the capture runs more than one request at once: one row must have too")
    reference_rows: int = Field(3, ge=1, description="how many of the shortest rows transformers computes again")
    device: str = "cpu"
    ladder: tuple[CapturedRow, ...] = Field(
        (),
        description="rows captured again with the layers next to each and both ends (`ladder_ids`), for a target "
        "that transformers does not run here; empty: it does",
    )


class ProbeCheck(Frozen):
    """One question to the capture. `sentence` holds figures and no text or token of the traffic."""

    name: str
    passed: bool
    sentence: str


class ProbeReport(Frozen):
    """The answer. A check that could not be made has not passed."""

    passed: bool
    checks: tuple[ProbeCheck, ...]
    figures: dict[str, float] = Field(default_factory=dict)


def runs_whole(weight_bytes: int, quantization: str | None, free_bytes: float) -> bool:
    """Whether transformers can be asked for the whole target here: unquantised, and small enough for the free memory."""
    return quantization is None and RUNNING * weight_bytes <= free_bytes


def ladder_ids(layer_ids: Sequence[int], depth: int) -> tuple[int, ...]:
    """Each layer with the ones next to it, and both ends."""
    wanted = {0, depth} | {near for k in layer_ids for near in (k - 1, k, k + 1)}
    return tuple(sorted(k for k in wanted if 0 <= k <= depth))


def engine_logprobs(answer: Sequence[Mapping[Any, Any] | None]) -> tuple[dict[int, float] | None, ...]:
    """vLLM's `prompt_logprobs` without its text: one {token id: log probability} for each position."""
    return tuple(
        None if entry is None else {int(token): float(value["logprob"]) for token, value in entry.items()}
        for entry in answer
    )
