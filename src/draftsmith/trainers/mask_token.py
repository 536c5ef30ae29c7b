"""Which token of the vocabulary a block draft reads where it has to fill in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def choose_mask(
    specials: Collection[int], counts: Mapping[str, NDArray[np.int64]], config: Mapping[str, Any]
) -> int | None:
    """The first special token that no row of the corpus holds and that begins, ends or pads nothing; None if there is none.

    `counts` [vocabulary] by name, `config` is the target's config.json. The trainer's own choice, where a tokenizer has no
    mask token, is the padding or end token, which the target does produce: then one input would mean two things.
    """
    taken = set()
    for key in ENDS:
        value = config.get(key)
        taken |= set(value) if isinstance(value, list) else {value}
    used = sum(counts.values())
    return next((token for token in sorted(specials) if token not in taken and not np.asarray(used)[token]), None)
