"""A training that cannot end well is ended early, with a diagnosis, and its records stay readable."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from draftsmith.work.inside.training_watch import TrainingStopped, Watch


def records(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_bytes().split(b"\n") if line]


def tell(watch: Watch, record: object) -> None:
    watch.emit(logging.LogRecord("metrics", logging.INFO, "x.py", 1, record, None, None))


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def watch(metrics: Path) -> Iterator[Watch]:
    made = Watch(metrics, min_position0=0.15, grace_epochs=2)
    yield made
    made.out.close()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_loss_that_is_no_number_stops_it(part: str, loss: float, watch: Watch, metrics: Path) -> None:
    tell(watch, {"epoch": 0, "global_step": 1, "train": {"loss": 2.5, "full_acc_0": 0.4}})
    with pytest.raises(TrainingStopped, match="learning_rate"):
        tell(watch, {"epoch": 0, "global_step": 2, part: {"loss_epoch" if part == "val" else "loss": loss}})
    first, second, last = records(metrics)
    assert first["train"]["loss"] == 2.5
    assert list(second[part].values()) == [None]
    assert part in last["stopped"]["reason"]
    assert "captured states" in last["stopped"]["hint"]


@pytest.mark.parametrize("name", ["full_acc_0_epoch", "position_0_acc_epoch", "position_1_acc_epoch"])
def test_an_acceptance_near_zero_stops_it_after_the_grace(name: str, watch: Watch, metrics: Path) -> None:
    tell(watch, {"epoch": 0, "val": {"loss_epoch": 3.0, name: 0.02}})
    with pytest.raises(TrainingStopped, match="suspect the wiring"):
        tell(watch, {"epoch": 1, "val": {"loss_epoch": 2.0, name: 0.03}})
    assert records(metrics)[-1]["stopped"]["reason"].startswith(
        "validation acceptance at position 0 is 0.030 after epoch 2"
    )


def test_a_training_that_learns_goes_on_and_other_messages_are_not_its_records(watch: Watch, metrics: Path) -> None:
    tell(watch, "a sentence of the trainer")
    for epoch in range(4):
        tell(watch, {"epoch": epoch, "val": {"loss_epoch": 2.0, "full_acc_0_epoch": 0.5}})
    assert [line["epoch"] for line in records(metrics)] == [0, 1, 2, 3]
