"""Which layers of the target a draft reads, in two notations.

Engine notation (vLLM, speculators, everything stored by Draftsmith): id k is the residual stream after k layers, which
is the input of layer k; id 0 is the embeddings, id L the stream before the final norm.
SpecForge notation: id k is the output of layer k, that is engine id k + 1. The defaults of the two are the same layers:
(2, L//2, L-3) and (1, L//2-1, L-4).
"""

from __future__ import annotations

from collections.abc import Iterable

from draftsmith.contract.errors import InputError

MIN_LAYERS = 7  # below this (2, L//2, L-3) are not three rising ids


def default_layers(num_layers: int) -> tuple[int, int, int]:
    """(2, L//2, L-3) in engine notation. Raises InputError for a target with fewer than seven layers."""
    if num_layers < MIN_LAYERS:
        raise InputError(
            f"a target of {num_layers} layers has no default layers for a draft to read",
            "name three layers in trainer.layers",
        )
    return (2, num_layers // 2, num_layers - 3)


def to_specforge(ids: Iterable[int]) -> tuple[int, ...]:
    """Engine ids in SpecForge notation. Raises InputError for id 0 (the embeddings), which SpecForge cannot name."""
    ids = tuple(ids)
    if any(layer < 1 for layer in ids):
        raise InputError("SpecForge cannot read the embeddings (layer id 0)", "choose layer ids of at least 1")
    return tuple(layer - 1 for layer in ids)


def stored(ids: Iterable[int]) -> tuple[int, ...]:
    """Ids as they are kept: sorted and unique, which is the order the engine concatenates them in."""
    return tuple(sorted(set(ids)))
