"""Names in samples.jsonl, which is handed on: keyed hashes, the key stays in the folder of the comparison.

A client may choose the id of a request, and the hash of a short answer tells it to whoever tries all short answers.
Within one comparison the same name stays the same, which is all that pairing and divergence ask for.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from draftsmith.contract.measure import RequestSample, Trial
from draftsmith.kit.files import write_atomic

FILE = "veil.key"  # private, never in a bundle; purged with the rest
NAME_BYTES = 8


def new_key(folder: Path) -> bytes:
    """A secret of this comparison, kept for when it is continued."""
    key = secrets.token_bytes(32)
    write_atomic(folder / FILE, key.hex())
    return key


def read_key(folder: Path) -> bytes | None:
    """The secret; None for a comparison that was begun without one, whose names stay as they are."""
    path = folder / FILE
    return bytes.fromhex(path.read_text()) if path.is_file() else None


def veiled(trial: Trial, key: bytes) -> Trial:
    """The trial with keyed names of its prompts and of its answers."""
    return trial.model_copy(update={"samples": tuple(_veiled(sample, key) for sample in trial.samples)})


def _veiled(sample: RequestSample, key: bytes) -> RequestSample:
    answer = sample.output_sha256
    return sample.model_copy(
        update={
            "prompt_id": _name(sample.prompt_id, key, b"prompt"),
            "output_sha256": answer and _name(answer, key, b"answer"),
        }
    )


def _name(text: str, key: bytes, of: bytes) -> str:
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), key=key, person=of, digest_size=NAME_BYTES
    ).hexdigest()
