"""What vLLM logs when it does not start or goes away: its own texts, before those of every engine."""

from __future__ import annotations

from draftsmith.engines.causes import Cause
from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.diagnosis import diagnose as diagnose_log

OWN: tuple[Cause, ...] = (
    (
        r"unrecognized arguments: ([^\n]+)",
        "vLLM does not know the flag {1}",
        "remove it from engine.flags, or install a vLLM that has it",
    ),
    (
        r"error: argument ([\w/ -]+): ([^\n]+)",
        "vLLM refuses the flag {1}: {2}",
        "correct its value in engine.flags",
    ),
    (
        r"per-request-spec-decode-metrics requires speculative decoding",
        "per-request metrics were asked of a server that does not speculate",
        "remove --per-request-spec-decode-metrics from engine.flags",
    ),
    (
        r"Value error, (Number of speculative tokens[^\n\[]*|num_speculative_tokens[^\n\[]*)",
        "the speculative config is not valid: {1}",
        "correct the speculative config",
    ),
    (
        r"[Ww]orld size \(?(\d+)\)? is larger than the number of available GPUs \((\d+)\)",
        "the server wants more GPUs than there are {1} {2}",
        "lower --tensor-parallel-size, or use a machine with more GPUs",
    ),
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len",
        "the context length {1} is longer than the model's own",
        "lower engine.max_model_len to the model's max_position_embeddings",
    ),
    (
        r"max_num_batched_tokens \((\d+)\) is smaller than max_model_len",
        "one pass takes fewer tokens ({1}) than a prompt may have",
        "raise --max-num-batched-tokens, or leave chunked prefill on",
    ),
    (
        r"(?:ValueError|AssertionError): [^\n]*(num_speculative_tokens must be provided|drafting layers should belong to the same kv cache group)",
        "the speculative config is not valid: {1}",
        "correct the speculative config of this arm",
    ),
)

# Where a cause of every engine fits, it explains the report better.
LAST: tuple[Cause, ...] = (
    (
        r"validation errors? for SpeculativeConfig\n([\w.]*)\n?\s*([^\n\[]{0,160})",
        "the speculative config is not valid: {1} {2}",
        "correct the speculative config of this arm",
    ),
)


def diagnose(text: str, exit_code: int | None) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running)."""
    return diagnose_log(text, exit_code, OWN, LAST)
