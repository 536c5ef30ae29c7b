"""What watches a training while it runs: metric records as JSON lines, and an end for a run that cannot end well.

Nothing but the standard library: every trainer's interpreter imports it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

STOPPED = 3  # exit code of a training that was stopped on purpose


class TrainingStopped(Exception):  # noqa: N818 - it is a decision, not a failure of the code
    """Training was stopped with a diagnosis."""


class Watch(logging.Handler):
    """Writes metric records as JSON lines and stops a run that cannot end well."""

    def __init__(self, path: Path, min_position0: float, grace_epochs: int) -> None:
        super().__init__()
        self.out = path.open("a", encoding="utf-8", buffering=1)
        self.min_position0 = min_position0
        self.grace_epochs = grace_epochs

    def emit(self, record: logging.LogRecord) -> None:
        """Take metric records (mappings); other messages are not ours."""
        if isinstance(record.msg, dict):
            self.write(record.msg)
            self.check(record.msg)

    def write(self, value: dict[str, Any]) -> None:
        """Append one line of plain JSON; numbers that are not finite become null."""
        line = json.loads(json.dumps(value, default=float), parse_constant=lambda _: None)
        self.out.write(json.dumps({"at_unix_s": time.time(), **line}, allow_nan=False) + "\n")

    def check(self, value: dict[str, Any]) -> None:
        """Raise TrainingStopped on a non-finite loss, or on validation acceptance near zero at position 0."""
        for part in ("train", "val"):
            for name, number in (value.get(part) or {}).items():
                if "loss" in name and not math.isfinite(number):
                    self.stop(
                        f"{part} {name} is {number}", "lower trainer.learning_rate, or look at the captured states"
                    )
        val = value.get("val")
        if val and value.get("epoch", 0) + 1 >= self.grace_epochs:
            names = (
                "full_acc_0_epoch",
                "position_0_acc_epoch",
                "position_1_acc_epoch",
            )  # the last: blocks count from 1
            first = next((val[name] for name in names if val.get(name) is not None), None)
            if first is not None and first < self.min_position0:
                self.stop(
                    f"validation acceptance at position 0 is {first:.3f} after epoch {value['epoch'] + 1}, under {self.min_position0}",
                    "suspect the wiring before the data: layer ids, vocabulary map, loss mask, token shift",
                )

    def stop(self, reason: str, hint: str) -> None:
        """Record the diagnosis and end the training."""
        self.write({"stopped": {"reason": reason, "hint": hint}})
        raise TrainingStopped(f"{reason}; {hint}")
