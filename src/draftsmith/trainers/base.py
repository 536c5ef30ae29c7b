"""What a trainer must be able to do. All text: the job runs the steps, in the trainer's own interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import Field

from draftsmith.contract.base import Frozen

STEPS_AN_EPOCH = 64
LEAST_BATCH, LARGEST_BATCH = 512, 8192


class TrainingTask(Frozen):
    """One training. All paths are absolute; `workdir` is private."""

    target: str
    corpus: str
    states: str = Field(description="folder of captured hidden states")
    workdir: str
    layer_ids: tuple[int, ...] = Field(description="the engine's ids, without the last layer")
    draft_vocab: int
    train_rows: int
    validation_rows: int
    longest_row: int = Field(description="tokens")
    train_tokens: int
    warm_start: str | None = None

    def batch_tokens(self, wanted: int | None) -> int:
        """Packed tokens of one optimiser step: as wanted, else about 64 steps an epoch; never less than a row."""
        chosen = wanted or min(max(self.train_tokens // STEPS_AN_EPOCH, LEAST_BATCH), LARGEST_BATCH)
        return max(chosen, self.longest_row)


class Step(Frozen):
    """One subprocess: `python -m module arguments`, in the trainer's interpreter."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: str


class Trainer(Protocol):
    """Turns a task into steps, and says where its checkpoints and metrics lie."""

    def steps(self, task: TrainingTask) -> tuple[Step, ...]:
        """What to run, in order. Each step is safe to repeat."""
        ...

    def metrics(self, task: TrainingTask) -> Path:
        """JSON lines: {"train": {...}, "epoch", "global_step"} and {"val": {...}, "epoch"}."""
        ...

    def checkpoint(self, task: TrainingTask, epoch: int) -> Path:
        """Folder of one epoch's checkpoint."""
        ...
