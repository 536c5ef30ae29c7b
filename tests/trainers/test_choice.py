"""The checkpoint is chosen by what the draft would be accepted for, whatever its loss."""

from __future__ import annotations

from typing import Any

import pytest

from draftsmith.contract.errors import TrainerError
from draftsmith.trainers.choice import best, scores


def val(epoch: int, loss: float | None, *acceptance: float) -> dict[str, Any]:
    names = {f"full_acc_{place}_epoch": value for place, value in enumerate(acceptance)}
    return {"epoch": epoch, "val": {"loss_epoch": loss, **names}}


def test_the_lowest_loss_does_not_decide() -> None:
    chosen = best(scores([val(0, 1.9, 0.60, 0.30), val(1, 1.2, 0.70, 0.45), val(2, 1.1, 0.71, 0.40)]))
    assert chosen.epoch == 1
    assert chosen.expected_al == pytest.approx(2.15)


def test_later_positions_count_as_much_as_the_first() -> None:
    assert best(scores([val(0, 1.0, 0.72, 0.40), val(1, 1.0, 0.70, 0.44)])).epoch == 1


def test_of_equals_the_earlier_is_taken_and_of_an_epoch_its_last_record() -> None:
    assert best(scores([val(0, 2.0, 0.5), val(1, 1.0, 0.5)])).epoch == 0
    assert best(scores([val(0, 2.0, 0.9), val(1, 1.0, 0.5), val(0, 2.0, 0.4)])).epoch == 1


def test_a_loss_that_was_no_number_is_no_reason_to_fail() -> None:
    assert best(scores([val(0, None, 0.5), {"epoch": 0, "train": {"loss": 1.0}}])).epoch == 0


def test_without_validation_nothing_can_be_chosen() -> None:
    with pytest.raises(TrainerError, match="no validation record"):
        best(scores([{"epoch": 0, "train": {"loss": 1.0}}]))
