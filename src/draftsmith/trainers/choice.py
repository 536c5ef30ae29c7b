"""Choosing the checkpoint: by acceptance on validation rows, never by loss. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import TrainerError


class EpochScore(Frozen):
    """Validation of one epoch. `acceptance` per position: share of rows whose first tokens up to it were all right."""

    epoch: int
    loss: float
    acceptance: tuple[float, ...]
    expected_al: float = Field(description="1 + the sum of `acceptance`: tokens a verified step, bonus included")


def scores(records: Iterable[Mapping[str, Any]]) -> list[EpochScore]:
    """Validation scores by epoch, the last record of each; a resumed run may have written one twice."""
    by_epoch: dict[int, EpochScore] = {}
    for record in records:
        val = record.get("val")
        if not val:
            continue
        acceptance = _acceptance(val)
        counted = val.get("eal_epoch")  # of whole blocks: a product of shares by position understates it
        by_epoch[int(record["epoch"])] = EpochScore(
            epoch=int(record["epoch"]),
            loss=math.nan if (loss := val.get("loss_epoch")) is None else float(loss),
            acceptance=acceptance,
            expected_al=1 + sum(acceptance) if counted is None else float(counted),
        )
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def best(scores: Iterable[EpochScore]) -> EpochScore:
    """The epoch with the highest expected AL; the earlier one on a tie. Raises TrainerError without validation."""
    ranked = sorted(scores, key=lambda score: (-score.expected_al, score.epoch))
    if not ranked:
        raise TrainerError("training left no validation record", "see train.log of the train job")
    return ranked[0]


def _acceptance(val: Mapping[str, float]) -> tuple[float, ...]:
    """`full_acc_k` (EAGLE3: already cumulative), or the product of `position_k_acc` (block drafts, whose first is 1)."""
    cumulative: list[float] = []
    while (value := val.get(f"full_acc_{len(cumulative)}_epoch")) is not None:
        cumulative.append(float(value))
    if cumulative:
        return tuple(cumulative)
    product, single = 1.0, []
    position = 1 if "position_1_acc_epoch" in val and "position_0_acc_epoch" not in val else 0
    while (value := val.get(f"position_{position}_acc_epoch")) is not None:
        product *= float(value)
        single.append(product)
        position += 1
    return tuple(single)
