"""What SGLang logs when it does not start or goes away: its own texts, before those of every engine."""

from __future__ import annotations

from draftsmith.engines.causes import Cause
from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.diagnosis import diagnose as diagnose_log

OWN: tuple[Cause, ...] = (
    (
        r"unrecognized arguments: ([^\n]+)",
        "SGLang does not know the flag {1}",
        "remove it from engine.flags, or install an SGLang that has it",
    ),
    (
        r"error: argument ([\w/ -]+): ([^\n]+)",
        "SGLang refuses the flag {1}: {2}",
        "correct its value in engine.flags",
    ),
    (
        r"Not enough memory\. Please try to (?:in|de)crease --mem-fraction-static",
        "there is too little memory for the KV cache",
        "raise engine.gpu_memory_share (SGLang's --mem-fraction-static), or lower engine.max_num_seqs",
    ),
    (
        r"speculative_eagle_topk > 1[^\n]*(?:only supported|unstable)[^\n]*",
        "this attention backend cannot verify a tree of drafts",
        "use eagle_topk = 1, or another --attention-backend",
    ),
)


def diagnose(text: str, exit_code: int | None) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running)."""
    return diagnose_log(text, exit_code, OWN)
