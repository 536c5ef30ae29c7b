"""The target's tokenizer, for checks alone: rows always keep the engine's own ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.traffic.agreement import agrees


class TargetTokens:
    """Loads tokenizer.json (a file, or the folder that holds it).

    Raises InputError if it is missing, unreadable, or has ids that the target does not know.
    """

    def __init__(self, path: Path, target: TargetFacts) -> None:
        from tokenizers import Tokenizer

        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
            added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens", [])
        except Exception as error:  # the tokenizers library raises bare Exception
            raise InputError(
                f"{file.name} of the target cannot be read: {type(error).__name__}",
                "point to the folder of the served model; it must hold tokenizer.json",
            ) from None
        self.specials = frozenset(int(token["id"]) for token in added if token.get("special"))
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if highest >= target.vocab_size:
            raise InputError(
                f"the tokenizer has ids up to {highest}, the target's vocabulary ends at {target.vocab_size - 1}",
                "use the tokenizer of the served model itself",
            )

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def made_here(self, record: AccessRecord) -> bool | None:
        """Whether the logged answer text and the logged answer ids agree under this tokenizer; None if one is missing.

        What the API layer does to an answer (reasoning and calls parsed, stop strings cut) is no disagreement.
        """
        parts = record.answer.model_dump() if record.answer else None
        return agrees(record.completion, parts, record.output_token_ids, self._decode)

    def _decode(self, ids: Sequence[int], leave_out_special: bool) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=leave_out_special))
