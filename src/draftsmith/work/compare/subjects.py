"""What a comparison is about, by hashes: its held-out prompts, the rows a draft was trained on, the target's weights."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import DraftsmithError
from draftsmith.corpus.prompts import Prompt
from draftsmith.corpus.reading import iter_rows
from draftsmith.corpus.splits import TRAIN
from draftsmith.kit.files import write_atomic
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.weights import weight_files

SALT = "prompts.salt"
HASH = 16  # hex digits of a prompt's hash


def subjects(folder: Path, prompts: Sequence[Prompt], corpus: Path | None, target: Path | None) -> dict[str, Any]:
    """The plan's fields on prompts and target. `corpus`: what the draft was trained on; None = nobody knows.

    The salt stays in `folder`, private: with it a guessed prompt could be looked for in the evidence.
    """
    salt = secrets.token_hex(16)
    write_atomic(folder / SALT, salt)
    hashes = tuple(salted(prompt.prompt_token_ids or prompt.messages, salt) for prompt in prompts)
    return {
        "prompt_hashes": hashes,
        "trained_on": None if corpus is None else _trained_on(prompts, hashes, corpus, salt),
        "target_sha256": weights(target),
    }


def salted(prompt: Any, salt: str) -> str:
    """Hash of a prompt, by its token ids or else its messages: the same prompt in another comparison has another one."""
    return hashlib.sha256(f"{salt}/{canonical(prompt)}".encode()).hexdigest()[:HASH]


def weights(folder: Path | None) -> str | None:
    """Identity of a model's weights; None where they do not lie in a folder here."""
    if folder is None or not folder.is_dir() or not weight_files(folder):
        return None
    try:
        return weights_sha256(folder)
    except (OSError, ValueError, DraftsmithError):
        return None


def _trained_on(prompts: Sequence[Prompt], hashes: Sequence[str], corpus: Path, salt: str) -> int | None:
    """How many prompts are those of a training row. None if prompts and rows cannot be set side by side."""
    if any(prompt.prompt_token_ids is None for prompt in prompts):
        return None
    trained = {salted(row.input_ids[: row.prompt_tokens].tolist(), salt) for row in iter_rows(corpus, TRAIN)}
    return sum(row_hash in trained for row_hash in hashes)
