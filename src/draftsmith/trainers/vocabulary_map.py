"""The map between a draft's small vocabulary and the target's: target id = i + d2t[i], t2d marks the ids held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_folder import Draft
from draftsmith.trainers.weights import read_array

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class VocabularyMap:
    """offsets [draft] int64; marks [vocabulary] bool, or None where the draft keeps no t2d."""

    offsets: np.ndarray
    marks: np.ndarray | None

    def ids(self) -> np.ndarray:
        """Target id of each draft id."""
        import numpy as np

        return np.asarray(np.arange(len(self.offsets), dtype=np.int64) + self.offsets)

    def sha256(self) -> str:
        """Of the target ids as little-endian int64: the identity of a draft vocabulary."""
        return hashlib.sha256(self.ids().astype("<i8").tobytes()).hexdigest()

    def problem(self, vocab_size: int) -> str | None:
        """What is wrong, in one sentence, or None."""
        import numpy as np

        offsets, ids = self.offsets, self.ids()
        if len(offsets) > 1 and (np.diff(offsets) == 1).all():
            return "d2t counts up by one at every step: it was filled by position, not with offsets"
        if not offsets.any():
            return (
                f"d2t is all zeros: it maps to the first {len(offsets)} tokens of the vocabulary, so was never filled"
            )
        held = None if self.marks is None else np.flatnonzero(self.marks)
        if held is not None and len(held) == len(offsets) and (held == offsets).all():
            return "d2t holds target ids where offsets are expected (target id = i + d2t[i])"
        if ids.min() < 0 or ids.max() >= vocab_size:
            return (
                f"d2t leads to token {int(ids.max() if ids.max() >= vocab_size else ids.min())}, outside the vocabulary"
            )
        if len(np.unique(ids)) != len(ids):
            return "d2t leads to the same token twice"
        if held is not None and (len(held) != len(ids) or (held != ids).any()):
            return "t2d and d2t name different tokens"
        return None


def read_map(draft: Draft) -> VocabularyMap:
    """The maps of a draft that has a d2t. Raises InputError if they are not integers and flags."""
    import numpy as np

    offsets = read_array(draft.tensors["d2t"]).reshape(-1)
    if offsets.dtype.kind == "f" and (offsets != np.rint(offsets)).any():
        raise InputError("d2t holds fractions: it is no map of offsets", "export the draft again")
    offsets = offsets.astype(np.int64)
    marks = draft.tensors.get("t2d")
    return VocabularyMap(offsets, None if marks is None else read_array(marks).reshape(-1).astype(bool))
