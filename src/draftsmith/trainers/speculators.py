"""Training through the speculators library: its data format, its model, its trainer, its checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path

from draftsmith.contract.config import TrainerConfig
from draftsmith.trainers.base import Step, TrainingTask
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.target_config import read_config

LAUNCHER = "draftsmith.work.inside.train_speculators"
PREPARE = "draftsmith.work.inside.prepare_speculators"
LOG_EVERY = 5
BLOCK_METHODS = ("dflash",)
# What is known to train with every torch of the supported range. speculators' own defaults (flex attention, fused loss)
# go through torch.compile, which fails on the EAGLE3 forward with torch 2.11 and has nothing to run on without a GPU.
ATTENTION, LOSS = "sdpa", "eager"
ATTENTION_NAMES = {"sdpa": "sdpa", "eager": "eager", "flex": "simple_flex_attention"}
LEAST_ANCHORS, MOST_ANCHORS, ANCHOR_STEP, ANCHOR_MARGIN = 32, 512, 32, 1.25
TARGET_LAYERS_A_DRAFT_LAYER, MOST_DRAFT_LAYERS = 10, 5


def implementations(config: TrainerConfig) -> str:
    """Attention and loss that training will use, in words."""
    attention = ATTENTION if config.attention == "auto" else config.attention
    return f"{attention} attention, {LOSS if config.loss == 'auto' else config.loss} loss"


class SpeculatorsTrainer:
    """See trainers.base.Trainer."""

    def __init__(self, config: TrainerConfig, python: str) -> None:
        self.config = config
        self.python = python

    def files(self, task: TrainingTask) -> dict[str, str]:
        """See Trainer: the decoder of a new draft, by the one rule for its shape."""
        if task.warm_start:
            return {}
        block = self.config.method in BLOCK_METHODS
        shape = draft_shape(read_config(Path(task.target)))
        layer = shape.layer_config(layers=self.draft_layers(task), model_type="qwen3" if block else "llama")
        return {str(self._draft_config(task)): json.dumps(layer, indent=1)}

    def _draft_config(self, task: TrainingTask) -> Path:
        return Path(task.workdir) / "draft-config.json"

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
        if config.attention == "flex":
            own.append("--compile")
        trainer_flags = {
            "verifier-name-or-path": task.stand_in or task.target,
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
            "loss-implementation": LOSS if config.loss == "auto" else config.loss,
            "draft-attn-impl": ATTENTION if config.attention == "auto" else ATTENTION_NAMES[config.attention],
            "num-workers": 0,
            "on-missing": "raise",
            "checkpoint-freq": 1,
            "log-freq": LOG_EVERY,
        }
        block = config.method in BLOCK_METHODS
        trainer_flags |= self._block_values(task) if block else {"ttt-steps": config.ttt_steps}
        if task.warm_start:
            trainer_flags["from-pretrained"] = task.warm_start  # it brings its own layers: speculators refuses both
        flags = [part for name, value in trainer_flags.items() for part in (f"--{name}", str(value))]
        flags += ["--target-layer-ids", *map(str, task.layer_ids)]
        if not task.warm_start:
            flags += ["--draft-config", str(self._draft_config(task))]
        if not (block or task.warm_start or task.normed_residual):
            flags.append("--no-norm-before-residual")
        if self.config.method in BLOCK_METHODS and not task.warm_start:
            # All layers attend in full: the engine knows one causality for all layers of a draft.
            flags.append("--sliding-window-non-causal")
        vocabulary = work / "vocabulary"
        flags += ["--draft-vocab-size", str(task.draft_vocab)]
        flags += ["--d2t-path", str(vocabulary / "d2t.npy"), "--t2d-path", str(vocabulary / "t2d.npy")]
        return (*own, "--", *flags)

    def _block_values(self, task: TrainingTask) -> dict[str, object]:
        """A block draft's own values: how much it proposes at once, and from how many places of a batch it learns."""
        values: dict[str, object] = {"block-size": self.config.block_size, "max-anchors": self.anchors(task)}
        if task.mask_token is not None:
            values["mask-token-id"] = task.mask_token
        return values

    def shown(self, task: TrainingTask) -> str:
        """What was chosen, in words."""
        chosen = [f"{self.config.method}, {self.draft_layers(task)} draft layers"]
        if self.config.method in BLOCK_METHODS:
            chosen.append(f"blocks of {self.config.block_size}, at most {self.anchors(task)} a batch")
            chosen.append("mask token by the trainer" if task.mask_token is None else f"mask token {task.mask_token}")
        chosen.append(f"{task.batch_tokens(self.config.batch_tokens)} tokens a batch")
        return ", ".join([*chosen, implementations(self.config)])

    def draft_layers(self, task: TrainingTask) -> int:
        """Layers of the draft: as configured, else one for EAGLE3; a block draft gets a tenth of the target's, 1 to 5."""
        if self.config.draft_layers:
            return self.config.draft_layers
        if self.config.method not in BLOCK_METHODS:
            return 1
        return max(1, min(MOST_DRAFT_LAYERS, task.target_layers // TARGET_LAYERS_A_DRAFT_LAYER))

    def anchors(self, task: TrainingTask) -> int:
        """Places of a batch from which a block is predicted: about as many as a batch holds answer tokens.

        speculators computes every one of them, used or not, and takes a random choice where there are more.
        """
        share = task.answer_tokens / task.train_tokens if task.train_tokens and task.answer_tokens else 1.0
        wanted = math.ceil(ANCHOR_MARGIN * share * task.batch_tokens(self.config.batch_tokens) / ANCHOR_STEP)
        return max(LEAST_ANCHORS, min(MOST_ANCHORS, wanted * ANCHOR_STEP))

    def metrics(self, task: TrainingTask) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "metrics.jsonl"

    def checkpoint(self, task: TrainingTask, epoch: int) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "checkpoints" / str(epoch)
