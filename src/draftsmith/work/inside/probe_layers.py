"""Checks that each captured layer is the layer it is labelled as: against transformers, or against the engine's own neighbouring layers.

Where transformers can run the whole target, every state is compared with its own. Where it cannot, the engine is asked
for a ladder: the same rows with each layer's neighbours, and with both ends. The ladder's feet are known: id 0 is the row
of the embeddings, id L goes through the head. A capture that is off by a layer misses one of the ends, and one that
mixes layers up finds another rung nearer than its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from draftsmith.work.inside.ends import Ends
from draftsmith.work.inside.probe_plan import ProbeCheck

MAX_STATE_ERROR = 0.05  # relative, median over tokens
MAX_STRAY_ERROR, MAX_STRAYS = 0.15, 0.05  # share of tokens that may be further off than that
NEIGHBOUR = 0.7  # the error must be below this share of the error against the layers next to it
MIN_LIKENESS = 0.98  # cosine between id 0 and the embeddings, which some families scale


@dataclass(frozen=True)
class Beside:
    """Captured states [T, layers, H] of a row, and states [T, H] by engine id to compare them with."""

    states: Tensor
    known: Mapping[int, Tensor]


def check_layers(
    rows: Sequence[Beside], layer_ids: Sequence[int], owner: str, figures: dict[str, float]
) -> list[ProbeCheck]:
    """Every layer: close to its own id, far from the layers above and below. `whose`: who says what the states are.

    Two neighbours that are alike (a layer that passes its input through) cannot be told apart, which harms nothing.
    """
    checks = []
    for place, layer in enumerate(layer_ids):
        near = [other for other in (layer - 1, layer, layer + 1) if all(other in row.known for row in rows)]
        errors = {o: median(float(_error(row, place, o).median()) for row in rows) for o in near}
        own = [_error(row, place, layer) for row in rows]
        strays = max(float((row > MAX_STRAY_ERROR).float().mean()) for row in own)
        close = all(float(row.median()) <= MAX_STATE_ERROR for row in own) and strays <= MAX_STRAYS
        best = min(errors, key=lambda other: errors[other])
        nearest = min((value for other, value in errors.items() if other != layer), default=1.0)
        apart = errors[layer] <= NEIGHBOUR * nearest
        tie = close and not apart and nearest <= MAX_STATE_ERROR
        figures |= {
            f"layer_{layer}_error": errors[layer],
            f"layer_{layer}_nearest_other": nearest,
            f"layer_{layer}_strays": strays,
        }
        words = f"{errors[layer]:.2%} from {owner} state after {layer} layers, {nearest:.1%} from the next nearest"
        if tie:
            words += ": cannot tell the two apart, they are alike"
        elif strays > MAX_STRAYS:
            words += f", {strays:.0%} of tokens stray"
        if not tie and best != layer and errors[best] <= MAX_STATE_ERROR:
            words += f": it is layer {best}"
        checks.append(ProbeCheck(name=f"layer {layer}", passed=close and (apart or tie), sentence=words))
    return checks


def check_feet(
    ladders: Sequence[tuple[tuple[int, ...], Mapping[int, Tensor]]], ends: Ends, figures: dict[str, float]
) -> ProbeCheck:
    """The ladder begins at the embeddings: id 0 of each (token ids, states by id) has their direction."""
    cosines = []
    for ids, states in ladders:
        rows = torch.nn.functional.cosine_similarity(states[0].float(), ends.embedded(ids), dim=1)
        cosines.append(float(rows.median()))
    figures["embedding_likeness"] = min(cosines)
    return ProbeCheck(
        name="ladder",
        passed=min(cosines) >= MIN_LIKENESS,
        sentence=f"the engine's state after 0 layers has the direction of the embeddings (cosine {min(cosines):.3f})",
    )


def _error(row: Beside, place: int, other: int) -> Tensor:
    """|captured - reference| / |reference| of each token [T]."""
    captured, reference = row.states[:, place].float(), row.known[other].float()
    return (captured - reference).norm(dim=1) / reference.norm(dim=1).clamp_min(1e-9)
