"""The target's tokenizer, for checks alone: rows always keep the engine's own ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError

COMPARED_CHARACTERS = 200


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

        The text may be shorter than the ids: the API layer takes out stop strings, thinking and tool calls.
        """
        if not record.completion or not record.output_token_ids:
            return None
        said = _squeezed(record.completion.split("\ufffd")[0])[:COMPARED_CHARACTERS]
        return said in _squeezed(self.text(record.output_token_ids))


def _squeezed(text: str) -> str:
    return "".join(text.split())
