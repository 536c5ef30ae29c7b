"""A draft's weights replaced in a running SGLang, from 0.5.22 on: the draft alone, by tensors that are sent by value.

Its worker copies the vocabulary map when it starts, and shares the embeddings with the target: what differs in either needs
another server. `/update_weights_from_disk` and `_from_ipc` load what they are given into the target too, and are not used.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import draftsmith
from draftsmith.contract.errors import EngineError
from draftsmith.kit.files import sha256_file

SENDER = Path(draftsmith.__file__).resolve().parent / "work" / "inside" / "sglang_draft.py"
FIRST = (0, 5, 22)
TIMEOUT_S = 600.0
KEPT = ("embed_tokens", "d2t", "t2d")  # what the server does not take from a new draft
WEIGHTS = "model.safetensors"
NEXT_STEP = "a new draft gets a server of its own beside the old one"


def replace(url: str, old: Path, new: Path, python: str | None, ranks: int) -> dict[str, Any]:
    """Put the weights of `new` in the place of those of `old`. Returns what was sent, and the server's checksums around it.

    Raises EngineError if the drafts differ in what stays, the server refused, or its checksums do not show the change.
    """
    for name in sorted(set(kept(old)) | set(kept(new))):
        if kept(old).get(name) != kept(new).get(name):
            raise EngineError(f"the drafts differ in {name}, which a running SGLang keeps", NEXT_STEP)
    words = [python or sys.executable, "-P", str(SENDER), url, str(new), str(ranks)]
    try:
        sent = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        report: dict[str, Any] = json.loads(sent.stdout.splitlines()[-1]) if sent.returncode == 0 else {}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise EngineError(f"the draft could not be sent ({type(error).__name__})", "see the server's log") from None
    if not report:
        reason = (sent.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise EngineError(f"the engine refused the swap: {reason}", "see its log")
    _prove(report, same=sha256_file(old / WEIGHTS) == sha256_file(new / WEIGHTS))
    return report


def kept(draft: Path) -> dict[str, bytes]:
    """The tensors of a draft that a running server keeps, as bytes. Raises EngineError if the file cannot be read."""
    try:
        with (draft / WEIGHTS).open("rb") as source:
            (size,) = struct.unpack("<Q", source.read(8))
            header: dict[str, Any] = json.loads(source.read(size))
            kept_tensors = {}
            for name, tensor in header.items():
                if any(part in name for part in KEPT):
                    start, end = tensor["data_offsets"]
                    source.seek(8 + size + start)
                    kept_tensors[name] = source.read(end - start)
            return kept_tensors
    except (OSError, ValueError, LookupError, struct.error):
        raise EngineError(f"the weights of {draft.name} cannot be read", "export the draft again") from None


def _prove(report: dict[str, Any], *, same: bool) -> None:
    """The target is untouched, and the draft has changed if the file has."""
    before, after = report.get("before") or {}, report.get("after") or {}
    if not before.get("target") or before.get("target") != after.get("target"):
        raise EngineError("after the swap the target's weights are not what they were", "restart the engine")
    if not after.get("draft") or (before.get("draft") == after.get("draft")) is not same:
        raise EngineError("after the swap the draft's weights are not those that were sent", "restart the engine")
