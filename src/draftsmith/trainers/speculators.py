"""Training through the speculators library: its data format, its model, its trainer, its checkpoints."""

from __future__ import annotations

from pathlib import Path

from draftsmith.contract.config import TrainerConfig
from draftsmith.trainers.base import Step, TrainingTask

LAUNCHER = "draftsmith.work.train_speculators"
PREPARE = "draftsmith.work.prepare_speculators"
LOG_EVERY = 5
BLOCK_METHODS = ("dflash",)


class SpeculatorsTrainer:
    """See trainers.base.Trainer."""

    def __init__(self, config: TrainerConfig, python: str) -> None:
        self.config = config
        self.python = python

    def steps(self, task: TrainingTask) -> tuple[Step, ...]:
        """Prepare the data set, then train."""
        work = Path(task.workdir)
        prepare = ("--corpus", task.corpus, "--states", task.states, "--out", str(work / "data"))
        return (
            Step(name="preparing the data set", module=PREPARE, arguments=prepare, log=str(work / "prepare.log")),
            Step(name="training", module=LAUNCHER, arguments=self.arguments(task), log=str(work / "train.log")),
        )

    def arguments(self, task: TrainingTask) -> tuple[str, ...]:
        """Command line of the launcher: its own flags, `--`, then those of `speculators train`."""
        config, work = self.config, Path(task.workdir)
        total = task.train_rows + task.validation_rows
        own = ["--metrics", str(self.metrics(task)), "--min-position0", str(config.min_position0)]
        theirs = {
            "verifier-name-or-path": task.target,
            "speculator-type": config.method,
            "data-path": str(work / "data"),
            "save-path": str(work / "checkpoints"),
            "log-dir": str(work / "logs"),
            "epochs": config.epochs,
            "lr": config.learning_rate,
            "seed": config.seed,
            "total-seq-len": task.batch_tokens(config.batch_tokens),
            # int(total * ratio) must give exactly the training rows, which come first
            "train-data-ratio": f"{(task.train_rows + 0.5) / total:.8f}",
            "loss-implementation": "eager",
            "draft-attn-impl": "sdpa",
            "num-workers": 0,
            "on-missing": "raise",
            "checkpoint-freq": 1,
            "log-freq": LOG_EVERY,
        }
        if config.method in BLOCK_METHODS:
            theirs |= {"block-size": config.ttt_steps + 1}
        else:
            theirs |= {"ttt-steps": config.ttt_steps, "draft-arch": "llama"}
        if task.warm_start:
            theirs["from-pretrained"] = task.warm_start
        flags = [part for name, value in theirs.items() for part in (f"--{name}", str(value))]
        flags += ["--target-layer-ids", *map(str, task.layer_ids)]
        if config.method not in BLOCK_METHODS:
            flags += ["--full-attention-indices", "0"]
        vocabulary = work / "vocabulary"
        flags += ["--draft-vocab-size", str(task.draft_vocab)]
        flags += ["--d2t-path", str(vocabulary / "d2t.npy"), "--t2d-path", str(vocabulary / "t2d.npy")]
        return (*own, "--", *flags)

    def metrics(self, task: TrainingTask) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "metrics.jsonl"

    def checkpoint(self, task: TrainingTask, epoch: int) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "checkpoints" / str(epoch)
