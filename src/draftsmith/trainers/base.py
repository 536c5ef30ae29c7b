"""What a trainer must be able to do. All text: the job runs the steps, in the trainer's own interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import Field

from draftsmith.contract.base import Frozen

STEPS_AN_EPOCH = 64
LEAST_BATCH, LARGEST_BATCH = 512, 8192
MEMORY_SHARE = 0.4  # of the accelerator's free memory, for what grows with the batch
LOGIT_COPIES = 6  # float32 logits alive at once for a predicted token: draft, target, softmax of both, their gradients


class TrainingTask(Frozen):
    """One training. All paths are absolute; `workdir` is private."""

    target: str
    stand_in: str | None = Field(
        None, description="folder that a trainer reads in place of the target, see stand_in.py"
    )
    corpus: str
    states: str = Field(description="folder of captured hidden states")
    workdir: str
    layer_ids: tuple[int, ...] = Field(description="the engine's ids, without the last layer")
    draft_vocab: int
    train_rows: int
    validation_rows: int
    longest_row: int = Field(description="tokens")
    train_tokens: int
    answer_tokens: int = Field(0, description="of `train_tokens`; 0 = not known")
    target_layers: int = Field(0, description="decoder layers of the target; 0 = not known")
    mask_token: int | None = Field(None, description="token that stands for what a block draft has to fill in")
    normed_residual: bool = Field(True, description="eagle3: carry the features on normalised (norm_before_residual)")
    warm_start: str | None = None
    free_gib: float | None = Field(None, description="free memory of the accelerator; None on a CPU or where unknown")
    predicted_a_token: int = Field(3, description="predictions that training makes at once for one token of the batch")

    def batch_tokens(self, wanted: int | None) -> int:
        """Packed tokens of one optimiser step: as wanted, else about 64 steps an epoch; never less than a row."""
        chosen = wanted or min(max(self.train_tokens // STEPS_AN_EPOCH, LEAST_BATCH), self.largest_batch())
        return max(chosen, self.longest_row)

    def largest_batch(self) -> int:
        """Maximum packed tokens per batch: 8192, or fewer if their logits would not fit the accelerator's free memory."""
        if self.free_gib is None:
            return LARGEST_BATCH
        each = 4 * LOGIT_COPIES * self.predicted_a_token * self.draft_vocab
        return max(LEAST_BATCH, min(LARGEST_BATCH, int(MEMORY_SHARE * self.free_gib * 2**30 / each)))


class Step(Frozen):
    """One subprocess: `python -m module arguments`, in the trainer's interpreter."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: str


class Trainer(Protocol):
    """Turns a task into steps, and says where its checkpoints and metrics lie."""

    def files(self, task: TrainingTask) -> dict[str, str]:
        """Text files that the steps read, by absolute path. Raises PrerequisiteError, InputError if it cannot train."""
        ...

    def steps(self, task: TrainingTask) -> tuple[Step, ...]:
        """What to run, in order. Each step is safe to repeat."""
        ...

    def shown(self, task: TrainingTask) -> str:
        """What was chosen, in words."""
        ...

    def metrics(self, task: TrainingTask) -> Path:
        """JSON lines: {"train": {...}, "epoch", "global_step"} and {"val": {...}, "epoch"}."""
        ...

    def checkpoint(self, task: TrainingTask, epoch: int) -> Path:
        """Folder of one epoch's checkpoint."""
        ...
